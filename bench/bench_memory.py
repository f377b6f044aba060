"""Memory of `serve` and its workers over 100,000 tiles of ten maps, which every worker keeps."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.bench_tiles import TOPIC, load, memory_mib
from bench.report import Report
from flowmaps.demo.places import TENANTS, read_records
from flowmaps.smoke import sample_map
from flowstack.deployment import deployed
from flowstack.stack import Stack

TILES = 100_000
STEP = 20_000
MAPS = 10
ZOOM = 9
"""Its 262,144 tiles are mostly sea: what grows is not what is drawn but what is kept."""


def run(report: Report) -> None:
    """Ask for distinct tiles of ten maps, and look at the memory now and then."""
    with Stack() as stack, deployed(stack, Path(tempfile.mkdtemp(dir=stack.folder)), prefix="bench.") as deployment:
        deployment.push_and_wait(TOPIC, [record for topic, record in read_records() if topic == TENANTS[0].topic])
        maps = [
            deployment.create_map(TOPIC, sample_map(f"select *, {number} as name from datapoint"))["layergroupid"]
            for number in range(MAPS)
        ]
        for first in range(0, TILES, STEP):
            paths = [
                f"/layergroup/{maps[number % MAPS]}/{ZOOM}/{number % 512}/{number // 512}.png"
                for number in range(first, first + STEP)
            ]
            per_second, _ = load(deployment.url, paths)
            report.add(f"memory after {first + STEP:,} tiles", memory_mib(deployment.serves[0].pid), "MiB")
            report.add(f"tiles {first:,} to {first + STEP:,}", per_second, "tiles/s")
