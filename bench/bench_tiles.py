"""Tiles over HTTP beside a bare Mapnik loop and a bare vector tile query, on the places of the demo.

Distinct tiles of zooms 8 to 11, each asked for once, so that no cache answers; the settings are the defaults. The bare
loops draw the same tiles one by one in one process. Requests come over four connections.
"""

from __future__ import annotations

import asyncio
import http.client
import math
import random
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mapnik
import psycopg

from bench.report import Report, percentile
from flowmaps.cartocss import compile_layer
from flowmaps.demo.places import TENANTS, read_records
from flowmaps.render import PlannedLayer, plan_map
from flowmaps.render.vector import VectorLayer, vector_tile
from flowmaps.settings import RenderSettings
from flowmaps.smoke import sample_map
from flowmaps.tile import TILE_PX, WORLD, TileCoord, mercator
from flowstack.deployment import Deployment, deployed
from flowstack.processes import descendants
from flowstack.stack import Stack

TILES = 600
CONNECTIONS = 4
ZOOMS = (8, 9, 10, 11)
TOPIC = "bench.places.datapoint"
TORQUE = {
    "version": "1.5.0",
    "layers": [
        {
            "type": "torque",
            "options": {
                "sql": "select *, hashtext(identifier) % 100 as moment from datapoint",
                "cartocss": (
                    "Map { -torque-frame-count: 64; -torque-resolution: 2; -torque-time-attribute: moment; "
                    "-torque-aggregation-function: 'count(*)'; } #l { marker-width: 3; marker-fill: #e08214; }"
                ),
                "cartocss_version": "2.3.0",
            },
        }
    ],
}


def run(report: Report) -> None:
    """Measure a deployment of this machine."""
    with Stack() as stack, deployed(stack, Path(tempfile.mkdtemp(dir=stack.folder)), prefix="bench.") as deployment:
        records = [record for topic, record in read_records() if topic == TENANTS[0].topic]
        _measure_visible(report, deployment)
        deployment.push_and_wait(TOPIC, records)
        tiles = tiles_with_points(records)
        conninfo = deployment.tenant(TOPIC).conninfo_reader
        created = deployment.create_map(TOPIC, sample_map())
        base = f"/layergroup/{created['layergroupid']}"
        report.add("bare Mapnik loop, Mapnik's own PNG", _bare_mapnik(conninfo, tiles, "png"), "tiles/s")
        bare_png = _bare_mapnik(conninfo, tiles, RenderSettings().png_options)
        report.add("bare Mapnik loop, our PNG", bare_png, "tiles/s")
        bare_mvt = asyncio.run(_bare_mvt(conninfo, tiles))
        report.add("bare ST_AsMVT query", bare_mvt, "tiles/s")
        for name, path, limit, rate in (
            ("PNG", "{z}/{x}/{y}.png", "bare Mapnik loop, our PNG", bare_png),
            ("grid", "0/{z}/{x}/{y}.grid.json", "bare Mapnik loop, our PNG", bare_png),
            ("vector tile", "{z}/{x}/{y}.mvt", "bare ST_AsMVT query", bare_mvt),
        ):
            paths = [f"{base}/{path.format(z=tile.z, x=tile.x, y=tile.y)}" for tile in tiles]
            per_second, p95 = load(deployment.url, paths)
            report.add(f"{name} through nginx", per_second, "tiles/s", limit=limit, ratio=per_second / rate)
            report.add(f"{name} through nginx, p95", p95 * 1000, "ms")
        _measure_other(report, deployment, base, tiles)
        report.add("memory of serve and its workers", memory_mib(deployment.serves[0].pid), "MiB")


def _measure_other(report: Report, deployment: Deployment, base: str, tiles: Sequence[TileCoord]) -> None:
    """Measure torque tiles and static maps, one request at a time over each connection."""
    torque = deployment.create_map(TOPIC, TORQUE)["layergroupid"]
    few = tiles[:100]
    for name, paths in (
        ("torque data", [f"/layergroup/{torque}/0/{t.z}/{t.x}/{t.y}.torque.json" for t in few]),
        ("torque image", [f"/layergroup/{torque}/0/{t.z}/{t.x}/{t.y}.torque.png" for t in few]),
        ("static map 800 by 600", [_static(base, tile) for tile in few[:40]]),
    ):
        per_second, p95 = load(deployment.url, paths)
        report.add(f"{name} through nginx", per_second, "answers/s")
        report.add(f"{name} through nginx, p95", p95 * 1000, "ms")


def _static(base: str, tile: TileCoord) -> str:
    longitude, latitude = position(tile)
    layergroup = base.removeprefix("/layergroup/")
    return f"/layergroup/static/center/{layergroup}/{tile.z}/{latitude:.5f}/{longitude:.5f}/800/600.png"


