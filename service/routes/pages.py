"""Pages for people."""

from importlib.resources import files

from fastapi import Response
from fastapi.responses import HTMLResponse, RedirectResponse

from service.routes import new_router

DOCS = "/docs"

# The page is one file and asks for nothing but the OpenAPI document of this very service.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
)


_PAGE = files("service").joinpath("docs.html").read_text(encoding="utf-8")

router = new_router(include_in_schema=False)


@router.get("/")
async def root() -> Response:
    """Lead a browser to the documentation."""
    return RedirectResponse(DOCS)


@router.get(DOCS)
async def docs() -> Response:
    """The OpenAPI document, readable; works offline."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})
