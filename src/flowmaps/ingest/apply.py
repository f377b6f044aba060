"""Carry out a batch plan: rows, removals, rejected records and next offsets in one transaction."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
from psycopg import Connection

from flowmaps.ingest.claims import Claim, FencedError, Source
from flowmaps.ingest.plan import BatchPlan, Rejected, Removal, Row

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NULL = r"\N"
_SPECIAL = re.compile(r"[\\\t\n\r]")
"""What COPY's text form gives a meaning."""
_REFUSED = frozenset({"22", "23", "54"})
"""SQLSTATE classes that speak of the row: bad data, broken constraint, too large for the database."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch did: rows that changed, points that tombstones removed, records that the database refused."""

    changed: int
    removed: int
    refused: tuple[Rejected, ...]


_FENCE: LiteralString = """
update flowmaps.consumer_offset o
set next_offset = v.next_offset, updated_at = clock_timestamp()
from unnest(%s::integer[], %s::bigint[], %s::bigint[], %s::bigint[]) as v (partition, stored, next_offset, fence)
where o.cluster_id = %s and o.topic = %s and o.partition = v.partition and o.fence = v.fence
  -- A server that lost its last commits, or was restored, stands elsewhere than its consumer thinks.
  and o.next_offset = v.stored
returning o.partition
"""
_INCOMING: LiteralString = """
create temporary table if not exists incoming (
    identifier text, survey_id text, created timestamptz, updated timestamptz, longitude float8, latitude float8,
    properties jsonb, kafka_log integer, kafka_partition integer, kafka_offset bigint, kafka_time timestamptz
) on commit delete rows
"""
_COPY: LiteralString = """
copy incoming (
    identifier, survey_id, created, updated, longitude, latitude, properties, kafka_log, kafka_partition, kafka_offset,
    kafka_time
) from stdin
"""
_UPSERT: LiteralString = """
insert into flowmaps.datapoint as d (
    identifier, survey_id, created_date_time, last_update_date_time, geom, properties, kafka_log, kafka_partition,
    kafka_offset, kafka_time
)
select
    identifier, survey_id, created, updated, st_setsrid(st_makepoint(longitude, latitude), 4326), properties,
    kafka_log, kafka_partition, kafka_offset, kafka_time
from incoming
on conflict (identifier) do update set
    survey_id = excluded.survey_id,
    created_date_time = excluded.created_date_time,
    last_update_date_time = excluded.last_update_date_time,
    geom = excluded.geom,
    properties = excluded.properties,
    kafka_log = excluded.kafka_log,
    kafka_partition = excluded.kafka_partition,
    kafka_offset = excluded.kafka_offset,
    kafka_time = excluded.kafka_time
where (excluded.last_update_date_time, excluded.kafka_log, excluded.kafka_offset, excluded.kafka_partition)
    > (d.last_update_date_time, d.kafka_log, d.kafka_offset, d.kafka_partition)
"""
_REMOVE: LiteralString = """
update flowmaps.datapoint d
set geom = null, properties = '{}', kafka_log = v.log, kafka_partition = v.partition, kafka_offset = v.kafka_offset,
    kafka_time = v.time
from unnest(%s::text[], %s::timestamptz[], %s::integer[], %s::integer[], %s::bigint[])
    as v (identifier, time, log, partition, kafka_offset)
where d.identifier = v.identifier and (
    d.kafka_log < v.log
    or d.kafka_log = v.log and case
        when d.kafka_partition = v.partition then d.kafka_offset < v.kafka_offset
        else coalesce(d.kafka_time, '-infinity') <= v.time
    end
)
"""
"""A tombstone takes the newest record's place and keeps its time: older ones stay away, a newer one comes back."""
_REJECT: LiteralString = """
insert into flowmaps.rejected
    (cluster_id, topic, topic_id, partition, kafka_offset, key, value, value_bytes, reason, message, kafka_time)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
on conflict (cluster_id, topic, topic_id, partition, kafka_offset) do nothing
"""
_CHANGE: LiteralString = """
update flowmaps.change set last_change = greatest(clock_timestamp(), last_change + interval '1 millisecond')
"""


def apply_batch(
    conn: Connection[Any], source: Source, plan: BatchPlan, claims: Mapping[int, Claim], *, keep_bytes: int
) -> Applied:
    """Do all of *plan* or nothing; raise `FencedError` where a partition is no longer ours."""
    with conn.transaction():
        _check_fences(conn, source, plan.next_offsets, claims)
        applied = apply_rounds(conn, plan, {partition: claim.log for partition, claim in claims.items()})
        store_rejected(conn, source, [*plan.rejected, *applied.refused], keep_bytes=keep_bytes)
    return applied


