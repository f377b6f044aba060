"""``flow-maps ingest``: follow the topics, and decide about gaps in Kafka's log."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flowmaps.commands.terminal import DryRun, EnvFile, console, read_settings, say, stop_on_signal

app = typer.Typer(help="Follow the topics and write datapoints into the tenants' databases.")
Partition = Annotated[int | None, typer.Option(min=0, help="One partition; default: all.")]


@app.callback(invoke_without_command=True)
def run(context: typer.Context, env_file: EnvFile = None) -> None:
    """Follow the topics and write datapoints into the tenants' databases."""
    if context.invoked_subcommand is not None:
        return
    from flowmaps.ingest import run_ingest

    settings = read_settings(env_file)
    run_ingest(settings, stop=stop_on_signal())


@app.command()
def gaps(
    topic: Annotated[str | None, typer.Argument(help="One topic; default: all.")] = None, env_file: EnvFile = None
) -> None:
    """List the gaps that stop a partition: records that Kafka dropped before they were read."""
    from flowmaps.ingest.repair import open_gaps

    table = Table("topic", "partition", "reason", "from offset", "to offset", "noticed", "accepted", box=None)
    for gap in open_gaps(read_settings(env_file), topic):
        table.add_row(
            escape(gap.topic),
            str(gap.partition),
            gap.reason,
            str(gap.stored_offset),
            str(gap.found_offset),
            f"{gap.noticed_at:%Y-%m-%d %H:%M:%S%z}",
            "yes" if gap.accepted_at else "no",
        )
    console.print(table)


@app.command("accept-gap")
def accept_gap(topic: str, *, partition: Partition = None, dry_run: DryRun = False, env_file: EnvFile = None) -> None:
    """Let a topic's stopped partitions go on without the records that Kafka no longer has."""
    from flowmaps.ingest.repair import accept_gaps, open_gaps

    settings = read_settings(env_file)
    if dry_run:
        found = [gap for gap in open_gaps(settings, topic, partition) if gap.accepted_at is None]
    else:
        found = accept_gaps(settings, topic, partition)
    verb = "would accept" if dry_run else "accepted"
    for gap in found:
        say(f"{verb}: {topic}/{gap.partition}, {gap.reason}, from offset {gap.stored_offset} to {gap.found_offset}")
    if not found:
        say(f"{topic}: no gap waits to be accepted")
