"""The records that were rejected: look at them, try them again, or drop them.

They are in the database of their tenant, or in the master database while their topic has none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.rows import class_row

from flowmaps.ingest.apply import Applied, apply_rounds
from flowmaps.ingest.claims import Source, log_number
from flowmaps.ingest.plan import BatchPlan, Decode, Record, Rejected, plan_batch
from flowmaps.settings import Settings
from flowmaps.tenants import (
    Tenant,
    TenantReader,
    migrate_tenant,
    provision_tenant,
    translate_database_errors,
)

BATCH_RECORDS = 500
Announce = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rejected records are meant; None means any. Times are those of rejection, *until* is not included."""

    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A rejected record as it was kept; *value* is cut where *value_bytes*, its size, is more."""

    cluster_id: str
    topic: str
    topic_id: str
    partition: int
    kafka_offset: int
    key: bytes | None
    value: bytes | None
    value_bytes: int
    reason: str
    message: str
    kafka_time: datetime | None
    rejected_at: datetime

    @property
    def is_whole(self) -> bool:
        return self.value is not None and len(self.value) == self.value_bytes

    @property
    def order(self) -> tuple[str, str, str, int, int]:
        return (self.cluster_id, self.topic, self.topic_id, self.partition, self.kafka_offset)

    def record(self) -> Record:
        time_ms = None if self.kafka_time is None else round(self.kafka_time.timestamp() * 1000)
        return Record(self.partition, self.kafka_offset, self.key, self.value, time_ms)


@dataclass(slots=True)
class Replayed:
    """What became of the records: stored (or older than what is stored), rejected again, cut and so left alone."""

    stored: int = 0
    rejected: int = 0
    cut: int = 0

    def __add__(self, other: Replayed) -> Replayed:
        return Replayed(self.stored + other.stored, self.rejected + other.rejected, self.cut + other.cut)


@dataclass(frozen=True, slots=True)
class Place:
    """A database that may hold rejected records: a tenant's, or the master's for topics without one."""

    name: str
    conninfo: str = field(repr=False)
    tenant: Tenant | None


_WHERE = sql.SQL("""
where (%(topic)s::text is null or topic = %(topic)s)
  and (%(partition)s::integer is null or partition = %(partition)s)
  and (%(offset)s::bigint is null or kafka_offset = %(offset)s)
  and (%(reason)s::text is null or reason = %(reason)s)
  and (%(since)s::timestamptz is null or rejected_at >= %(since)s)
  and (%(until)s::timestamptz is null or rejected_at < %(until)s)
""")
_PAGE = sql.SQL("""
select cluster_id, topic, topic_id, partition, kafka_offset, key, value, value_bytes, reason, message, kafka_time,
    rejected_at
from flowmaps.rejected {where}
  and (cluster_id, topic, topic_id, partition, kafka_offset)
    > (%(c)s::text, %(t)s::text, %(i)s::text, %(p)s::integer, %(o)s::bigint)
order by cluster_id, topic, topic_id, partition, kafka_offset limit %(limit)s {lock}
""")
_COUNT = sql.SQL("select topic, reason, count(*), max(rejected_at) from flowmaps.rejected {} group by 1, 2").format(
    _WHERE
)
_DROP = sql.SQL("delete from flowmaps.rejected {}").format(_WHERE)
_KEY = sql.SQL("where cluster_id = %s and topic = %s and topic_id = %s and partition = %s and kafka_offset = %s")
_SETTLED = sql.SQL("delete from flowmaps.rejected {}").format(_KEY)
_AGAIN = sql.SQL("update flowmaps.rejected set reason = %s, message = %s {}").format(_KEY)
_FIRST = ("", "", "", -1, -1)


def places(settings: Settings, topic: str | None) -> list[Place]:
    """Return the databases that may hold the topic's rejected records, or those of all topics."""
    url = settings.database.url.get_secret_value()
    with translate_database_errors(), psycopg.connect(url) as master:
        reader = TenantReader(settings)
        found = reader.list_tenants(master) if topic is None else [reader.find_tenant(master, topic)]
    tenants = [tenant for tenant in found if tenant is not None and tenant.state == "ready"]
    return [
        *(Place(tenant.topic, tenant.conninfo_owner, tenant) for tenant in tenants),
        Place("master", url, None),
    ]


