"""What every command shares: the two consoles, the settings file, and a clean end on a signal."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from flowmaps.settings import Settings, load_settings
from flowmaps.telemetry import configure_logs

console = Console()
errors = Console(stderr=True)
EnvFile = Annotated[Path | None, typer.Option("--env-file", help="Settings file; default: .env where it exists.")]


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
