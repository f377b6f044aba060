"""Apicurio with the Confluent API, and nginx before it where clients need a certificate."""

from __future__ import annotations

from pathlib import Path

import httpx

from flowstack.certificates import Certificates
from flowstack.maven import registry_folder
from flowstack.packages import program
from flowstack.processes import Server, answers, free_port

_API = "/apis/ccompat/v7"
_NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 128; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    ssl_client_certificate {authority}; ssl_verify_client on;
    location / {{ proxy_pass http://127.0.0.1:{upstream}; }}
  }}
}}
"""


class Registry:
    """A schema registry; *url* is plain, *tls_url* needs a client certificate."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        self._folder = folder / "registry"
        self._folder.mkdir(parents=True)
        self._certificates = certificates
        self._port, self._tls_port = free_port(), free_port()
        jar = next(registry_folder().glob("apicurio-registry-app-*-runner.jar"))
        command = [
            program("java"), "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={self._port}",
            f"-Dquarkus.datasource.jdbc.url=jdbc:h2:file:{self._folder}/schemas;WRITE_DELAY=0",
            "-jar", str(jar),
        ]  # fmt: skip
        self._server = Server("registry", command, folder=self._folder, ready=self._is_ready, seconds=90)
        configuration = self._folder / "nginx.conf"
        configuration.write_text(
            _NGINX.format(
                folder=self._folder,
                port=self._tls_port,
                upstream=self._port,
                certificate=certificates.server_certificate,
                key=certificates.server_key,
                authority=certificates.ca_file,
            )
        )
        self._front = Server(
            "registry-tls",
            [program("nginx"), "-p", str(self._folder), "-c", str(configuration), "-e", "stderr"],
            folder=self._folder,
            ready=lambda: answers(self._tls_port),
        )

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/subjects", timeout=2).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}{_API}"

    @property
    def tls_url(self) -> str:
        return f"https://127.0.0.1:{self._tls_port}{_API}"

    @property
    def tls_settings(self) -> dict[str, str]:
        """The settings of a client with a certificate."""
        return {
            "FLOWMAPS_REGISTRY_URL": self.tls_url,
            "FLOWMAPS_REGISTRY_CA_FILE": str(self._certificates.ca_file),
            "FLOWMAPS_REGISTRY_CERTIFICATE_FILE": str(self._certificates.client_certificate),
            "FLOWMAPS_REGISTRY_KEY_FILE": str(self._certificates.client_key),
        }

    def start(self) -> None:
        self._server.start()
        self._front.start()

    def stop(self) -> None:
        self._front.stop()
        self._server.stop()

    def pause(self) -> None:
        """Stop the registry itself; `start` brings it back with what it knew."""
        self.stop()

    def kill(self) -> None:
        """End the registry as a crash would; what it had answered it keeps."""
        self._front.stop()
        self._server.kill()
