"""Put the application together: routes, lifespan, errors, metrics."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import TypedDict

import structlog
from fastapi import FastAPI
from prometheus_client import Histogram, start_http_server
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowmaps import __version__
from flowmaps.api import routes_maps, routes_named, routes_system, routes_tiles
from flowmaps.api.answers import error_answer, json_answer
from flowmaps.api.auth import TokenVerifier
from flowmaps.api.state import State
from flowmaps.errors import FlowMapsError
from flowmaps.maps import open_services
from flowmaps.render.formats import FORMATS
from flowmaps.settings import Settings, load_settings
from flowmaps.telemetry import configure_logs

_LATENCY = Histogram(
    "http_request_latency_seconds",
    "Time from a request to its answer.",
    ["method", "status", "path", "format"],
    buckets=(0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 5),
)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"))
_FORMATS = frozenset({*FORMATS, "static"})
_log = structlog.get_logger()


class _Lifespan(TypedDict):
    flowmaps: State


def create() -> FastAPI:
    """Return the application of this process's settings; for the server's command line."""
    settings = load_settings()
    configure_logs(settings.log)
    return create_app(settings)


def create_app(settings: Settings) -> FastAPI:
    """Return the application; what it needs is opened when it starts and closed when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[_Lifespan]:
        async with AsyncExitStack() as stack:
            server, thread = start_http_server(settings.serve.metrics_port, settings.serve.metrics_host)
            stack.callback(thread.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            services = await stack.enter_async_context(open_services(settings))
            verifier = await stack.enter_async_context(TokenVerifier(settings.oidc))
            _log.info("serving", version=__version__, metrics_port=server.server_port)
            yield {"flowmaps": State(services, verifier)}

    app = FastAPI(
        title="Flow Maps",
        version=__version__,
        summary="Maps of datapoints: create a map, get its tiles.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_tags=[{"name": name} for name in ("maps", "named maps", "tiles", "features", "images", "system")],
        redirect_slashes=False,
    )
    app.include_router(routes_system.router)
    app.include_router(routes_maps.router)
    app.include_router(routes_tiles.router)
    app.include_router(routes_named.router)
    _add_errors(app)
    if settings.serve.viewer:
        _add_viewer(app, settings)
    _describe_security(app)
    app.add_middleware(_OneSlash)
    app.add_middleware(_Measured)
    return app


class _OneSlash:
    """Takes one slash from the end of a map's address, which the first servers tolerated."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and path.startswith("/layergroup/") and path.endswith("/"):
            scope = {**scope, "path": path[:-1]}
        await self._app(scope, receive, send)


def _add_errors(app: FastAPI) -> None:
    async def ours(request: Request, error: Exception) -> Response:
        if not isinstance(error, FlowMapsError):
            raise error
        return error_answer(request, error)

    async def theirs(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        return _plain_error(request, str(error.detail), error.status_code, dict(error.headers or {}))

    async def defect(request: Request, error: Exception) -> Response:
        # The boundary: what nobody foresaw is logged here, once, with its traceback.
        _log.error("defect", path=request.url.path, exc_info=error)
        return _plain_error(request, "internal error", 500, {})

    app.add_exception_handler(FlowMapsError, ours)
    app.add_exception_handler(HTTPException, theirs)
    app.add_exception_handler(Exception, defect)


def _plain_error(request: Request, message: str, status: int, headers: dict[str, str]) -> Response:
    document = {"errors": [message], "errors_with_context": [{"type": "unknown", "message": message}]}
    return json_answer(request, document, status=status, headers=headers)


class _Measured:
    """Observes each request's time. Plain ASGI, as the next one: FastAPI's decorator costs as much as a small tile."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        # Made here, so that what a route notes in it is seen.
        scope.setdefault("state", {})
        try:
            await self._app(scope, receive, note_status)
        finally:
            tile_format = scope["state"].get("tile_format", "")
            _LATENCY.labels(
                method=scope["method"] if scope["method"] in _METHODS else "other",
                status=str(status),
                path=_path_label(scope["path"], tile_format),
                format=tile_format if tile_format in _FORMATS else "other" if tile_format else "",
            ).observe(time.perf_counter() - started)


def _path_label(path: str, tile_format: str) -> str:
    """Return one of few values, so that an address cannot make new time series."""
    if path == "/create-map":
        return "create"
    if tile_format:
        return "static" if tile_format == "static" else "tile"
    if path.startswith("/layergroup/"):
        return "layergroup"
    if path.startswith("/named/"):
        return "named"
    if path.startswith("/viewer"):
        return "viewer"
    return path if path in ("/healthz", "/readyz", "/version", "/openapi.json") else "other"


def _add_viewer(app: FastAPI, settings: Settings) -> None:
    folder = Path(str(resources.files("flowmaps") / "viewer" / "static"))

    @app.get("/viewer", include_in_schema=False)
    async def viewer() -> Response:
        return RedirectResponse("/viewer/")

    app.add_middleware(_ProtectedViewer, policy=routes_system.viewer_policy(settings))
    app.mount("/viewer", StaticFiles(directory=folder, html=True), name="viewer")


class _ProtectedViewer:
    """Adds to the viewer's answers what browsers need to keep it apart."""

    def __init__(self, app: ASGIApp, policy: str) -> None:
        self._app = app
        self._headers = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/viewer"):
            await self._app(scope, receive, send)
            return

        async def add_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, add_headers)


def _describe_security(app: FastAPI) -> None:
    describe = app.openapi

    def openapi() -> dict[str, object]:
        document = describe()
        components = document.setdefault("components", {})
        components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend its description
