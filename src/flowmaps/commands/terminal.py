"""What every command shares: the two consoles, the settings file, and a clean end on a signal."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flowmaps.settings import Settings, load_settings
from flowmaps.telemetry import configure_logs

console = Console()
errors = Console(stderr=True)
EnvFile = Annotated[Path | None, typer.Option("--env-file", help="Settings file; default: .env where it exists.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_AGE = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def read_settings(env_file: Path | None) -> Settings:
    """Return the settings, with logs set up as they say."""
    settings = load_settings(env_file)
    configure_logs(settings.log)
    return settings


def say(text: str) -> None:
    """Print one line as it is."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def stop_on_signal() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def handle(_: int, __: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


def parse_time(text: str) -> datetime:
    """Return the time that *text* says: ISO 8601, UTC where it names no zone, or an age such as 90s, 2h or 7d."""
    try:
        if age := _AGE.fullmatch(text):
            return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        time = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is neither a time nor an age such as 2h") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


@contextmanager
def progress(verb: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error, and yield what moves it to a count of *total*."""
    columns = (TextColumn(f"  {verb}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=not errors.is_terminal) as bar:
        task = bar.add_task(verb, total=total)
        yield lambda done: bar.update(task, completed=done)