def position(tile: TileCoord) -> tuple[float, float]:
    """Return longitude and latitude of a tile's north-western corner, in degrees."""
    side = 1 << tile.z
    latitude = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * tile.y / side))))
    return tile.x / side * 360 - 180, latitude


def _measure_visible(report: Report, deployment: Deployment) -> None:
    """Measure from a record's delivery to its point in a grid, one record at a time."""
    topic = "bench.visible.datapoint"
    template: dict[str, Any] = next(record for _, record in read_records())
    deployment.push_and_wait(topic, [template])
    times = []
    for number in range(20):
        identifier = f"visible-{number}"
        deployment.push(topic, [{**template, "identifier": identifier, "longitude": number * 10.0 - 100}])
        started = time.perf_counter()
        while not _is_visible(deployment, topic, identifier):
            pass
        times.append(time.perf_counter() - started)
    report.add("produced to visible, p50", percentile(times, 50) * 1000, "ms")
    report.add("produced to visible, p95", percentile(times, 95) * 1000, "ms")


def _is_visible(deployment: Deployment, topic: str, identifier: str) -> bool:
    map_id = deployment.create_map(topic, sample_map())["layergroupid"]
    grid = deployment.get(f"/layergroup/{map_id}/0/0/0/0.grid.json").json()
    return any(values["identifier"] == identifier for values in grid["data"].values())


def tiles_with_points(
    records: Sequence[dict[str, Any]], count: int = TILES, zooms: Sequence[int] = ZOOMS
) -> list[TileCoord]:
    """Return *count* distinct tiles, each with at least one of the places."""
    chosen: dict[TileCoord, None] = {}
    randomness = random.Random(1)
    while len(chosen) < count:
        record, zoom = randomness.choice(records), randomness.choice(zooms)
        x, y = mercator(record["longitude"], record["latitude"])
        side = 2 * WORLD / (1 << zoom)
        chosen[TileCoord(zoom, int((x + WORLD) / side), int((WORLD - y) / side))] = None
    return list(chosen)


def _bare_mapnik(conninfo: str, tiles: Sequence[TileCoord], encoding: str) -> float:
    options = sample_map()["layers"][0]["options"]
    style = compile_layer(options["cartocss"], layer_id="layer0", version=options["cartocss_version"])
    layer = PlannedLayer(style, f"({options['sql']}) as cdbq", "the_geom_webmercator", 3857)
    plan = plan_map([layer], conninfo=conninfo, buffer_px=64, features_per_tile=200_000)
    drawn = mapnik.Map(TILE_PX, TILE_PX)
    mapnik.load_map_from_string(drawn, plan.xml, False, "")

    def draw(tile: TileCoord) -> None:
        drawn.zoom_to_box(mapnik.Box2d(*tile.bounds))
        image = mapnik.Image(TILE_PX, TILE_PX)
        mapnik.render(drawn, image)
        image.to_string(encoding)

    draw(tiles[0])
    return _rate(draw, tiles)


def _rate(action: Callable[[TileCoord], object], tiles: Sequence[TileCoord]) -> float:
    started = time.perf_counter()
    for tile in tiles:
        action(tile)
    return len(tiles) / (time.perf_counter() - started)


async def _bare_mvt(conninfo: str, tiles: Sequence[TileCoord]) -> float:
    sql = sample_map()["layers"][0]["options"]["sql"]
    columns = ("identifier", "survey_id", "name")
    layer = VectorLayer("layer0", f"({sql}) as cdbq", "the_geom_webmercator", 3857, columns)
    async with await psycopg.AsyncConnection.connect(conninfo) as conn:
        started = time.perf_counter()
        for tile in tiles:
            await vector_tile(
                conn, [layer], tile, extent=4096, simplify_extent=256, buffer_px=64, features_per_tile=200_000
            )
        return len(tiles) / (time.perf_counter() - started)


def load(url: str, paths: Sequence[str]) -> tuple[float, float]:
    """Ask for every path once, over a few connections; return answers per second and the 95th percentile."""
    address = urlsplit(url)
    waiting, times, failures = list(paths), list[float](), list[str]()

    def work() -> None:
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        while True:
            try:
                path = waiting.pop()
            except IndexError:
                break
            started = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            times.append(time.perf_counter() - started)
            if answer.status not in (200, 204):
                failures.append(f"{path}: {answer.status}")
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - started
    if failures:
        raise RuntimeError(f"{len(failures)} requests failed, the first: {failures[0]}")
    return len(times) / taken, percentile(times, 95)


def memory_mib(pid: int) -> float:
    """Return the resident memory of a process and all below it."""
    total = 0
    for process in (pid, *(child for child, _ in descendants(pid))):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
    return total / 1024
