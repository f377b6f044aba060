"""Answer `/metrics`, `/healthz` and `/readyz` of the ingest process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog
from prometheus_client import REGISTRY
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from flowmaps.errors import ConfigurationError, FlowMapsError

_log = structlog.get_logger(__name__)
STUCK_SECONDS = 60.0
Check = Callable[[], None]


@dataclass(slots=True)
class Health:
    """What the consuming thread last said of itself; alive while it says something at least once a minute."""

    clock: Callable[[], float] = time.monotonic
    checks: dict[str, Check] = field(default_factory=dict)
    _beat: float | None = None
    _started: float = 0.0
    _assigned: int = 0
    _problems: Mapping[str, str] = field(default_factory=dict)
    _state: str = "starting"

    def starting(self) -> None:
        """Say that the process waits for what it needs to begin with."""
        self._beat = self.clock()

    def beat(self, *, assigned: int, problems: Mapping[str, str]) -> None:
        self._beat, self._assigned, self._problems, self._state = self.clock(), assigned, problems, "consuming"

    def stopped(self) -> None:
        self._state, self._beat = "stopped", None

    def alive(self) -> tuple[bool, dict[str, object]]:
        """Return whether the loop turns, and what to say about it."""
        age = None if self._beat is None else self.clock() - self._beat
        return age is not None and age < STUCK_SECONDS, {"state": self._state, "seconds_since_loop": age}

    def ready(self) -> tuple[bool, dict[str, object]]:
        """Return whether the loop turns and all it needs answers; topics that wait are named, and do not count."""
        alive, answer = self.alive()
        failed = {name: problem for name, check in self.checks.items() if (problem := _problem(check))}
        answer |= {"assigned_partitions": self._assigned, "waiting_topics": dict(self._problems), "failed": failed}
        return alive and self._state == "consuming" and not failed, answer


def _problem(check: Check) -> str:
    try:
        check()
    except FlowMapsError as error:
        return error.message
    return ""


@contextmanager
def health_server(health: Health, host: str, port: int) -> Iterator[int]:
    """Serve until the end of the block and yield the port; raise `ConfigurationError` where it is taken."""
    handler = type("_BoundHandler", (_Handler,), {"health": health})
    try:
        server = ThreadingHTTPServer((host, port), handler)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}", names=("FLOWMAPS_INGEST_METRICS_PORT",)
        ) from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    health: Health
    timeout = 10

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(REGISTRY))
        elif path in {"/healthz", "/readyz"}:
            good, said = self.health.alive() if path == "/healthz" else self.health.ready()
            self._answer(200 if good else 503, "application/json", json.dumps(said).encode())
        else:
            self._answer(404, "application/json", b'{"error": "no such page"}')

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        _log.debug("request", line=format % args)
