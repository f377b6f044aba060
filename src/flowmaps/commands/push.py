"""``flow-maps push``: write the records of a file to a topic."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from confluent_kafka import Producer

from flowmaps.commands.terminal import EnvFile, read_settings, say


def push(
    topic: str,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="One record a line, as JSON.")],
    env_file: EnvFile = None,
) -> None:
    """Write records of a file to a topic, as Avro in the published schema."""
    from flowmaps.ingest.kafka import kafka_config
    from flowmaps.producer import push_records
    from flowmaps.schemas import open_registry_client

    settings = read_settings(env_file)
    registry = open_registry_client(settings.registry)
    producer = Producer({**kafka_config(settings), "linger.ms": 5})
    count = push_records(producer, registry, ((topic, record) for record in _lines(file)))
    say(f"{count} records written to {topic}")


def _lines(file: Path) -> Iterator[Mapping[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise typer.BadParameter(f"{file}, line {number}: {error}") from error
            if not isinstance(record, dict):
                raise typer.BadParameter(f"{file}, line {number}: not an object")
            yield record
