"""Install the system packages that the services need, with apt, once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from flowmaps.demo.system_packages import install_postgres, postgres_programs
from flowmaps.errors import ConfigurationError

_WANTED = {
    "redis-server": "redis-server",
    "nginx": "nginx",
    "chromium": "chromium",
    "promtool": "prometheus",
    "pgbouncer": "pgbouncer",
    "java": "default-jre-headless",
    "mvn": "maven",
    "unzip": "unzip",
    "node": "nodejs",
    "npm": "npm",
}
"""Program → Debian package."""
_INSTALL_SECONDS = 900


def install_packages() -> Path:
    """Install what is missing and return the folder of PostgreSQL's programs."""
    missing = [package for program, package in _WANTED.items() if find_program(program) is None]
    if missing:
        print(f"installing {' '.join(missing)}", file=sys.stderr)
        if shutil.which("apt-get") is None:
            raise ConfigurationError(f"these packages are missing and there is no apt-get: {' '.join(missing)}")
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        # A service that starts by itself on installing would take the ports of others.
        policy = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        command = [*sudo, "apt-get", "install", "--yes", "--no-install-recommends", *missing]
        done = subprocess.run(
            command, env=policy, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
        )
        if done.returncode:
            subprocess.run([*sudo, "apt-get", "update"], capture_output=True, timeout=_INSTALL_SECONDS, check=False)
            done = subprocess.run(
                command, env=policy, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
            )
        if done.returncode:
            raise ConfigurationError(
                f"installing {' '.join(missing)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
    return postgres_programs() or install_postgres(lambda text: print(text, file=sys.stderr))


def find_program(name: str) -> str | None:
    """Return the path of a program; those of the administrator are looked for too."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin")


def program(name: str) -> str:
    """Return the path of a program that is there; raise `ConfigurationError`."""
    found = find_program(name)
    if found is None:
        raise ConfigurationError(f"the program {name} is missing; run: python -m flowstack install")
    return found
