"""Alert rules and dashboard: they load, they fire when they should, and they ask for what the processes really say."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import Flow, Running, eventually, ingesting, inherited, point
from flowstack.processes import free_port

MONITORING = Path(__file__).parents[3] / "deploy" / "monitoring"
BY_PROMETHEUS = {"up"}
FUNCTIONS = {"by", "and", "or", "unless", "offset", "on", "ignoring", "group_left", "without"}


def promtool(*words: str) -> str:
    done = subprocess.run(
        ["/usr/bin/promtool", *words], cwd=MONITORING, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_configuration_and_its_rules_load() -> None:
    assert "14 rules found" in promtool("check", "config", "prometheus.yml")


def test_alerts_fire_when_they_should_and_are_silent_else() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_every_alert_is_tested_and_documented() -> None:
    alerts = set(re.findall(r"alert: (\w+)", (MONITORING / "alerts.yml").read_text()))
    tests = (MONITORING / "alerts_test.yml").read_text()
    fired = {name for name, rest in re.findall(r"alertname: (\w+)\n(\s+exp_alerts)", tests) if rest}
    documented = set(
        re.findall(r"^\| `(FlowMaps\w+)`", (MONITORING.parents[1] / "docs/monitoring.md").read_text(), re.MULTILINE)
    )
    assert fired == alerts
    assert documented == alerts


def names_in(expression: str) -> set[str]:
    """Return the metrics that a query reads: what is left without functions, labels, ranges and texts."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", bare)
    bare = re.sub(r"\b(by|without|on|ignoring)\s*\([^)]*\)", "", bare)
    return set(re.findall(r"\b[a-z_][a-z0-9_]*\b(?!\s*\()", bare)) - FUNCTIONS - {"m", "s", "h"}


def labels_in(expression: str) -> set[str]:
    """Return the labels that a query selects or groups by."""
    selected = {name for part in re.findall(r"\{([^}]*)\}", expression) for name in re.findall(r"(\w+)\s*[=!]~?", part)}
    grouped = {name.strip() for part in re.findall(r"\bby\s*\(([^)]*)\)", expression) for name in part.split(",")}
    return (selected | grouped) - {"job", "instance", "le"}


def expressions() -> Iterator[tuple[str, str]]:
    for block in re.findall(r"expr: (>\n(?:\s{10}.*\n)+|.*\n)", (MONITORING / "alerts.yml").read_text()):
        yield "alerts.yml", block.removeprefix(">\n")
    dashboard: Any = json.loads((MONITORING / "grafana" / "flow-maps.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$topic", "x")


def scraped(text: str) -> dict[str, set[str]]:
    """Return the names of a scrape, each with its labels; a metric without samples yet is known by its type."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if typed := re.match(r"# TYPE (\w+) (\w+)", line):
            suffixes = ("_bucket", "_count", "_sum") if typed[2] == "histogram" else ("",)
            found |= {typed[1] + suffix: found.get(typed[1] + suffix, set()) for suffix in suffixes}
        elif sample := re.match(r"(\w+)(?:\{(.*)\})? ", line):
            found.setdefault(sample[1], set()).update(re.findall(r'(\w+)="', sample[2] or ""))
    return found


@pytest.fixture
def serving(flow: Flow, tmp_path: Path) -> Iterator[Running]:
    """A real ``flow-maps serve``; yields its metrics address."""
    port, metrics_port = free_port(), free_port()
    environ = flow.environ | {"FLOWMAPS_SERVE_PORT": str(port), "FLOWMAPS_SERVE_METRICS_PORT": str(metrics_port)}
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flowmaps", "serve"], env=inherited() | environ, cwd="/", stdout=log, stderr=log
        )
    try:
        eventually(lambda: Running(port).get("/healthz")[0] == 200, "serve answers")
        yield Running(metrics_port)
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_rules_and_dashboard_ask_for_what_the_processes_say(flow: Flow, serving: Running) -> None:
    topic = flow.topic("datapoint")
    with ingesting(flow) as running:
        flow.send(topic, point("a"))
        flow.send_raw(topic, b"junk")
        eventually(lambda: flow.points(topic), "the point is stored")
        eventually(lambda: running.value("flowmaps_freshness_seconds", topic=topic) is not None, "freshness is told")
        found = scraped(running.get("/metrics")[1])
    for name, labels in scraped(serving.get("/metrics")[1]).items():
        found[name] = found.get(name, set()) | labels
    asked = 0
    for where, expression in expressions():
        for name in names_in(expression) - BY_PROMETHEUS:
            asked += 1
            assert name in found, (where, name)
            if found[name]:
                assert labels_in(expression) <= set().union(*(found[n] for n in names_in(expression) & found.keys())), (
                    where
                )
    assert asked > 30
