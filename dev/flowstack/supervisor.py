"""Hold the whole stack: start every service, `ingest`, `serve` and nginx, and start those two again when they die."""

from __future__ import annotations

import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from flowstack.keycloak import SECRET, WITH_ROLE
from flowstack.nginx import Nginx
from flowstack.processes import Server, answers, free_port
from flowstack.stack import Stack

FRONT_PORT = 7070


def settings_of(stack: Stack, *, master: str, secret_key: str, ports: Mapping[str, int]) -> dict[str, str]:
    """Return the settings of `ingest` and `serve` on the stack."""
    return {
        "FLOWMAPS_DATABASE_URL": stack.postgres.tls(master),
        "FLOWMAPS_SECRET_KEY": secret_key,
        "FLOWMAPS_MAP_STORE": stack.redis.url,
        "FLOWMAPS_KAFKA_SERVERS": stack.kafka.servers,
        "FLOWMAPS_KAFKA_METADATA_MAX_AGE_MS": "1000",
        "FLOWMAPS_REGISTRY_URL": stack.registry.url,
        "FLOWMAPS_OIDC_ISSUER": stack.keycloak.issuer,
        "FLOWMAPS_INGEST_METRICS_PORT": str(ports["ingest"]),
        "FLOWMAPS_SERVE_METRICS_PORT": str(ports["metrics"]),
        "FLOWMAPS_SERVE_PORT": str(ports["serve"]),
        "FLOWMAPS_VIEWER_TOKEN_URL": stack.keycloak.token_url,
        "FLOWMAPS_VIEWER_CLIENT_ID": WITH_ROLE,
    }


def flow_maps(command: str, folder: Path, settings: Mapping[str, str], ready_port: int) -> Server:
    """Return ``flow-maps serve`` or ``flow-maps ingest`` as a server; it is ready when ``/healthz`` says so."""

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{ready_port}/healthz", timeout=2).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    return Server(
        command,
        [sys.executable, "-m", "flowmaps", command],
        folder=folder,
        environment=settings,
        ready=ready,
        seconds=60,
    )


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Start *server* and stop it at the end."""
    server.start()
    try:
        yield server
    finally:
        server.stop()


def hold(folder: Path, stop: threading.Event) -> None:
    """Run the stack until *stop* is set; its addresses are in ``env`` of *folder* once everything answers."""
    with ExitStack() as opened:
        stack = opened.enter_context(Stack())
        stack.prefetch("keycloak", "kafka", "registry", "postgres")
        master = stack.postgres.new_database()
        ports = {name: free_port() for name in ("ingest", "metrics", "serve")}
        settings = settings_of(stack, master=master, secret_key=secrets.token_urlsafe(32), ports=ports)
        servers = {
            name: opened.enter_context(running(flow_maps(name, folder, settings, ports[name])))
            for name in ("ingest", "serve")
        }
        front_port = free_port() if answers(FRONT_PORT) else FRONT_PORT
        front = Nginx(stack.folder / "front", f"127.0.0.1:{ports['serve']}", port=front_port)
        front.start()
        opened.callback(front.stop)

        def write() -> None:
            _write_env(
                folder / "env",
                {
                    "FLOWMAPS_URL": front.url,
                    "METRICS_URL": f"http://127.0.0.1:{ports['metrics']}/metrics",
                    "INGEST_METRICS_URL": f"http://127.0.0.1:{ports['ingest']}/metrics",
                    "KAFKA_SERVERS": stack.kafka.servers,
                    "KAFKA_SCHEMA_REGISTRY": stack.registry.url,
                    "OIDC_ISSUER": stack.keycloak.issuer,
                    "OIDC_CLIENT_ID": WITH_ROLE,
                    "OIDC_CLIENT_SECRET": SECRET,
                    "DATABASE_URL": stack.postgres.url_of(master),
                    "REDIS_URL": stack.redis.url,
                    "INGEST_PID": str(servers["ingest"].pid),
                    "SERVE_PID": str(servers["serve"].pid),
                },
            )

        write()
        _supervise(servers, write, stop)


def _supervise(servers: Mapping[str, Server], write: Callable[[], None], stop: threading.Event) -> None:
    while not stop.wait(0.5):
        for server in servers.values():
            if not server.is_alive:
                print(f"{server.name} died and is started again", flush=True)
                server.start()
                write()


def _write_env(path: Path, values: Mapping[str, str]) -> None:
    """Write the file whole or not at all: scripts wait for it."""
    scratch = path.with_suffix(".new")
    scratch.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    scratch.replace(path)


def main() -> None:
    """Run until asked to stop."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    hold(Path(sys.argv[1]), stop)


if __name__ == "__main__":
    main()
