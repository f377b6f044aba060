"""``python -m bench [NAME …]``: run the named benchmarks, or all; figures go to ``bench/results``."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from rich.console import Console

from bench.report import Report


def main() -> None:
    folder = Path(__file__).parent
    known = sorted(path.stem.removeprefix("bench_") for path in folder.glob("bench_*.py"))
    names = sys.argv[1:] or known
    if unknown := sorted(set(names) - set(known)):
        sys.exit(f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(known)}")
    console = Console(width=110)
    for name in names:
        report = Report(name)
        import_module(f"bench.bench_{name}").run(report)
        report.show(console)
        report.save()


main()
