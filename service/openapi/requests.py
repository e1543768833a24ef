"""What the OpenAPI document says of what a request may carry: parameters, headers, bodies."""

from schemas.names import Status
from service.openapi.parts import REFERENCE, Json, parameter, request_header

# How many jobs a page holds if nothing is said, and at most.
PAGE, LARGEST_PAGE = 20, 100

JOB_BODY: Json = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": REFERENCE.format(model="JobRequest")},
            "examples": {
                "smallest": {"value": {"texts": ["apple 3 river 7 stone 1 river"]}},
                "told when it has ended": {
                    "value": {
                        "texts": ["apple 3 river 7 stone 1 river"],
                        "webhook": {
                            "url": "https://example.org/mambascope",
                            "secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3",
                        },
                        "metadata": {"run": "17"},
                        "reuse": False,
                    }
                },
                "neurons and experiments": {
                    "value": {
                        "texts": ["apple 3 river 7 stone 1 river", "river 7 apple 3 house 2 river"],
                        "attention": None,
                        "neurons": {"attribution": True},
                        "knowledge_neurons": {
                            "facts": [{"prompt": "apple 3 river 7 stone 1 river", "answer": " 7"}]
                        },
                        "perturbation": {
                            "sets": [{"found_by": "knowledge_neurons"}],
                            "interventions": [{"kind": "zero"}],
                        },
                    }
                },
                "with a target": {
                    "value": {
                        "texts": ["apple 3 river 7 stone 1 river"],
                        "layers": "all",
                        "target": {"token": "7", "contrast": "3"},
                        "attention": {"methods": ["contribution"]},
                    }
                },
            },
        }
    },
}


ONCE_PARAMETER = request_header(
    "Idempotency-Key",
    "Yours, new for each request: sent again with the same request, it gives the same job",
    {"minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
)
LIST_PARAMETERS = [
    parameter("status", "Only jobs that stand so", {"type": "string", "enum": list(Status)}),
    parameter("model", "Only jobs that name this model", {"type": "string", "minLength": 1}),
    parameter("cursor", "`next_cursor` of the page before", {"type": "string", "minLength": 1}),
    parameter(
        "limit",
        "How many at most",
        {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE},
    ),
]
CONDITIONS: Json = {
    "parameters": [
        request_header("Range", "One span of bytes, as in `bytes=0-499`; several get the whole"),
        request_header(
            "If-Range", "The strong `ETag` of what is held already; else the whole comes"
        ),
        request_header("If-None-Match", "`ETag`s of what is held already: 304"),
        request_header("If-Match", "`ETag`s of which one is wanted: else 412"),
    ]
}

WAIT_PARAMETERS = [
    parameter(
        "wait",
        "Seconds to wait for the job to end or to stand otherwise; more than MAMBASCOPE_MAX_WAIT, "
        "60 unless it is set, count as that",
        {"type": "number", "minimum": 0, "default": 0},
    ),
    request_header("If-None-Match", "The `ETag` you have"),
]
LAST_EVENT_PARAMETER = request_header(
    "Last-Event-ID",
    "The `id` of the last event you have; 0 for all that are kept",
    {"pattern": "^([0-9]{1,19}(-[0-9]{1,19})?)?$"},
)
