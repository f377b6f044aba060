"""``flow-maps push``: write the records of a file to a topic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from confluent_kafka import Producer

from flowmaps.commands.terminal import DryRun, EnvFile, progress, read_settings, say
from flowmaps.producer import FileFormat, push_records, read_file


def push(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV, GeoJSON, or JSON lines.")],
    *,
    topic: Annotated[str, typer.Option(help="Topic to write to.")],
    file_format: Annotated[
        FileFormat | None, typer.Option("--format", help="Format of the file; default: by its suffix.")
    ] = None,
    survey: Annotated[int | None, typer.Option(help="Survey of records that name none.")] = None,
    dry_run: DryRun = False,
    env_file: EnvFile = None,
) -> None:
    """Write the records of a file to a topic, as Avro in the published schema, with further fields as optional ones.

    The whole file is checked before the first record is written. A record needs an identifier (or id); latitude and
    longitude may also be called lat and lon; times are milliseconds since 1970 or ISO 8601.
    """
    from flowmaps.ingest.kafka import kafka_config
    from flowmaps.schemas import open_registry_client

    records = read_file(file, file_format, survey=survey)
    if dry_run:
        extra = [field["doc"] for field in records.schema["fields"] if "doc" in field and "default" in field]
        say(f"would write {records.count} records to {topic}; further fields: {', '.join(extra) or 'none'}")
        return
    settings = read_settings(env_file)
    producer = Producer({**kafka_config(settings), "linger.ms": 5, "enable.idempotence": True})
    with open_registry_client(settings.registry) as registry, progress("written", records.count) as advance:
        count = push_records(
            producer, registry, ((topic, record) for record in records), schema=records.schema, announce=advance
        )
    say(f"{count} records written to {topic}")
