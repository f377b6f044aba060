"""Hold the whole stack: start every service, `ingest`, `serve` and nginx, and start those two again when they die."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from flowmaps.errors import ConfigurationError
from flowstack.deployment import deployed
from flowstack.keycloak import SECRET, WITH_ROLE
from flowstack.processes import Server, answers
from flowstack.stack import Stack

FRONT_PORT = 7070


def hold(folder: Path, stop: threading.Event) -> None:
    """Run the stack until *stop* is set; its addresses are in ``env`` of *folder* once everything answers."""
    with ExitStack() as opened:
        stack = opened.enter_context(Stack())
        front_port = None if answers(FRONT_PORT) else FRONT_PORT
        deployment = opened.enter_context(deployed(stack, stack.folder / "flowmaps", front_port=front_port))

        def write() -> None:
            _write_env(
                folder / "env",
                {
                    "FLOWMAPS_URL": deployment.url,
                    "METRICS_URL": f"{deployment.metrics_urls[0]}/metrics",
                    "INGEST_METRICS_URL": f"{deployment.ingest_url}/metrics",
                    "KAFKA_SERVERS": stack.kafka.servers,
                    "KAFKA_SCHEMA_REGISTRY": stack.registry.url,
                    "OIDC_ISSUER": stack.keycloak.issuer,
                    "OIDC_CLIENT_ID": WITH_ROLE,
                    "OIDC_CLIENT_SECRET": SECRET,
                    "DATABASE_URL": deployment.master_url,
                    "REDIS_URL": stack.redis.url,
                    "INGEST_PID": str(deployment.ingest.pid),
                    "SERVE_PID": str(deployment.serves[0].pid),
                },
            )

        write()
        _supervise([deployment.ingest, *deployment.serves], write, stop)


def _supervise(servers: Sequence[Server], write: Callable[[], None], stop: threading.Event) -> None:
    while not stop.wait(0.5):
        for server in servers:
            if not server.is_alive:
                print(f"{server.name} died and is started again", flush=True)
                try:
                    server.start()
                except ConfigurationError as error:
                    # What it needs may be away as well; the next turn tries again.
                    print(error.message, flush=True)
                else:
                    write()


def _write_env(path: Path, values: dict[str, str]) -> None:
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
