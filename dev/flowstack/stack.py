"""The stack: services that start when they are first asked for, and stop together."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from flowstack.certificates import Certificates, make_certificates
from flowstack.kafka import Kafka
from flowstack.keycloak import Keycloak
from flowstack.packages import install_packages
from flowstack.postgres import Postgres
from flowstack.redis_server import Redis
from flowstack.registry import Registry


class _Service(Protocol):
    def start(self) -> None: ...

    def stop(self) -> None: ...


_S = TypeVar("_S", bound=_Service)


class Stack:
    """Real services in a folder of their own; a service starts with its first use, or earlier by `prefetch`."""

    def __init__(self, folder: Path | None = None) -> None:
        # Not below a home that other accounts cannot enter: PostgreSQL and nginx run as such.
        self.folder = folder or Path(tempfile.mkdtemp(prefix="flowstack-", dir="/var/tmp"))
        self._keep = folder is not None
        self._services: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(4)
        self.certificates: Certificates

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self.programs = install_packages()
        self.certificates = make_certificates(self.folder / "certificates")
        return self

    def __exit__(self, *_: object) -> None:
        for future in list(self._services.values()):
            with contextlib.suppress(Exception):
                # A service that did not start was reported where it was asked for.
                future.result().stop()
        self._executor.shutdown()
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def prefetch(self, *names: str) -> None:
        """Start services in the background: `postgres`, `kafka`, `registry`, `redis`, `keycloak`."""
        for name in names:
            self._begin(name, self._makers[name])

    @property
    def _makers(self) -> dict[str, Callable[[], _Service]]:
        return {
            "postgres": lambda: Postgres(self.programs, self.folder, self.certificates),
            "kafka": lambda: Kafka(self.folder, self.certificates),
            "registry": lambda: Registry(self.folder, self.certificates),
            "redis": lambda: Redis(self.folder),
            "keycloak": lambda: Keycloak(self.folder),
        }

    def _begin(self, name: str, make: Callable[[], _S]) -> Future[_S]:
        def started() -> _S:
            service = make()
            service.start()
            return service

        with self._lock:
            if name not in self._services:
                self._services[name] = self._executor.submit(started)
            return self._services[name]

    @property
    def postgres(self) -> Postgres:
        return self._begin("postgres", lambda: Postgres(self.programs, self.folder, self.certificates)).result()

    @property
    def kafka(self) -> Kafka:
        return self._begin("kafka", lambda: Kafka(self.folder, self.certificates)).result()

    @property
    def registry(self) -> Registry:
        return self._begin("registry", lambda: Registry(self.folder, self.certificates)).result()

    @property
    def redis(self) -> Redis:
        return self._begin("redis", lambda: Redis(self.folder)).result()

    @property
    def keycloak(self) -> Keycloak:
        return self._begin("keycloak", lambda: Keycloak(self.folder)).result()
