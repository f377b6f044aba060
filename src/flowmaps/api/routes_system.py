"""Routes about the server itself: health, version, and the viewer's configuration."""

from __future__ import annotations

from importlib import metadata
from urllib.parse import urlsplit

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from flowmaps import __version__
from flowmaps.api.state import state_of
from flowmaps.errors import TemporaryError
from flowmaps.settings import Settings

router = APIRouter(tags=["system"])
_PARTS = ("mapnik", "psycopg", "starlette", "fastapi", "granian", "postgast", "joserfc")


@router.get("/healthz", summary="Is the process alive?", response_class=PlainTextResponse)
async def health() -> Response:
    """Answer 200 as long as the process answers at all."""
    return PlainTextResponse("ok\n")


@router.get("/readyz", summary="Do the dependencies answer?", responses={503: {"description": "One does not answer."}})
async def ready(request: Request) -> Response:
    """Answer 200 when the master database and the store of maps answer, else 503 with what is missing."""
    services = state_of(request).services
    checks: dict[str, str] = {}
    for name, check in (("database", services.tenants.ready), ("maps", services.store.ready)):
        try:
            await check()
        except TemporaryError as error:
            checks[name] = error.message
        else:
            checks[name] = "ok"
    is_ready = all(state == "ok" for state in checks.values())
    return JSONResponse(
        {"status": "ok" if is_ready else "unavailable", "checks": checks},
        status_code=200 if is_ready else 503,
        headers={} if is_ready else {"Retry-After": "5"},
    )


@router.get("/version", summary="Versions of the parts")
async def version() -> Response:
    """Return the version of Flow Maps and of the libraries that matter to maps."""
    return JSONResponse({"flow-maps": __version__, **{part: metadata.version(part) for part in _PARTS}})


@router.get("/viewer/config.json", summary="What the viewer page offers", include_in_schema=False)
async def viewer_config(request: Request) -> Response:
    """Return the public settings of the viewer page."""
    viewer = state_of(request).services.settings.viewer
    document = {"topics": list(viewer.topics), "token_url": viewer.token_url, "client_id": viewer.client_id}
    return JSONResponse(document, headers={"Cache-Control": "no-cache"})


def viewer_policy(settings: Settings) -> str:
    """Return the Content-Security-Policy of the viewer page: nothing but this server, and the token endpoint."""
    token = urlsplit(settings.viewer.token_url)
    origin = f" {token.scheme}://{token.netloc}" if token.netloc else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; worker-src 'self' blob:; "
        f"font-src 'self'; connect-src 'self'{origin}; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
