"""``flow-maps rejected``: look at the records that ingest could not use, try them again, or drop them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from flowmaps.commands.terminal import DryRun, EnvFile, Yes, console, errors, parse_time, progress, read_settings, say
from flowmaps.errors import DatabaseUnavailable, RecordError

if TYPE_CHECKING:
    from flowmaps.ingest.rejected import Kept, Place, Selection
    from flowmaps.settings import Settings

app = typer.Typer(help="Look after the records that could not be used.", no_args_is_help=True)
_SHOWN_BYTES = 1024
_Result = TypeVar("_Result")

Topic = Annotated[str | None, typer.Option(help="Records of this topic; default: of all.")]
Partition = Annotated[int | None, typer.Option(min=0, help="Records of this partition.")]
Offset = Annotated[int | None, typer.Option(min=0, help="The record with this offset.")]
Reason = Annotated[str | None, typer.Option(help="Records with this reason, as `list` shows it.")]
Since = Annotated[
    datetime | None,
    typer.Option(parser=parse_time, metavar="TIME", help="Rejected at or after: ISO 8601, or an age such as 2h or 7d."),
]
Until = Annotated[datetime | None, typer.Option(parser=parse_time, metavar="TIME", help="Rejected before: as --since.")]


@app.command("list")
def list_(
    *,
    topic: Topic = None,
    partition: Partition = None,
    reason: Reason = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="Most records to list.")] = 100,
    env_file: EnvFile = None,
) -> None:
    """List rejected records, in the order of their positions, and count them by reason."""
    from flowmaps.ingest.rejected import Selection, count_rejected, list_rejected

    selection = Selection(topic, partition, None, reason, since, until)
    table = Table("topic", "partition", "offset", "reason", "bytes", "rejected", "message", box=None)
    counts: dict[tuple[str, str], int] = {}
    shown = 0
    for place in _reachable(read_settings(env_file), topic):
        for of_topic, of_reason, count, _ in count_rejected(place, selection):
            counts[of_topic, of_reason] = counts.get((of_topic, of_reason), 0) + count
        for kept in list_rejected(place, selection, limit=limit - shown) if shown < limit else ():
            shown += 1
            table.add_row(
                escape(kept.topic),
                str(kept.partition),
                str(kept.kafka_offset),
                kept.reason,
                str(kept.value_bytes),
                f"{kept.rejected_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
                escape(kept.message),
            )
    if shown:
        console.print(table)
    for (of_topic, of_reason), count in sorted(counts.items()):
        say(f"{of_topic}: {count} with reason {of_reason}")
    say(f"{shown} of {sum(counts.values())} rejected records listed")


@app.command()
def show(topic: str, partition: int, offset: int, env_file: EnvFile = None) -> None:
    """Show one rejected record: why, its key and value, and what its value decodes to today."""
    from flowmaps.ingest.rejected import Selection, list_rejected

    settings = read_settings(env_file)
    found = [
        kept
        for place in _reachable(settings, topic)
        for kept in list_rejected(place, Selection(topic, partition, offset), limit=100)
    ]
    for kept in found:
        _show(settings, kept)
    if not found:
        errors.print(f"no rejected record at {escape(topic)}/{partition}, offset {offset}", highlight=False)
        raise typer.Exit(1)


def _show(settings: Settings, kept: Kept) -> None:
    say(f"{kept.topic}/{kept.partition}, offset {kept.kafka_offset}")
    say(f"  reason    {kept.reason}: {kept.message}")
    say(f"  cluster   {kept.cluster_id}, topic id {kept.topic_id or 'unknown'}")
    say(f"  written   {kept.kafka_time.astimezone(UTC).isoformat() if kept.kafka_time else 'unknown'}")
    say(f"  rejected  {kept.rejected_at.astimezone(UTC).isoformat()}")
    say(f"  key       {kept.key!r}")
    kept_bytes = len(kept.value or b"")
    say(f"  value     {kept.value_bytes} bytes" + ("" if kept.is_whole else f", of which {kept_bytes} are kept"))
    for start in range(0, min(kept_bytes, _SHOWN_BYTES), 16):
        part = (kept.value or b"")[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        say(f"    {start:06x}  {part.hex(' '):47}  {text}")
    if kept.is_whole and settings.registry.url:
        say(f"  decoded   {_decoded(settings, kept)}")


def _decoded(settings: Settings, kept: Kept) -> str:
    from flowmaps.errors import RegistryUnavailable
    from flowmaps.schemas import SchemaRegistry

    with SchemaRegistry(settings.registry) as registry:
        try:
            return json.dumps(registry.decode(kept.value or b""), ensure_ascii=False, default=str)
        except (RecordError, RegistryUnavailable) as error:
            return f"not: {error.message}"


@app.command()
def replay(
    *,
    topic: Topic = None,
    partition: Partition = None,
    offset: Offset = None,
    reason: Reason = None,
    since: Since = None,
    until: Until = None,
    dry_run: DryRun = False,
    env_file: EnvFile = None,
) -> None:
    """Try rejected records again, by today's rules and schemas; those that are stored are rejected no longer."""
    from flowmaps.ingest.rejected import Replayed, Selection, replay_rejected
    from flowmaps.schemas import SchemaRegistry

    settings = read_settings(env_file)
    selection = Selection(topic, partition, offset, reason, since, until)
    found = _counted(settings, topic, selection)
    total = sum(count for _, count in found)
    if dry_run:
        say(f"would try {total} records again")
        return
    with SchemaRegistry(settings.registry) as registry:

        def again(place: Place, announce: Callable[[int], None]) -> Replayed:
            return replay_rejected(settings, place, registry.decode, selection, announce=announce)

        result = sum(_worked_through("replayed", found, again), Replayed())
    say(f"{result.stored} stored, {result.rejected} rejected again, {result.cut} not whole and left alone")


