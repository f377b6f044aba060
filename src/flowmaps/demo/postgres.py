"""Run a private PostgreSQL in a folder of its own, on a free loopback port."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flowmaps.errors import ConfigurationError

_USER = "flowmaps"
_CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 100
shared_buffers = 64MB
password_encryption = 'scram-sha-256'
logging_collector = off
"""


@contextmanager
def private_postgres(programs: Path, folder: Path) -> Iterator[str]:
    """Yield the URL of a running PostgreSQL whose data lives in *folder*; created there the first time.

    PostgreSQL refuses to run as root, so root starts it as the system user `postgres`.
    """
    account = _account()
    folder = folder.resolve()
    data = folder / "postgres"
    password_file = folder / "postgres-password"
    folder.mkdir(parents=True, exist_ok=True)
    if not (data / "PG_VERSION").is_file() or not password_file.is_file():
        _create(programs, data, password_file, account)
    password = password_file.read_text().strip()
    port = free_port()
    log = data / "server.log"
    start: list[Path | str] = [
        programs / "pg_ctl",
        "-D",
        data,
        "-w",
        "-t",
        "60",
        "-l",
        log,
        "-o",
        f"-p {port}",
        "start",
    ]
    stop: list[Path | str] = [programs / "pg_ctl", "-D", data, "-m", "fast", "-w", "-t", "60", "stop"]
    if _runs(programs, data, account):
        # A demo that was killed leaves its server behind; the data folder is ours, so this server is too.
        _as(account, stop)
    _as(account, start, hint=f"see {log}")
    try:
        yield f"postgresql://{_USER}:{password}@127.0.0.1:{port}/postgres"
    finally:
        _as(account, stop)


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise ConfigurationError("PostgreSQL does not run as root, and there is no system user postgres") from None


def _create(programs: Path, data: Path, password_file: Path, account: pwd.struct_passwd | None) -> None:
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    password_file.touch(mode=0o600)
    password_file.write_text(secrets.token_urlsafe(24))
    if account is not None:
        for path in (data, password_file):
            os.chown(path, account.pw_uid, account.pw_gid)
        _check_reachable(data, account)
    data.chmod(0o700)
    options = [
        f"--username={_USER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
    ]
    _as(account, [programs / "initdb", "-D", data, *options])
    with (data / "postgresql.conf").open("a") as configuration:
        configuration.write(_CONFIGURATION)


def _check_reachable(data: Path, account: pwd.struct_passwd) -> None:
    """Raise where the user postgres cannot enter *data*, as under a home folder of root."""
    entered = subprocess.run(
        ["test", "-x", data], user=account.pw_uid, group=account.pw_gid, extra_groups=[], check=False
    )
    if entered.returncode != 0:
        raise ConfigurationError(
            f"the system user postgres cannot enter {data}; choose another folder with --data-dir",
            names=("--data-dir",),
        )


def _runs(programs: Path, data: Path, account: pwd.struct_passwd | None) -> bool:
    return _try(account, [programs / "pg_ctl", "-D", data, "status"]).returncode == 0


def _as(account: pwd.struct_passwd | None, command: Sequence[Path | str], hint: str = "") -> None:
    done = _try(account, command)
    if done.returncode != 0:
        program = Path(command[0]).name
        raise ConfigurationError(f"{program} failed: {done.stderr.strip() or 'no message'} {hint}".strip())


def _try(account: pwd.struct_passwd | None, command: Sequence[Path | str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
        # Ctrl-C at the terminal goes to the demo alone, which then stops PostgreSQL in order.
        start_new_session=True,
    )
