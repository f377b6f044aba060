"""Carry out a batch plan: rows, removals, rejected records and next offsets in one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
from psycopg import Connection

from flowmaps.ingest.plan import BatchPlan, Rejected, Removal, Row

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REFUSED = frozenset({"22", "23", "54"})
"""SQLSTATE classes that speak of the row: bad data, broken constraint, too large for the database."""


class FencedError(Exception):
    """Another consumer has claimed these partitions since; ours may write no more of them."""

    def __init__(self, partitions: frozenset[int]) -> None:
        super().__init__(f"partitions {sorted(partitions)} belong to another consumer by now")
        self.partitions = partitions


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write a partition's records, from *next_offset* on."""

    next_offset: int
    fence: int


@dataclass(frozen=True, slots=True)
class Source:
    """Which log: offsets of another cluster or topic mean nothing here."""

    cluster_id: str
    topic: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch did: how many rows changed, and the records that the database refused."""

    changed: int
    refused: tuple[Rejected, ...]


_CLAIM: LiteralString = """
insert into flowmaps.consumer_offset as o (cluster_id, topic, partition, next_offset, fence)
values (%s, %s, %s, %s, 1)
on conflict (cluster_id, topic, partition) do update set fence = o.fence + 1, updated_at = clock_timestamp()
returning next_offset, fence
"""
_FENCE: LiteralString = """
update flowmaps.consumer_offset o
set next_offset = v.next_offset, updated_at = clock_timestamp()
from unnest(%s::integer[], %s::bigint[], %s::bigint[]) as v (partition, next_offset, fence)
where o.cluster_id = %s and o.topic = %s and o.partition = v.partition and o.fence = v.fence
  and o.next_offset <= v.next_offset
returning o.partition
"""
_INCOMING: LiteralString = """
create temporary table if not exists incoming (
    identifier text, survey_id text, created timestamptz, updated timestamptz, longitude float8, latitude float8,
    properties jsonb, kafka_partition integer, kafka_offset bigint
) on commit delete rows
"""
_COPY: LiteralString = """
copy incoming (identifier, survey_id, created, updated, longitude, latitude, properties, kafka_partition, kafka_offset)
from stdin
"""
_UPSERT: LiteralString = """
insert into flowmaps.datapoint as d (
    identifier, survey_id, created_date_time, last_update_date_time, geom, properties, kafka_partition, kafka_offset
)
select
    identifier, survey_id, created, updated, st_setsrid(st_makepoint(longitude, latitude), 4326), properties,
    kafka_partition, kafka_offset
from incoming
on conflict (identifier) do update set
    survey_id = excluded.survey_id,
    created_date_time = excluded.created_date_time,
    last_update_date_time = excluded.last_update_date_time,
    geom = excluded.geom,
    properties = excluded.properties,
    kafka_partition = excluded.kafka_partition,
    kafka_offset = excluded.kafka_offset
where (excluded.last_update_date_time, excluded.kafka_offset, excluded.kafka_partition)
    > (d.last_update_date_time, d.kafka_offset, d.kafka_partition)
"""
_REMOVE: LiteralString = """
update flowmaps.datapoint d
set geom = null, properties = '{}', last_update_date_time = greatest(d.last_update_date_time, v.time),
    kafka_partition = v.partition, kafka_offset = v.kafka_offset
from unnest(%s::text[], %s::timestamptz[], %s::integer[], %s::bigint[])
    as v (identifier, time, partition, kafka_offset)
where d.identifier = v.identifier and (d.kafka_partition <> v.partition or d.kafka_offset < v.kafka_offset)
"""
_REJECT: LiteralString = """
insert into flowmaps.rejected
    (cluster_id, topic, partition, kafka_offset, key, value, value_bytes, reason, message, kafka_time)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
