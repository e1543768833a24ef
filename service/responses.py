"""What routes answer with when all is well: contract models as JSON."""

from pydantic import BaseModel
from starlette.responses import Response

JSON = "application/json"
# For what may be another answer when it is next asked for.
NO_STORE = {"Cache-Control": "no-store"}
# Seconds after which asking for a job again makes sense.
POLL_AFTER = 1


def json_response(
    model: BaseModel | str | bytes, headers: dict[str, str], status: int = 200
) -> Response:
    """A model of the contract, or its JSON where it was made before, as a response."""
    body = model.model_dump_json() if isinstance(model, BaseModel) else model
    return Response(body, status, headers, JSON)
