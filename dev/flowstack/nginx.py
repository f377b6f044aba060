"""nginx with the configuration that is deployed, before a given upstream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowstack.packages import program
from flowstack.processes import Server, answers, free_port

TEMPLATE = Path(__file__).resolve().parents[2] / "deploy" / "nginx" / "nginx.conf.template"
_MIME = Path("/etc/nginx/mime.types")


class Nginx:
    """A front door; *url* is its address."""

    def __init__(self, folder: Path, upstreams: Sequence[str], *, port: int | None = None) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True)
        self.port = port or free_port()
        text = TEMPLATE.read_text(encoding="utf-8")
        # In production one name resolves to all of them; here each is an address of its own.
        servers = "\n".join(f"    server {upstream} max_fails=0;" for upstream in upstreams)
        text = text.replace("    server ${FLOWMAPS_UPSTREAM} max_fails=0;", servers)
        for name, value in (
            ("NGINX_LISTEN", f"127.0.0.1:{self.port}"),
            ("NGINX_RUN", str(folder)),
            ("NGINX_MIME", str(_MIME)),
        ):
            text = text.replace(f"${{{name}}}", value)
        text = text.replace("/dev/stdout", str(self.access_log))
        if not folder.is_relative_to("/root"):
            # Run by root, its workers change to a user who must be able to write here.
            folder.chmod(0o777)
        configuration = folder / "nginx.conf"
        configuration.write_text(text, encoding="utf-8")
        self._server = Server(
            "nginx",
            [program("nginx"), "-p", folder, "-c", configuration, "-e", "stderr"],
            folder=folder,
            ready=lambda: answers(self.port),
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def access_log(self) -> Path:
        return self._folder / "access.log"

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()
