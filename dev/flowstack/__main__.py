"""``python -m flowstack install | up | down``; ``up`` returns when everything answers, see `flowstack.supervisor`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from flowmaps.errors import FlowMapsError
from flowstack import maven
from flowstack.npm import node_modules
from flowstack.packages import install_packages

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / ".stack"
START_SECONDS = 240.0


def install() -> None:
    """Install and fetch everything that the services need."""
    install_packages()
    maven.kafka_jars()
    maven.registry_folder()
    maven.keycloak_folder()
    node_modules()


def up() -> None:
    """Start the supervisor in the background, and return when the stack answers."""
    install()
    FOLDER.mkdir(exist_ok=True)
    if (pid := _running()) is not None:
        sys.exit(f"the stack runs already (process {pid}); make stack-down stops it")
    env_file = FOLDER / "env"
    env_file.unlink(missing_ok=True)
    with (FOLDER / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flowstack.supervisor", str(FOLDER)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=PROJECT,
        )
    (FOLDER / "pid").write_text(str(process.pid))
    deadline = time.monotonic() + START_SECONDS
    while not env_file.is_file():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the stack did not start, see {FOLDER / 'supervisor.log'}")
        time.sleep(0.2)
    print(env_file.read_text(), end="")


def down() -> None:
    """Stop the supervisor, which stops all it started."""
    pid = _running()
    if pid is None:
        print("the stack does not run")
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while _running() is not None:
        if time.monotonic() > deadline:
            sys.exit(f"process {pid} does not end, see {FOLDER / 'supervisor.log'}")
        time.sleep(0.1)
    (FOLDER / "pid").unlink(missing_ok=True)
    (FOLDER / "env").unlink(missing_ok=True)


def _running() -> int | None:
    """Return the supervisor's process id where it runs."""
    try:
        pid = int((FOLDER / "pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"flowstack.supervisor" in command else None


def main() -> None:
    commands = {"install": install, "up": up, "down": down}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(f"usage: python -m flowstack {' | '.join(commands)}")
    try:
        commands[sys.argv[1]]()
    except FlowMapsError as error:
        sys.exit(f"error: {error.message}")


main()
