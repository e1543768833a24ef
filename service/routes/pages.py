"""Pages for people."""

from importlib.resources import files

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse, RedirectResponse

DOCS = "/docs"

# The page is one file and asks for nothing but the OpenAPI document of this very service.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
)


def add_routes(app: FastAPI) -> None:
    """Add the pages to the application."""
    page = files("service").joinpath("docs.html").read_text(encoding="utf-8")

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        """Lead a browser to the documentation."""
        return RedirectResponse(DOCS)

    @app.get(DOCS, include_in_schema=False)
    async def docs() -> Response:
        """The OpenAPI document, readable; works offline."""
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})