def apply_rounds(conn: Connection[Any], plan: BatchPlan, logs: Mapping[int, int]) -> Applied:
    """Do what *plan* says of rows, in the caller's transaction; *logs* numbers the log of each partition."""
    changed, removed, refused = 0, 0, list[Rejected]()
    for step in plan.rounds:
        # One order for all writers, so that two never wait for each other's rows.
        rows = sorted(step.rows.values(), key=lambda row: row.datapoint.identifier)
        changed += _upsert(conn, rows, logs, refused)
        removed += _remove(conn, sorted(step.removals.values(), key=lambda removal: removal.identifier), logs)
    if changed or removed:
        conn.execute(_CHANGE)
    return Applied(changed, removed, tuple(refused))


def store_rejected(conn: Connection[Any], source: Source, rejected: Sequence[Rejected], *, keep_bytes: int) -> None:
    """Keep the records with up to *keep_bytes* of their value; one that is kept already is left as it is."""
    if not rejected:
        return
    with conn.cursor() as cursor:
        cursor.executemany(_REJECT, [_rejected_row(source, item, keep_bytes) for item in rejected])


def _rejected_row(source: Source, item: Rejected, keep_bytes: int) -> tuple[object, ...]:
    record = item.record
    value = record.value
    return (
        source.cluster_id,
        source.topic,
        source.topic_id,
        record.partition,
        record.offset,
        record.key[:keep_bytes] if record.key is not None else None,
        value[:keep_bytes] if value is not None else None,
        len(value) if value is not None else 0,
        item.reason,
        item.text,
        _time(record.time_ms),
    )


def _time(milliseconds: int | None) -> datetime | None:
    """Return Kafka's time of a record; producers may write any number there."""
    return None if milliseconds is None else _EPOCH + timedelta(milliseconds=min(max(milliseconds, 0), 2**47))


def _check_fences(
    conn: Connection[Any], source: Source, next_offsets: Mapping[int, int], claims: Mapping[int, Claim]
) -> None:
    partitions = sorted(next_offsets)
    stored = [claims[partition].next_offset for partition in partitions]
    nexts = [next_offsets[partition] for partition in partitions]
    fences = [claims[partition].fence for partition in partitions]
    rows = conn.execute(_FENCE, [partitions, stored, nexts, fences, source.cluster_id, source.topic])
    if missing := frozenset(partitions) - {row[0] for row in rows}:
        raise FencedError(missing)


def _upsert(conn: Connection[Any], rows: Sequence[Row], logs: Mapping[int, int], refused: list[Rejected]) -> int:
    """Store *rows* and return how many changed the table; add to *refused* what the database does not take."""
    if not rows:
        return 0
    try:
        with conn.transaction():
            return _store(conn, rows, logs)
    except psycopg.Error as error:
        if (error.sqlstate or "")[:2] not in _REFUSED:
            raise
        if len(rows) == 1:
            refused.append(_refusal(rows[0], error))
            return 0
    half = len(rows) // 2
    return _upsert(conn, rows[:half], logs, refused) + _upsert(conn, rows[half:], logs, refused)


def _refusal(row: Row, error: psycopg.Error) -> Rejected:
    message = error.diag.message_primary or "the database refuses the row"
    return Rejected(row.record, "refused", message)


def _store(conn: Connection[Any], rows: Iterable[Row], logs: Mapping[int, int]) -> int:
    conn.execute(_INCOMING)
    # A transaction that stores several rounds fills the table more than once.
    conn.execute("delete from incoming")
    text = "".join([_line(row, logs[row.record.partition]) for row in rows])
    with conn.cursor() as cursor:
        with cursor.copy(_COPY) as copy:
            copy.write(text)
        cursor.execute(_UPSERT)
        return cursor.rowcount


def _line(row: Row, log: int) -> str:
    """Return the row as COPY's text form has it, which costs a quarter of adapting each value by itself."""
    point, record = row.datapoint, row.record
    place = f"{_NULL}\t{_NULL}" if point.longitude is None else f"{point.longitude!r}\t{point.latitude!r}"
    created = _NULL if point.created is None else point.created.isoformat()
    time = _time(record.time_ms)
    return (
        f"{_escaped(point.identifier)}\t{_escaped(point.survey_id)}\t{created}\t{point.updated.isoformat()}\t{place}"
        f"\t{_escaped(point.properties_json)}\t{log}\t{record.partition}\t{record.offset}"
        f"\t{_NULL if time is None else time.isoformat()}\n"
    )


def _escaped(text: str) -> str:
    if _SPECIAL.search(text) is None:
        return text
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _remove(conn: Connection[Any], removals: Sequence[Removal], logs: Mapping[int, int]) -> int:
    if not removals:
        return 0
    columns = [
        [removal.identifier for removal in removals],
        [removal.time for removal in removals],
        [logs[removal.partition] for removal in removals],
        [removal.partition for removal in removals],
        [removal.offset for removal in removals],
    ]
    return conn.execute(_REMOVE, columns).rowcount