@app.command()
def drop(
    *,
    topic: Topic = None,
    partition: Partition = None,
    offset: Offset = None,
    reason: Reason = None,
    since: Since = None,
    until: Until = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    env_file: EnvFile = None,
) -> None:
    """Delete rejected records for good."""
    from flowmaps.ingest.rejected import Selection, drop_rejected

    settings = read_settings(env_file)
    selection = Selection(topic, partition, offset, reason, since, until)
    found = _counted(settings, topic, selection)
    total = sum(count for _, count in found)
    if dry_run:
        say(f"would delete {total} records")
        return
    if total and not yes:
        typer.confirm(f"Delete {total} rejected records for good?", abort=True)
    dropped = sum(_worked_through("deleted", found, lambda place, _: drop_rejected(place, selection)))
    say(f"{dropped} records deleted")


def _worked_through(
    verb: str, found: Sequence[tuple[Place, int]], work: Callable[[Place, Callable[[int], None]], _Result]
) -> Iterator[_Result]:
    """Yield what *work* makes of each place that holds records, and show progress; it is given what tells its own."""
    before = 0
    with progress(verb, sum(count for _, count in found)) as advance:
        for place, count in found:
            if count:
                yield work(place, partial(_advance, advance, before))
                before += count
                advance(before)


def _advance(advance: Callable[[int], None], before: int, done: int) -> None:
    advance(before + done)


def _counted(settings: Settings, topic: str | None, selection: Selection) -> list[tuple[Place, int]]:
    from flowmaps.ingest.rejected import count_rejected

    return [
        (place, sum(count for _, _, count, _ in count_rejected(place, selection)))
        for place in _reachable(settings, topic)
    ]


def _reachable(settings: Settings, topic: str | None) -> Iterator[Place]:
    """Yield the databases that answer; of all topics' one may be away, which is said and does not hide the others."""
    from flowmaps.ingest.rejected import Selection, list_rejected, places

    for place in places(settings, topic):
        try:
            list_rejected(place, Selection(offset=-1), limit=1)
        except DatabaseUnavailable as error:
            if topic is not None:
                raise
            errors.print(f"[yellow]warning:[/yellow] {escape(place.name)}: {escape(error.message)}", highlight=False)
        else:
            yield place
