"""Collect figures, print them as a table, and keep them as JSON with the machine they were measured on."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value; *ratio* is its share of *limit*, the peer or bare loop measured in the same run."""

    name: str
    value: float
    unit: str
    limit: str = ""
    ratio: float | None = None


@dataclass(slots=True)
class Report:
    """The figures of one benchmark."""

    name: str
    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str, *, limit: str = "", ratio: float | None = None) -> None:
        self.figures.append(Figure(name, value, unit, limit, ratio))

    def show(self, console: Console) -> None:
        table = Table("figure", "value", "unit", "ratio", "of", title=self.name, title_justify="left", box=None)
        for figure in self.figures:
            ratio = f"{figure.ratio:.2f}" if figure.ratio is not None else ""
            table.add_row(figure.name, f"{figure.value:,.3g}", figure.unit, ratio, figure.limit)
        console.print(table)

    def save(self) -> Path:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        document = {
            "name": self.name,
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
            "figures": [asdict(figure) for figure in self.figures],
        }
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        return path


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which *percent* of *values* lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def median_seconds(action: Callable[[], object], *, repeats: int) -> float:
    """Return the median time of *action*."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
