"""How long styles take to compile, beside npm carto 1.2.0 warm in one process; and how many get the same rules."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.report import Report, percentile
from flowmaps.cartocss import MapLayer, build_map, compile_layer, relative_names

# The corpus and the peer are those of the tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "dev"))

from carto_peer import Carto, plain_map
from cartocss_corpus import CLASSES, LAYER, corpus

SAMPLE = "#s { marker-width: 10; marker-fill: #e00050; }"
"""The style of the original's sample map, of version 2.0.0."""
REPEATS = 5
GROWTH = (125, 250, 500, 1_000, 2_000)


def rules_style(rules: int) -> str:
    """Return a style of so many rules: categories of one field over a common block."""
    categories = "".join(
        f"  [kind = 'kind {number}'] {{ marker-fill: #{number * 8_191 % 0xFFFFFF:06x}; }}\n"
        for number in range(rules - 1)
    )
    return f"#pts {{\n  marker-width: 8;\n  marker-line-width: 1;\n{categories}}}\n"


def compiled(css: str) -> str:
    style = compile_layer(css, layer_id=LAYER, classes=CLASSES, bind_ids=False, resources=relative_names)
    return build_map([MapLayer(style)])


def best_of(action: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the least time of *action* in milliseconds, as the peer is given, after one run to warm up."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times) * 1000


def run(report: Report) -> None:
    with Carto("1.2.0") as carto, Carto("0.16.3") as old:
        _corpus(report, carto, old)
        _many_rules(report, carto)
    report.add("sample style of the original", best_of(_sample, 50), "ms", limit="2 ms", ratio=best_of(_sample, 50) / 2)


def _sample() -> None:
    build_map([MapLayer(compile_layer(SAMPLE, layer_id="layer0", version="2.0.0"))])


def _corpus(report: Report, carto: Carto, old: Carto) -> None:
    ours: list[float] = []
    theirs: list[float] = []
    compiles = {carto.version: 0, old.version: 0}
    same = {carto.version: 0, old.version: 0}
    samples = corpus()
    for sample in samples:
        xml = compiled(sample.css)
        for asked in (carto, old):
            repeats = REPEATS if asked is carto else 0
            answer = asked.compile(sample.css, layer_id=LAYER, classes=CLASSES, repeats=repeats)
            if answer.xml is None:
                continue
            compiles[asked.version] += 1
            same[asked.version] += plain_map(answer.xml) == plain_map(xml)
            if asked is carto:
                theirs.append(min(answer.seconds) * 1000)
                ours.append(best_of(lambda css=sample.css: compiled(css)))  # type: ignore[misc]
    peer = "npm carto 1.2.0"
    for name, pick in (
        ("median", statistics.median),
        ("95th percentile", lambda times: percentile(times, 95)),
        ("worst", max),
    ):
        report.add(f"a style of the corpus, {name}", pick(ours), "ms", limit=peer, ratio=pick(ours) / pick(theirs))
        report.add(f"the same by {peer}, {name}", pick(theirs), "ms")
    report.add("styles of the corpus", len(samples), "")
    for version, count in same.items():
        report.add(
            f"same rule lists as carto {version}, of the styles that it compiles",
            count,
            "styles",
            limit=f"{compiles[version]} styles",
            ratio=count / compiles[version],
        )


def _many_rules(report: Report, carto: Carto) -> None:
    largest = 0.0
    times = {}
    for rules in GROWTH:
        css = rules_style(rules)
        times[rules] = best_of(lambda css=css: compiled(css))  # type: ignore[misc]
        largest = times[rules]
    answer = carto.compile(rules_style(GROWTH[-1]), layer_id=LAYER, repeats=2)
    theirs = min(answer.seconds) * 1000
    report.add("one style of 2,000 rules", largest, "ms", limit="npm carto 1.2.0", ratio=largest / theirs)
    report.add("the same by npm carto 1.2.0", theirs, "ms")
    for rules in GROWTH[1:]:
        report.add(
            f"time per rule at {rules:,} rules",
            times[rules] / rules * 1000,
            "µs",
            limit=f"the same at {GROWTH[0]}",
            ratio=(times[rules] / rules) / (times[GROWTH[0]] / GROWTH[0]),
        )