on conflict (cluster_id, topic, partition, kafka_offset) do nothing
"""
_CHANGE: LiteralString = """
update flowmaps.change set last_change = greatest(clock_timestamp(), last_change + interval '1 millisecond')
"""


def claim_partition(conn: Connection[Any], source: Source, partition: int, start: int) -> Claim:
    """Take the partition over from whoever wrote it before; *start* counts only where nobody did."""
    row = conn.execute(_CLAIM, [source.cluster_id, source.topic, partition, start]).fetchone()
    if row is None:
        raise RuntimeError("PostgreSQL returned no row for a claim")
    return Claim(*row)


def record_gap(
    conn: Connection[Any], source: Source, partition: int, claim: Claim, *, found: int, reason: str
) -> Claim:
    """Write down that the stored offset is not in Kafka any more, and return the claim moved to *found*."""
    with conn.transaction():
        moved = conn.execute(
            "update flowmaps.consumer_offset set next_offset = %s"
            " where cluster_id = %s and topic = %s and partition = %s and fence = %s",
            [found, source.cluster_id, source.topic, partition, claim.fence],
        )
        if moved.rowcount != 1:
            raise FencedError(frozenset({partition}))
        conn.execute(
            "insert into flowmaps.gap (cluster_id, topic, partition, stored_offset, found_offset, reason)"
            " values (%s, %s, %s, %s, %s, %s)",
            [source.cluster_id, source.topic, partition, claim.next_offset, found, reason],
        )
    return Claim(found, claim.fence)


def apply_batch(
    conn: Connection[Any], source: Source, plan: BatchPlan, claims: Mapping[int, Claim], *, keep_bytes: int
) -> Applied:
    """Do all of *plan* or nothing; raise `FencedError` where a partition is no longer ours."""
    with conn.transaction():
        _check_fences(conn, source, plan.next_offsets, claims)
        changed, refused = 0, list[Rejected]()
        for step in plan.rounds:
            # One order for all writers, so that two never wait for each other's rows.
            rows = sorted(step.rows.values(), key=lambda row: row.datapoint.identifier)
            changed += _upsert(conn, rows, refused)
            changed += _remove(conn, sorted(step.removals.values(), key=lambda removal: removal.identifier))
        store_rejected(conn, source, [*plan.rejected, *refused], keep_bytes=keep_bytes)
        if changed:
            conn.execute(_CHANGE)
    return Applied(changed, tuple(refused))


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
        record.partition,
        record.offset,
        record.key[:keep_bytes] if record.key is not None else None,
        value[:keep_bytes] if value is not None else None,
        len(value) if value is not None else 0,
        item.reason,
        item.message.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode(),
        _EPOCH + timedelta(milliseconds=record.time_ms) if record.time_ms is not None else None,
    )


def _check_fences(
    conn: Connection[Any], source: Source, next_offsets: Mapping[int, int], claims: Mapping[int, Claim]
) -> None:
    partitions = sorted(next_offsets)
    nexts = [next_offsets[partition] for partition in partitions]
    fences = [claims[partition].fence for partition in partitions]
    rows = conn.execute(_FENCE, [partitions, nexts, fences, source.cluster_id, source.topic])
    if missing := frozenset(partitions) - {row[0] for row in rows}:
        raise FencedError(missing)


def _upsert(conn: Connection[Any], rows: Sequence[Row], refused: list[Rejected]) -> int:
    """Store *rows* and return how many changed the table; add to *refused* what the database does not take."""
    if not rows:
        return 0
    try:
        with conn.transaction():
            return _store(conn, rows)
    except psycopg.Error as error:
        if (error.sqlstate or "")[:2] not in _REFUSED:
            raise
        if len(rows) == 1:
            refused.append(_refusal(rows[0], error))
            return 0
    half = len(rows) // 2
    return _upsert(conn, rows[:half], refused) + _upsert(conn, rows[half:], refused)


def _refusal(row: Row, error: psycopg.Error) -> Rejected:
    message = error.diag.message_primary or "the database refuses the row"
    return Rejected(row.record, "refused", message)


def _store(conn: Connection[Any], rows: Iterable[Row]) -> int:
    conn.execute(_INCOMING)
    # A transaction that stores several rounds fills the table more than once.
    conn.execute("delete from incoming")
    with conn.cursor() as cursor:
        with cursor.copy(_COPY) as copy:
            for row in rows:
                point = row.datapoint
                copy.write_row(
                    (
                        point.identifier,
                        point.survey_id,
                        point.created,
                        point.updated,
                        point.longitude,
                        point.latitude,
                        json.dumps(point.properties, ensure_ascii=False),
                        row.record.partition,
                        row.record.offset,
                    )
                )
        cursor.execute(_UPSERT)
        return cursor.rowcount


def _remove(conn: Connection[Any], removals: Sequence[Removal]) -> int:
    if not removals:
        return 0
    columns = [
        [removal.identifier for removal in removals],
        [removal.time for removal in removals],
        [removal.partition for removal in removals],
        [removal.offset for removal in removals],
    ]
    return conn.execute(_REMOVE, columns).rowcount
