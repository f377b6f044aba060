"""PostgreSQL with PostGIS and TLS."""

from __future__ import annotations

import secrets
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from flowmaps.errors import ConfigurationError
from flowstack.certificates import Certificates
from flowstack.processes import Server, as_account, free_port, give_to, unprivileged

_USER = "admin"
_CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 64MB
fsync = off
synchronous_commit = off
full_page_writes = off
password_encryption = 'scram-sha-256'
ssl = on
ssl_cert_file = '{folder}/server.pem'
ssl_key_file = '{folder}/server-key.pem'
"""


class Postgres:
    """A server of its own; *url* is the administrator's, without TLS, *tls_url* verifies the server's certificate."""

    def __init__(self, programs: Path, folder: Path, certificates: Certificates) -> None:
        self._programs = programs
        self._folder = folder / "postgres"
        self._certificates = certificates
        self._password = secrets.token_urlsafe(16)
        self.port = free_port()
        self._account = unprivileged()
        self._server = self._prepare()

    def _prepare(self) -> Server:
        self._folder.mkdir(parents=True)
        password_file = self._folder / "password"
        password_file.write_text(self._password)
        for source, name in (
            (self._certificates.server_certificate, "server.pem"),
            (self._certificates.server_key, "server-key.pem"),
        ):
            (self._folder / name).write_bytes(source.read_bytes())
            (self._folder / name).chmod(0o600)
        give_to(self._folder, self._account)
        data = self._folder / "data"
        command: list[str | Path] = [
            self._programs / "initdb", "-D", data, "-U", _USER, "--pwfile", password_file, "--auth=scram-sha-256",
            "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
        ]  # fmt: skip
        done = subprocess.run(as_account(self._account, command), capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConfigurationError(f"initdb failed: {done.stderr}")
        with (data / "postgresql.conf").open("a", encoding="utf-8") as configuration:
            configuration.write(_CONFIGURATION.format(folder=self._folder))
        start = as_account(self._account, [self._programs / "postgres", "-D", data, "-p", str(self.port)])
        return Server("postgresql", start, folder=self._folder, ready=self._is_ready, stop_signal=signal.SIGINT)

    def _is_ready(self) -> bool:
        try:
            with psycopg.connect(self.url, connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def url_of(self, database: str, **parameters: str) -> str:
        """Return the administrator's URL of a database."""
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
        base = f"postgresql://{_USER}:{quote(self._password)}@127.0.0.1:{self.port}/{database}"
        return f"{base}?{query}" if query else base

    @property
    def ca_file(self) -> Path:
        return self._certificates.ca_file

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def tls(self, database: str) -> str:
        """Return the administrator's URL of a database, with the server's certificate verified."""
        return self.url_of(database, sslmode="verify-full", sslrootcert=str(self._certificates.ca_file))

    def new_database(self) -> str:
        """Create an empty database and return its name."""
        name = f"master_{secrets.token_hex(6)}"
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        return name

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        """Stop at once: nothing in it is kept."""
        self._server.stop()

    def kill(self) -> None:
        self._server.kill()
