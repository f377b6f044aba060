"""Redis, without persistence."""

from __future__ import annotations

from pathlib import Path

import redis
from redis.exceptions import RedisError

from flowstack.packages import program
from flowstack.processes import Server, free_port


class Redis:
    """A server of its own."""

    def __init__(self, folder: Path) -> None:
        folder = folder / "redis"
        folder.mkdir(parents=True)
        self._port = free_port()
        command: list[str | Path] = [
            program("redis-server"),
            "--bind",
            "127.0.0.1",
            "--port",
            str(self._port),
            "--save",
            "",
            "--dir",
            folder,
        ]
        self._server = Server("redis", command, folder=folder, ready=self._is_ready)

    def _is_ready(self) -> bool:
        client = redis.Redis.from_url(self.url)
        try:
            return bool(client.ping())
        except RedisError:
            return False
        finally:
            client.close()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()
