"""Start a server as a child process, wait until it answers, stop it by its process id."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flowmaps.errors import ConfigurationError

STOP_SECONDS = 20.0


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Tell whether something accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A child process with its log; *ready* is asked until it says yes."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        folder: Path,
        ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
        seconds: float = 60.0,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self._command = [str(part) for part in command]
        self._folder = folder
        self._ready = ready
        # What is meant for the tests is no setting of the programs, which refuse unknown ones.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLOWMAPS_TEST_")}
        self._environment = {**inherited, **(environment or {})}
        self._seconds = seconds
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self._folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process and return when it is ready; raise `ConfigurationError` with the end of its log."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + self._seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ConfigurationError(f"{self.name} ended with {self._process.returncode}:\n{self._tail()}")
            if self._ready():
                return
            time.sleep(0.05)
        self.stop()
        raise ConfigurationError(f"{self.name} does not answer after {self._seconds:.0f} seconds:\n{self._tail()}")

    def stop(self) -> None:
        self._end(self._stop_signal)

    def kill(self) -> None:
        """End the process as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        # The process leads a group of its own: a script that started the real server is in it with that, and may end
        # before it.
        _signal_group(process.pid, number)
        deadline = time.monotonic() + STOP_SECONDS
        while process.poll() is None or _signal_group(process.pid, 0):
            if time.monotonic() > deadline:
                _signal_group(process.pid, signal.SIGKILL)
                process.wait()
                return
            time.sleep(0.02)

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a group of processes; return whether any is left. Signal 0 only asks."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def unprivileged() -> pwd.struct_passwd | None:
    """Return the account for servers that refuse to run as root, or None where we are not root."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


def give_to(folder: Path, account: pwd.struct_passwd | None) -> None:
    """Hand *folder* with all in it to *account*."""
    if account is not None:
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, account.pw_uid, account.pw_gid)


def as_account(account: pwd.struct_passwd | None, command: Sequence[str | Path]) -> list[str]:
    """Return *command* so that it runs as *account*."""
    words = [str(part) for part in command]
    return words if account is None else ["runuser", "-u", account.pw_name, "--", *words]


def descendants(pid: int) -> list[tuple[int, str]]:
    """Return (process id, command) of every process below *pid*."""
    found: list[tuple[int, str]] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            with contextlib.suppress(FileNotFoundError):
                # A process may end between the two looks.
                command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found += [(child, command.strip()), *descendants(child)]
    return found
