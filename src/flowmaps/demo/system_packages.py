"""Find the system's PostgreSQL with PostGIS, and install them with apt where they are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from flowmaps.errors import ConfigurationError

_DEBIAN_ROOT = Path("/usr/lib/postgresql")
_CLUSTER_CONFIG = Path("/etc/postgresql-common/createcluster.conf")
_INSTALL_SECONDS = 900


def postgres_programs() -> Path | None:
    """Return the folder of the newest PostgreSQL that has PostGIS beside it, or None."""
    folders = sorted(_DEBIAN_ROOT.glob("[0-9]*/bin"), key=lambda folder: int(folder.parent.name), reverse=True)
    if on_path := shutil.which("initdb"):
        folders.append(Path(on_path).resolve().parent)
    return next((folder for folder in folders if (folder / "initdb").is_file() and _has_postgis(folder)), None)


def _has_postgis(programs: Path) -> bool:
    config = programs / "pg_config"
    version = programs.parent.name
    shares = [Path("/usr/share/postgresql") / version]
    if config.is_file():
        found = subprocess.run([config, "--sharedir"], capture_output=True, text=True, check=False)
        shares.append(Path(found.stdout.strip()))
    return any((share / "extension" / "postgis.control").is_file() for share in shares)


def install_postgres(announce: Callable[[str], None]) -> Path:
    """Install PostgreSQL and PostGIS with apt and return the folder of its programs; no cluster is created.

    Raise `ConfigurationError` saying what to install by hand where that is not possible.
    """
    by_hand = "install PostgreSQL (13 or newer) with PostGIS yourself, for example: apt-get install postgresql postgis"
    if shutil.which("apt-get") is None:
        raise ConfigurationError(f"PostgreSQL with PostGIS is missing, and this system has no apt-get; {by_hand}")
    prefix: list[str] = [] if os.geteuid() == 0 else _sudo()
    package = _postgis_package(prefix, announce)
    announce(f"installing {package} (system package, once)")
    _without_system_cluster(prefix)
    _run([*prefix, "apt-get", "install", "--yes", "--no-install-recommends", package], by_hand)
    programs = postgres_programs()
    if programs is None:
        raise ConfigurationError(f"{package} was installed, but its programs were not found; {by_hand}")
    return programs


def _sudo() -> list[str]:
    sudo = shutil.which("sudo")
    allowed = sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0
    if not sudo or not allowed:
        raise ConfigurationError(
            "PostgreSQL with PostGIS is missing, and installing it needs root or password-less sudo; "
            "run as root: apt-get install postgresql-postgis (or postgresql-15-postgis-3 on Debian 12)"
        )
    return [sudo, "-n"]


def _postgis_package(prefix: list[str], announce: Callable[[str], None]) -> str:
    """Return the newest ``postgresql-N-postgis-3`` that this system's package lists offer."""
    names = _offered()
    if not names:
        announce("reading the system's package lists")
        _run([*prefix, "apt-get", "update"], "check the network and the package sources, then try again")
        names = _offered()
    if not names:
        raise ConfigurationError("the system's package lists offer no postgresql-N-postgis-3")
    return max(names, key=lambda name: int(name.split("-")[1]))


def _offered() -> list[str]:
    found = subprocess.run(
        ["apt-cache", "search", "--names-only", "^postgresql-[0-9]+-postgis-3$"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [line.split()[0] for line in found.stdout.splitlines() if line.strip()]


def _without_system_cluster(prefix: list[str]) -> None:
    """Keep Debian from starting a PostgreSQL of its own: the demo has a private one."""
    if _CLUSTER_CONFIG.exists() or shutil.which("pg_createcluster"):
        return
    text = "create_main_cluster = false\n"
    if not prefix:
        _CLUSTER_CONFIG.parent.mkdir(parents=True, exist_ok=True)
        _CLUSTER_CONFIG.write_text(text)
        return
    subprocess.run([*prefix, "mkdir", "-p", str(_CLUSTER_CONFIG.parent)], check=True)
    subprocess.run([*prefix, "tee", str(_CLUSTER_CONFIG)], input=text, text=True, stdout=subprocess.DEVNULL, check=True)


def _run(command: list[str], otherwise: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConfigurationError(f"{' '.join(command)} took longer than {_INSTALL_SECONDS} s; {otherwise}") from None
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ConfigurationError(f"{' '.join(command)} failed: {last[0]}; {otherwise}")
