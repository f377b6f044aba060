"""Styles that never end, renderers that die, and requests made to harm: one request fails, the server goes on."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from maps_fixtures import FILL, POINTS, MapsServer, layer

BLURS = ", ".join(["agg-stack-blur(64, 64)"] * 8)
ENDLESS = " ".join(
    f"#l::a{number} {{ line-width: 3; line-color: red; image-filters: {BLURS}; }}" for number in range(300)
)
"""Each blur takes more than five milliseconds: twelve seconds in all, and the deadline is four."""


def endless() -> dict[str, Any]:
    """Return a layer that is drawn for ever, but not where a new map is tried."""
    return layer("select * from lands", ENDLESS, maxzoom=10)


def workers(maps: MapsServer) -> set[int]:
    """Process ids of the render workers of this server."""
    parents: dict[int, int] = {}
    drawing: set[int] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat[1])
            if b"flowmaps.render.worker" in words:
                drawing.add(int(entry.name))

    def is_ours(pid: int) -> bool:
        while pid > 1:
            if pid == maps.process.pid:
                return True
            pid = parents.get(pid, 0)
        return False

    return {pid for pid in drawing if is_ours(pid)}


def settled(maps: MapsServer) -> set[int]:
    """Return the workers once there are as many as configured, and they stay: a late one ends after its answer."""
    deadline = time.monotonic() + 30
    looks: list[set[int]] = []
    while len(looks) < 4 or len(looks[-1]) != 2 or any(look != looks[-1] for look in looks[-4:]):
        assert time.monotonic() < deadline, looks[-1]
        time.sleep(0.15)
        looks.append(workers(maps))
    return looks[-1]


def test_a_style_that_draws_for_ever_costs_one_request_and_one_worker(maps: MapsServer) -> None:
    before = settled(maps)
    hard, other = maps.create(endless()), maps.create(layer(POINTS))
    with ThreadPoolExecutor(2) as executor:
        started = time.monotonic()
        slow = executor.submit(maps.get, hard, "2/0/2.png")
        # Meanwhile the other worker draws.
        assert maps.get(other, "0/0/0.png").status_code == 200
        answer = slow.result()
    assert time.monotonic() - started < 8
    assert (answer.status_code, answer.json()["errors"]) == (503, ["Render timed out"])
    assert int(answer.headers["retry-after"]) > 0
    assert len(before & settled(maps)) == 1
    assert maps.get(other, "1/0/0.png").status_code == 200


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_renderer_that_dies_costs_one_request(maps: MapsServer, number: signal.Signals) -> None:
    before = settled(maps)
    hard, other = maps.create(endless()), maps.create(layer(POINTS))
    with ThreadPoolExecutor(1) as executor:
        spent = {pid: _processor_time(pid) for pid in before}
        drawing = executor.submit(maps.get, hard, "2/2/2.png")
        time.sleep(0.7)
        busy = max(before, key=lambda pid: _processor_time(pid) - spent[pid])
        os.kill(busy, number)
        answer = drawing.result()
    assert answer.status_code == 503
    assert "died" in answer.json()["errors"][0]
    assert busy not in settled(maps)
    assert maps.get(other, "0/0/0.png").status_code == 200


def _processor_time(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.parametrize(
    "css",
    [
        "#l { marker-width: 1e9; marker-fill: red; }",
        "#l { marker-width: 99999; marker-fill: red; image-filters: agg-stack-blur(5000, 5000); }",
        "#l { polygon-fill: red; polygon-gamma: 1e30; line-width: 1e30; }",
        "#l { building-height: 1e20; building-fill: red; }",
        "#l { line-width: -5; line-smooth: 1e9; line-simplify: 1e9; }",
        "#l { marker-fill: red; marker-width: [name]; marker-transform: scale(1e9, 1e9); }",
        "#l { text-name: [name]; text-face-name: 'No Such Font'; text-size: 1e7; text-spacing: 0.0001; }",
        "#l { marker-file: url(/etc/passwd); }",
        "#l { marker-file: url('../../../etc/passwd'); }",
        "#l { polygon-pattern-file: url('http://169.254.169.254/'); }",
        "Map { background-color: red; buffer-size: 100000; } #l { line-width: 1; }",
        "Map { base: '/etc'; font-directory: '/etc'; srs: '+proj=nonsense'; } #l { line-width: 1; }",
        "#l { line-pattern-file: url('data:image/png;base64,AAAA'); }",
    ],
)
def test_styles_made_to_harm_are_drawn_or_refused(maps: MapsServer, css: str) -> None:
    before = settled(maps)
    answer = maps.post({"version": "1.8.0", "layers": [layer("select * from lands", css)]})
    assert answer.status_code in (200, 400, 503), answer.text
    assert "root:" not in answer.text
    if answer.status_code == 200:
        for path in ("0/0/0.png", "3/4/4@2x.png"):
            tile = maps.get(answer.json(), path)
            assert tile.status_code in (200, 400, 503), tile.text
    assert len(before) == len(settled(maps))


@pytest.mark.parametrize(
    "sql",
    [
        "select set_config('statement_timeout', '0', false)",
        "select * from datapoint; set statement_timeout = 0",
        "select lo_import('/etc/passwd')",
        "select pg_read_file('/etc/passwd')",
        "select * from information_schema.tables",
        "select * from flowmaps.rejected",
        "select * from datapoint for update",
        "select * from datapoint where identifier = $1",
        "select dblink('host=127.0.0.1', 'select 1')",
        "copy datapoint to program 'id'",
        "do $$ begin end $$",
        "select repeat('x', 2000000000)",
        "select query_to_xml('select 1', true, true, '')",
        "select current_setting('is_superuser')",
        "select * from datapoint \\; select 1",
        "select ((((((((((" * 500,
        "select '" + "é" * 20_000 + "'",
        "explain select 1",
    ],
)
def test_sql_made_to_harm_is_refused(maps: MapsServer, sql: str) -> None:
    answer = maps.post({"version": "1.8.0", "layers": [layer(sql)]})
    assert answer.status_code in (400, 403, 404)
    assert "root:" not in answer.text


@pytest.mark.parametrize("depth", [40, 5000])
def test_documents_made_to_harm_are_refused(maps: MapsServer, depth: int) -> None:
    nested: object = 1
    for _ in range(depth if depth < 100 else 900):
        nested = {"a": nested}
    answer = maps.post({"version": "1.8.0", "layers": [], "x": nested})
    assert answer.status_code == 400
    many = maps.post({"version": "1.8.0", "layers": [layer(POINTS)] * (depth if depth < 100 else 33)})
    assert many.status_code == 400
    assert "the limit is 32" in many.json()["errors"][0]


def test_a_huge_tile_of_features_is_cut_and_not_fatal(maps: MapsServer) -> None:
    sql = (
        "select g as id, st_setsrid(st_makepoint(g * 37 % 20000000, g * 91 % 20000000), 3857) as the_geom_webmercator"
        " from generate_series(1, 300000) g"
    )
    created = maps.create(layer(sql, "#l { marker-width: 2; marker-fill: red; marker-allow-overlap: true; }"))
    answer = maps.get(created, "0/0/0.mvt")
    assert answer.status_code in (200, 503)
    assert len(answer.content) < 20_000_000
    assert maps.get(created, "0/0/0.png").status_code in (200, 503)


def test_more_requests_than_the_queue_holds_are_turned_away(maps: MapsServer) -> None:
    created = maps.create(endless())
    other = maps.create(layer("select * from lands", FILL))
    with ThreadPoolExecutor(80) as executor:
        answers = list(executor.map(lambda number: maps.get(created, f"8/{number * 2}/100.png"), range(80)))
    statuses = {answer.status_code for answer in answers}
    assert statuses <= {200, 503}
    assert any("busy" in answer.text or "timed out" in answer.text for answer in answers if answer.status_code == 503)
    settled(maps)
    assert maps.get(other, "0/0/0.png").status_code == 200
