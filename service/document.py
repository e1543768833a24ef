"""`python -m service.document` prints the OpenAPI document: what docs/openapi.json holds."""

import json

from schemas.settings import Settings
from service.app import create_app


def document() -> str:
    """The document as JSON; it depends on no setting, and no store is asked."""
    return json.dumps(create_app(Settings()).openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(document(), end="")
