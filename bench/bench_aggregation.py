"""What aggregation saves in a vector tile of many points, and what a ramp's classes cost, beside bare queries."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import psycopg

from bench.report import Report
from flowmaps.mapsql import TokenValues, subquery, substitute_tokens
from flowmaps.mapsql.aggregation import Aggregation, aggregated_sql
from flowmaps.render.classes import classify
from flowmaps.render.describe import describe
from flowmaps.render.vector import VectorLayer, encodable, vector_tile
from flowmaps.settings import parse_settings
from flowmaps.tenants import migrate_master, provision_tenant
from flowmaps.tile import TileCoord
from flowmaps.turbocarto import METHODS, Question
from flowstack.stack import Stack

Connection = psycopg.AsyncConnection[Any]
POINTS = 300_000
REPEATS = 5
BUFFER_PX = 64
COLUMNS = ("identifier", "survey_id", "properties", "the_geom_webmercator")
SQL = f"select {', '.join(COLUMNS)} from datapoint"
AGGREGATIONS = {
    "default": Aggregation(),
    "centroid": Aggregation(placement="centroid"),
    "centroid of 4 pixels": Aggregation(placement="centroid", resolution=4),
}
_FILL = """
insert into flowmaps.datapoint (identifier, survey_id, geom, properties)
select 'point-' || n, (n % 7)::text, st_setsrid(st_makepoint(random() * 300 - 150, random() * 120 - 60), 4326),
    jsonb_build_object('name', 'Point ' || n, 'status', n % 4)
from generate_series(1, {points}) as n;
analyze flowmaps.datapoint;
"""


def run(report: Report) -> None:
    with Stack() as stack:
        url = stack.postgres.url_of(stack.postgres.new_database())
        settings = parse_settings({"FLOWMAPS_DATABASE_URL": url, "FLOWMAPS_SECRET_KEY": secrets.token_hex(16)})
        migrate_master(url)
        tenant = provision_tenant(settings, f"bench{secrets.token_hex(3)}.datapoint")
        with psycopg.connect(tenant.conninfo_owner, autocommit=True) as conn:
            conn.execute(_FILL.format(points=POINTS).encode())
        asyncio.run(_measure(report, tenant.conninfo_reader))


async def _measure(report: Report, conninfo: str) -> None:
    async with await psycopg.AsyncConnection.connect(conninfo) as conn:
        for tile in (TileCoord(0, 0, 0), TileCoord(3, 4, 3)):
            await _vector_tiles(report, conn, tile)
        await _classes(report, conn)


async def _vector_tiles(report: Report, conn: Connection, tile: TileCoord) -> None:
    name = f"vector tile z{tile.z}"
    plain = len(await _tile(conn, SQL, tile))
    bare = await _seconds(lambda: _tile(conn, SQL, tile))
    report.add(f"{name}, every point", bare * 1000, "ms")
    report.add(f"{name}, every point", plain / 1024, "KiB")
    for kind, aggregation in AGGREGATIONS.items():
        sql = aggregated_sql(SQL, aggregation, geom_column=COLUMNS[-1], columns=COLUMNS)
        size = len(await _tile(conn, sql, tile))
        took = await _seconds(partial(_tile, conn, sql, tile))
        report.add(f"{name}, {kind}", took * 1000, "ms", limit="every point", ratio=took / bare)
        report.add(f"{name}, {kind}", size / 1024, "KiB", limit="every point", ratio=size / plain)


async def _tile(conn: Connection, sql: str, tile: TileCoord) -> bytes:
    query = subquery(substitute_tokens(sql, TokenValues.of_tile(tile, srid=3857, buffer_px=BUFFER_PX)))
    columns = encodable(await describe(conn, query))
    layer = VectorLayer("layer0", query, COLUMNS[-1], 3857, columns)
    return await vector_tile(
        conn, [layer], tile, extent=4096, simplify_extent=256, buffer_px=BUFFER_PX, features_per_tile=POINTS
    )


async def _classes(report: Report, conn: Connection) -> None:
    query = subquery("select st_x(geom) as x, survey_id from datapoint")
    bare = await _seconds(lambda: conn.execute(f"select min(x), max(x), avg(x) from {query}".encode()))
    report.add(f"bare scan of {POINTS:,} points", bare * 1000, "ms")
    for method in METHODS:
        question = Question("survey_id" if method == "category" else "x", method, 7)
        took = await _seconds(partial(classify, conn, query, question))
        report.add(f"ramp's classes, {method}", took * 1000, "ms", limit="bare scan", ratio=took / bare)


async def _seconds(action: Callable[[], Awaitable[object]]) -> float:
    """Return the median time of *action*."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        await action()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