def list_rejected(place: Place, selection: Selection, *, limit: int) -> list[Kept]:
    """Return up to *limit* records kept in *place*, in the order of their positions; raise `DatabaseUnavailable`."""
    with _connection(place) as conn:
        return _page(conn, selection, _FIRST, limit)


def count_rejected(place: Place, selection: Selection) -> list[tuple[str, str, int, datetime]]:
    """Return (topic, reason, count, time of the newest) of what is kept in *place*."""
    with _connection(place) as conn:
        return conn.execute(_COUNT, _values(selection)).fetchall()


def drop_rejected(place: Place, selection: Selection) -> int:
    """Delete the records from *place* and return how many there were."""
    with _connection(place) as conn:
        return conn.execute(_DROP, _values(selection)).rowcount


def replay_rejected(
    settings: Settings, place: Place, decode: Decode, selection: Selection, *, announce: Announce | None = None
) -> Replayed:
    """Try the records again by the rules of today, in their places of the log; *announce* is told how many are done.

    A record that is stored is taken from the rejected ones in the same transaction. What is rejected again stays, with
    its new reason. `RegistryUnavailable` and `DatabaseUnavailable` rise, and the call may be repeated.
    """
    total, done, after = Replayed(), 0, _FIRST
    while True:
        with _connection(place) as conn, conn.transaction():
            page = _page(conn, selection, after, BATCH_RECORDS, lock=True)
            if not page:
                return total
            total += _replay_page(settings, place, conn, page, decode)
        after = page[-1].order
        done += len(page)
        if announce:
            announce(done)


def _replay_page(
    settings: Settings, place: Place, conn: Connection[Any], page: Sequence[Kept], decode: Decode
) -> Replayed:
    total = Replayed()
    groups: dict[tuple[str, str, str], list[Kept]] = defaultdict(list)
    for kept in page:
        if kept.is_whole:
            groups[kept.order[:3]].append(kept)
        else:
            total.cut += 1
    for (cluster_id, topic, topic_id), group in groups.items():
        plan = plan_batch([kept.record() for kept in group], decode)
        source = Source(cluster_id, topic, topic_id)
        if place.tenant is not None:
            applied = _apply(conn, source, plan)
        elif plan.rounds:
            tenant = provision_tenant(settings, topic)
            migrate_tenant(tenant)
            with psycopg.connect(tenant.conninfo_owner, autocommit=True) as owner, owner.transaction():
                # Committed before the master's row is deleted: died between the two, it is replayed to no effect.
                applied = _apply(owner, source, plan)
        else:
            applied = Applied(0, 0, ())
        again = {item.record.place: item for item in (*plan.rejected, *applied.refused)}
        for kept in group:
            _settle(conn, kept, again.get((kept.partition, kept.kafka_offset)))
        total.rejected += len(again)
        total.stored += len(group) - len(again)
    return total


def _apply(conn: Connection[Any], source: Source, plan: BatchPlan) -> Applied:
    number = log_number(conn, source)
    return apply_rounds(conn, plan, dict.fromkeys(plan.next_offsets, number))


def _settle(conn: Connection[Any], kept: Kept, again: Rejected | None) -> None:
    if again is None:
        conn.execute(_SETTLED, kept.order)
    else:
        conn.execute(_AGAIN, [again.reason, again.text, *kept.order])


def _page(
    conn: Connection[Any], selection: Selection, after: tuple[object, ...], limit: int, *, lock: bool = False
) -> list[Kept]:
    values = _values(selection) | dict(zip("ctipo", after, strict=True)) | {"limit": limit}
    with conn.cursor(row_factory=class_row(Kept)) as cursor:
        query = _PAGE.format(where=_WHERE, lock=sql.SQL("for update" if lock else ""))
        return cursor.execute(query, values).fetchall()


def _values(selection: Selection) -> dict[str, object]:
    return {
        "topic": selection.topic,
        "partition": selection.partition,
        "offset": selection.offset,
        "reason": selection.reason,
        "since": selection.since,
        "until": selection.until,
    }


@contextmanager
def _connection(place: Place) -> Iterator[Connection[Any]]:
    with translate_database_errors(), psycopg.connect(place.conninfo, autocommit=True) as conn:
        yield conn
