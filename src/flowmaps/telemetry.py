"""Set up logs, and name the metrics that both processes share.

Logs are one event a line on standard error. Secrets never get here: they are a type that hides itself.
Layergroup tokens are capabilities, so `mask_token` cuts them before they are written.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

import structlog
from prometheus_client import Counter, Histogram
from structlog.typing import EventDict, WrappedLogger

from flowmaps.settings import LogSettings

_TOKEN = re.compile(r"(/layergroup/(?:static/(?:center|bbox)/)?[^/:?\s]{1,8})[^/:?\s]*")

FN_DURATION = Histogram(
    "fn_duration_seconds",
    "Time a function took.",
    ["fn", "topic", "batch_size"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
FN_RUNS = Counter("fn_runs", "Runs of a function, each try counted.", ["fn", "result", "topic", "batch_size"])
FN_EXCEPTIONS = Counter("fn_exceptions", "Exceptions of a function.", ["fn", "topic", "batch_size", "exceptionClass"])


def mask_token(text: str) -> str:
    """Return *text* with every layergroup token in an address cut after eight characters."""
    return _TOKEN.sub(r"\1**********", text)


def _mask(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if isinstance(value, str) and "/layergroup/" in value:
            event[name] = mask_token(value)
    return event


def configure_logs(settings: LogSettings, *, stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's events to *stream* (default: standard error) in one form."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    if not settings.full_token:
        shared.append(_mask)
    final: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if settings.format == "json" else _console_renderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    last: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if settings.format == "json":
        last.append(structlog.processors.format_exc_info)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*last, final]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _console_renderer() -> structlog.dev.ConsoleRenderer:
    # The default prints local variables with a traceback, and passwords are among them.
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def batch_size_label(size: int) -> str:
    """Return the range that *size* falls in, so that the label stays of few values."""
    for limit, label in ((1, "1"), (10, "2-10"), (50, "11-50"), (100, "51-100")):
        if size <= limit:
            return label
    return "101+"


@contextmanager
def timed(fn: str, *, topic: str = "", batch_size: str = "") -> Iterator[None]:
    """Count and time one run of *fn*; an exception is counted and rises."""
    labels: Mapping[str, str] = {"fn": fn, "topic": topic, "batch_size": batch_size}
    start = time.perf_counter()
    try:
        yield
    except BaseException as error:
        FN_RUNS.labels(result="failure", **labels).inc()
        FN_EXCEPTIONS.labels(exceptionClass=type(error).__name__, **labels).inc()
        raise
    else:
        FN_RUNS.labels(result="success", **labels).inc()
    finally:
        FN_DURATION.labels(**labels).observe(time.perf_counter() - start)
