"""Install the npm packages that tests and benchmarks compare with or drive, and keep them outside the project."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from flowmaps.errors import ConfigurationError
from flowstack.maven import cached
from flowstack.packages import program

_MANIFEST = Path(__file__).resolve().parents[1] / "npm"
_FILES = ("package.json", "package-lock.json")
_INSTALL_SECONDS = 600


def node_modules() -> Path:
    """Return the folder ``node_modules`` with the packages of ``dev/npm``, installed once for each lock file."""
    digest = hashlib.sha256((_MANIFEST / "package-lock.json").read_bytes()).hexdigest()[:12]

    def fetch(folder: Path) -> None:
        for name in _FILES:
            shutil.copy(_MANIFEST / name, folder / name)
        done = subprocess.run(
            [program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
        if done.returncode:
            raise ConfigurationError(f"npm could not install the packages of {_MANIFEST}:\n{done.stderr[-3000:]}")

    return cached(f"npm-{digest}", fetch) / "node_modules"
