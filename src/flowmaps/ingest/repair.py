"""Change, from outside, where a topic's consumers go on: accept a gap, or read records once more.

Both are written to the tenant's database, under the same rows and fences that consumers use, and running consumers are
told by the tenant's revision in the master database.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg import Connection
from psycopg.rows import class_row

from flowmaps.errors import InvalidRequest
from flowmaps.ingest.kafka import Observer
from flowmaps.settings import Settings
from flowmaps.tenants import Tenant, list_tenants, load_tenant, touch_tenant, translate_database_errors


@dataclass(frozen=True, slots=True)
class OpenGap:
    """A partition that waits: the records from *stored_offset* to *found_offset* are not in Kafka any more."""

    topic: str
    partition: int
    reason: str
    stored_offset: int
    found_offset: int
    noticed_at: datetime
    accepted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Rewound:
    """A partition, where it stood, and where it goes on now."""

    partition: int
    before: int
    after: int


_GAPS: LiteralString = """
select topic, partition, reason, stored_offset, found_offset, noticed_at, accepted_at
from flowmaps.gap
where resumed_at is null and (%(partition)s::integer is null or partition = %(partition)s)
order by partition
"""


def open_gaps(settings: Settings, topic: str | None = None, partition: int | None = None) -> list[OpenGap]:
    """Return the gaps that were not resumed yet, of one topic or of all.

    Raise `UnknownTenant` or `DatabaseUnavailable`.
    """
    found = []
    for tenant in _tenants(settings, topic):
        with _owner(tenant) as conn, conn.cursor(row_factory=class_row(OpenGap)) as cursor:
            found += cursor.execute(_GAPS, {"partition": partition}).fetchall()
    return found


def accept_gaps(settings: Settings, topic: str, partition: int | None = None) -> list[OpenGap]:
    """Let the topic's stopped partitions go on where Kafka's log begins now; return the gaps accepted by this call."""
    (tenant,) = _tenants(settings, topic)
    with _owner(tenant) as conn, conn.transaction(), conn.cursor(row_factory=class_row(OpenGap)) as cursor:
        found = cursor.execute(_GAPS, {"partition": partition}).fetchall()
        conn.execute(
            "update flowmaps.gap set accepted_at = clock_timestamp() where resumed_at is null and accepted_at is null"
            " and (%(partition)s::integer is null or partition = %(partition)s)",
            {"partition": partition},
        )
    # Told even where nothing was left to accept: a call that died between the two is repeated.
    _tell(settings, topic)
    return [gap for gap in found if gap.accepted_at is None]


def rewind(
    settings: Settings,
    observer: Observer,
    topic: str,
    to: int | datetime | None,
    *,
    partition: int | None = None,
    dry_run: bool = False,
) -> list[Rewound]:
    """Let the topic's partitions be read again from an offset, from a time, or (None) from where Kafka's log begins.

    Nothing is doubled by it. Raise `InvalidRequest` for what would skip records, or is not in Kafka.
    """
    (tenant,) = _tenants(settings, topic)
    cluster_id = observer.cluster_id()
    known = observer.partitions(topic)
    if not known or (partition is not None and partition not in known):
        raise InvalidRequest(f"Kafka has no topic {topic}" if not known else f"{topic} has no partition {partition}")
    starts = {number: _start(observer, topic, number, to) for number in known if partition in {None, number}}
    with _owner(tenant) as conn, conn.transaction():
        rows = conn.execute(
            "select partition, next_offset from flowmaps.consumer_offset"
            " where cluster_id = %s and topic = %s and partition = any(%s) order by partition for update",
            [cluster_id, topic, list(starts)],
        ).fetchall()
        # A time may lie after where a partition stands: that partition then stays.
        moves = [
            Rewound(number, before, min(starts[number], before) if isinstance(to, datetime) else starts[number])
            for number, before in rows
        ]
        for move in moves:
            if move.after > move.before:
                raise InvalidRequest(
                    f"partition {move.partition} stands at {move.before}: to go on at {move.after} would skip records"
                )
        if not dry_run:
            for move in moves:
                conn.execute(
                    "update flowmaps.consumer_offset"
                    " set next_offset = %s, fence = fence + 1, updated_at = clock_timestamp()"
                    " where cluster_id = %s and topic = %s and partition = %s",
                    [move.after, cluster_id, topic, move.partition],
                )
    if not dry_run:
        _tell(settings, topic)
    return moves


def _start(observer: Observer, topic: str, partition: int, to: int | datetime | None) -> int:
    found = observer.log_range(topic, partition, mark="")
    if to is None:
        return found.low
    if isinstance(to, datetime):
        at = observer.offset_at(topic, partition, round(to.timestamp() * 1000))
        return found.high if at is None else at
    if not found.low <= to <= found.high:
        raise InvalidRequest(f"Kafka holds offsets {found.low} to {found.high} of partition {partition}, not {to}")
    return to


def _tenants(settings: Settings, topic: str | None) -> list[Tenant]:
    with translate_database_errors(), psycopg.connect(settings.database.url.get_secret_value()) as master:
        if topic is not None:
            return [load_tenant(master, settings, topic)]
        return [tenant for tenant in list_tenants(master, settings) if tenant.state == "ready"]


def _tell(settings: Settings, topic: str) -> None:
    with translate_database_errors(), psycopg.connect(settings.database.url.get_secret_value()) as master:
        touch_tenant(master, topic)


@contextmanager
def _owner(tenant: Tenant) -> Iterator[Connection[Any]]:
    with translate_database_errors(), psycopg.connect(tenant.conninfo_owner, autocommit=True) as conn:
        yield conn
