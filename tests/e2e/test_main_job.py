"""The main job, on real parts: a datapoint on Kafka becomes a clickable point on a map, seen from outside nginx."""

import io
import os
import signal
import time
from typing import Any

import pytest
from PIL import Image

from flowstack.deployment import Deployment
from flowstack.processes import descendants
from records import map_of, record

# Tile 6/32/21 holds Amsterdam; within it the point lies at pixel 223, 6 or so.
TILE = "6/32/21"
SAMPLE = map_of()


def identifiers(grid: dict[str, Any]) -> set[str]:
    return {values["identifier"] for values in grid["data"].values()}


def image_of(body: bytes) -> Image.Image:
    return Image.open(io.BytesIO(body)).convert("RGBA")


@pytest.fixture(scope="module")
def filled(deployment: Deployment) -> tuple[str, str]:
    """Two topics with one point each, at the same place."""
    topics = deployment.new_topic(), deployment.new_topic("datapoint.other")
    for topic, name in zip(topics, ("one", "two"), strict=True):
        deployment.push(topic, [record(name)])
    for topic in topics:
        deployment.wait_for(topic, 1)
    return topics


def test_a_point_can_be_seen_and_clicked(deployment: Deployment, filled: tuple[str, str]) -> None:
    created = deployment.create_map(filled[0], SAMPLE)
    map_id = created["layergroupid"]
    image = image_of(deployment.get(f"/layergroup/{map_id}/{TILE}.png").content)
    # The style of version 2.0.0 draws a marker of width 10 twenty pixels wide.
    drawn = [(x, y) for x in range(256) for y in range(256) if image.getpixel((x, y)) == (0xE0, 0x00, 0x50, 255)]
    columns, rows = [x for x, _ in drawn], [y for _, y in drawn]
    assert 222 <= sum(columns) / len(columns) <= 224
    assert 17 <= max(columns) - min(columns) <= 20
    assert min(rows) == 0
    grid = deployment.get(f"/layergroup/{map_id}/0/{TILE}.grid.json").json()
    assert grid["data"] == {"1": {"identifier": "one"}}
    # Cells are four pixels wide: the point's own is 223 / 4.
    assert grid["grid"][1][55] == grid["grid"][1][56] != " "


def test_data_of_two_topics_never_mix(deployment: Deployment, filled: tuple[str, str]) -> None:
    first, second = (deployment.create_map(topic, SAMPLE)["layergroupid"] for topic in filled)
    assert first.split(":")[0] != second.split(":")[0]
    seen = [deployment.get(f"/layergroup/{map_id}/0/0/0/0.grid.json").json() for map_id in (first, second)]
    assert [identifiers(grid) for grid in seen] == [{"one"}, {"two"}]


def test_two_serve_processes_answer_the_same_grid(deployment: Deployment, filled: tuple[str, str]) -> None:
    map_id = deployment.create_map(filled[0], SAMPLE)["layergroupid"]
    answers = [deployment.client.get(f"{url}/layergroup/{map_id}/0/{TILE}.grid.json") for url in deployment.serve_urls]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    assert identifiers(answers[0].json()) == {"one"}


def test_metrics_tell_what_was_done(deployment: Deployment, filled: tuple[str, str]) -> None:
    deployment.get(f"/layergroup/{deployment.create_map(filled[0], SAMPLE)['layergroupid']}/0/0/0.png")
    topic = filled[0]
    assert deployment.metric("fn_runs_total", fn="upsert-datapoints", topic=topic, result="success") >= 1
    assert deployment.metric("fn_duration_seconds_count", fn="create-tenant-db") >= 2
    assert deployment.metric("datapoint_process", topic=topic, name="upsert") == 1
    assert deployment.metric("http_request_latency_seconds_count", path="create", status="200") >= 1
    assert deployment.metric("http_request_latency_seconds_count", path="tile", status="200", format="png") >= 1
    assert deployment.get("/metrics").status_code == 404


def test_new_data_give_a_map_new_tile_addresses(deployment: Deployment) -> None:
    topic = deployment.new_topic()
    deployment.push_and_wait(topic, [record("early")])
    before = deployment.create_map(topic, SAMPLE)["layergroupid"]
    assert deployment.create_map(topic, SAMPLE)["layergroupid"] == before
    deployment.push_and_wait(topic, [record("early"), record("late", 5.2, 52.1)])
    after = deployment.create_map(topic, SAMPLE)["layergroupid"]
    assert after.split(":")[0] == before.split(":")[0]
    assert int(after.split(":")[1]) > int(before.split(":")[1])
    grid = deployment.get(f"/layergroup/{after}/0/8/131/84.grid.json").json()
    assert identifiers(grid) == {"early", "late"}


def test_a_map_survives_the_death_of_the_process_that_made_it(deployment: Deployment, filled: tuple[str, str]) -> None:
    serve = deployment.serves[0]
    created = deployment.client.post(
        f"{deployment.serve_urls[0]}/create-map",
        json={"topic": filled[0], "map": SAMPLE},
        headers={"Authorization": f"Bearer {deployment.token}"},
    ).json()
    path = f"/layergroup/{created['layergroupid']}/{TILE}.png"
    serve.kill()
    try:
        assert deployment.client.get(f"{deployment.serve_urls[1]}{path}").status_code == 200
    finally:
        serve.start()
    assert deployment.client.get(f"{deployment.serve_urls[0]}{path}").status_code == 200


def test_a_render_worker_that_dies_is_replaced(deployment: Deployment, filled: tuple[str, str]) -> None:
    map_id = deployment.create_map(filled[0], SAMPLE)["layergroupid"]
    url = f"{deployment.serve_urls[0]}/layergroup/{map_id}"
    assert deployment.client.get(f"{url}/{TILE}.png").status_code == 200
    workers = [pid for pid, command in descendants(deployment.serves[0].pid) if "flowmaps.render.worker" in command]
    assert len(workers) == 2
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    statuses: list[int] = []
    while time.monotonic() < deadline and (not statuses or statuses[-1] != 200):
        answer = deployment.client.get(f"{url}/7/{len(statuses) % 128}/42.png")
        statuses.append(answer.status_code)
        assert answer.status_code in (200, 503)
    assert statuses[-1] == 200
