"""Render workers over a real database: reused, bounded, and replaced when they die or are late."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY

from flowmaps.cartocss import compile_layer
from flowmaps.errors import (
    DatabaseUnavailable,
    InvalidSQL,
    QueryTimeout,
    RemoteUnavailable,
    RendererCrashed,
    RenderQueueFull,
    RenderTimeout,
)
from flowmaps.render import Block, BlockRenderer, MapJob, MapPlan, PlannedLayer, RenderPool, plan_map
from flowmaps.settings import RenderSettings
from flowmaps.tile import TileCoord
from flowstack.postgres import Postgres
from flowstack.processes import free_port

POINT = "select 1 as id, st_setsrid(st_makepoint(0, 0), 3857) as geom"
WORLD = TileCoord(0, 0, 0)


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> str:
    name = postgres.new_database()
    url = postgres.url_of(name)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("create extension postgis")
    return url


@pytest.fixture
def started() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def pool() -> AsyncIterator[RenderPool]:
    async with RenderPool(RenderSettings(workers=2, queue=4, deadline_seconds=3, cached_maps=2)) as opened:
        yield opened


def plan(database: str, sql: str = POINT, css: str = "#a { marker-fill: #f00; }") -> MapPlan:
    style = compile_layer(css, layer_id="a", version="3.0.12")
    return plan_map(
        [PlannedLayer(style, f"({sql}) as cdbq", "geom", 3857)], conninfo=database, buffer_px=0, features_per_tile=1000
    )


def job(plan: MapPlan, tile: TileCoord = WORLD, **more: Any) -> MapJob:
    return MapJob(plan, Block(tile, 1, 1), "image", **more)


def backends(database: str, started: datetime) -> set[int]:
    """Return the server's processes for the workers of this test; those of killed workers may live on for a moment."""
    with psycopg.connect(database) as conn:
        rows = conn.execute(
            "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            " and backend_start > %s",
            [started],
        )
        return {row[0] for row in rows}


async def test_map_objects_and_their_connections_are_reused(pool: RenderPool, database: str, started: datetime) -> None:
    seen = set()
    for number in range(30):
        await pool.render(job(plan(database), TileCoord(5, number, number)))
        seen |= backends(database, started)
    # Two workers, each with the one connection of its map object.
    assert 1 <= len(seen) <= 2


async def test_the_cache_of_map_objects_bounds_connections(pool: RenderPool, database: str, started: datetime) -> None:
    for number in range(12):
        await pool.render(job(plan(database, f"{POINT}, {number} as number")))
    # Two workers that keep two map objects each.
    assert len(backends(database, started)) <= 4


async def test_a_worker_that_dies_costs_one_request(pool: RenderPool, database: str) -> None:
    slow = asyncio.create_task(pool.render(job(plan(database, f"{POINT} from pg_sleep(2)"))))
    await asyncio.sleep(0.7)
    before = pool.pids
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(RendererCrashed):
        await slow
    # Until the idle one's end is known; no job may wait for it.
    await asyncio.sleep(1)
    # The other one died while it had nothing to do.
    for _ in range(4):
        assert (await pool.render(job(plan(database))))[0].startswith(b"\x89PNG")


async def test_a_job_that_hangs_is_given_up_at_its_deadline_and_its_worker_replaced(
    pool: RenderPool, database: str
) -> None:
    started = time.monotonic()
    with pytest.raises(RenderTimeout, match="Render timed out"):
        await pool.render(job(plan(database, f"{POINT} from pg_sleep(60)")))
    assert 2.5 < time.monotonic() - started < 6
    assert await pool.render(job(plan(database)))


async def test_a_full_queue_refuses_at_once(pool: RenderPool, database: str) -> None:
    slow = [asyncio.create_task(pool.render(job(plan(database, f"{POINT} from pg_sleep(1)")))) for _ in range(4)]
    await asyncio.sleep(0.1)
    started = time.monotonic()
    with pytest.raises(RenderQueueFull) as raised:
        await pool.render(job(plan(database)))
    assert time.monotonic() - started < 0.5
    assert raised.value.retry_after_seconds >= 1
    await asyncio.gather(*slow)
    assert await pool.render(job(plan(database)))


async def test_a_caller_who_goes_away_frees_the_place(pool: RenderPool, database: str) -> None:
    waiting = [asyncio.create_task(pool.render(job(plan(database, f"{POINT} from pg_sleep(0.5)")))) for _ in range(4)]
    await asyncio.sleep(0.1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await pool.render(job(plan(database)))


async def test_what_postgresql_refuses_is_named(pool: RenderPool, database: str) -> None:
    with pytest.raises(InvalidSQL, match='column "nope" does not exist') as raised:
        await pool.render(job(plan(database, "select nope, null::geometry as geom")))
    # Neither the connection's parameters nor the whole query are for callers.
    assert "password" not in raised.value.message
    assert "Full sql" not in raised.value.message


async def test_a_database_that_is_away_is_no_callers_error(pool: RenderPool) -> None:
    with pytest.raises(DatabaseUnavailable):
        await pool.render(job(plan(f"postgresql://nobody:secret@127.0.0.1:{free_port()}/none")))


async def test_a_picture_that_is_gone_is_no_callers_error_and_tells_no_path(pool: RenderPool, database: str) -> None:
    style = compile_layer(
        "#a { marker-file: url(http://a/b.png); }", layer_id="a", resources=lambda name: name
    ).with_files({"http://a/b.png": "/var/tmp/gone.png"})
    layers = [PlannedLayer(style, f"({POINT}) as cdbq", "geom", 3857)]
    gone = plan_map(layers, conninfo=database, buffer_px=0, features_per_tile=1000)
    with pytest.raises(RemoteUnavailable) as caught:
        await pool.render(job(gone))
    assert "/var/tmp" not in caught.value.message


async def test_a_statement_timeout_of_the_role_is_a_timeout(pool: RenderPool, database: str) -> None:
    with pytest.raises(QueryTimeout):
        await pool.render(job(plan(f"{database}?options=-c%20statement_timeout%3D200", f"{POINT} from pg_sleep(2)")))


async def test_neighbours_drawn_along_answer_for_each_other(pool: RenderPool, database: str) -> None:
    """Four tiles of a block, asked for at once, are one drawing."""
    tiles, drawn = BlockRenderer(pool, metatile=2), plan(database)
    block = [TileCoord(3, x, y) for x in (4, 5) for y in (4, 5)]
    before = _drawings()
    await asyncio.gather(*(tiles.image(drawn, tile, freshness="1", encoding="png", scale=1) for tile in block))
    await tiles.image(drawn, block[0], freshness="1", encoding="png", scale=1)
    assert _drawings() == before + 1
    # Other data, other drawing.
    await tiles.image(drawn, block[0], freshness="2", encoding="png", scale=1)
    assert _drawings() == before + 2


def _drawings() -> float:
    return REGISTRY.get_sample_value("flowmaps_render_seconds_count", {"output": "image"}) or 0
