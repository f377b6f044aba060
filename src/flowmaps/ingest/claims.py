"""Take partitions over: where each goes on, under which fence, and what to do where Kafka's log has a gap.

Offsets are kept per cluster and topic in the tenant's database. A claim raises the partition's fence, so that whoever
wrote it before can write no more. The *stored* offset decides where to go on; Kafka's committed one never does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, LiteralString

from psycopg import Connection

from flowmaps.errors import BrokerUnavailable
from flowmaps.ingest.kafka import LogRange

OnGap = Literal["stop", "continue"]


class FencedError(Exception):
    """Another consumer has claimed these partitions since, or their stored offsets moved; ours may write no more."""

    def __init__(self, partitions: frozenset[int]) -> None:
        super().__init__(f"partitions {sorted(partitions)} belong to another consumer by now")
        self.partitions = partitions


@dataclass(frozen=True, slots=True)
class Source:
    """Which log: offsets of another cluster or topic mean nothing here. *topic_id* is empty where Kafka says none."""

    cluster_id: str
    topic: str
    topic_id: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write a partition's records from *next_offset* on; *log* numbers the logs of the tenant."""

    next_offset: int
    fence: int
    log: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that were never read and are not in Kafka any more, or a log that is another one than before.

    *reason* is ``expired``, ``beyond-end``, ``recreated`` or ``new-cluster``; *known* where it was recorded before.
    """

    reason: str
    stored_offset: int
    found_offset: int
    known: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim came to; where *stopped* the partition waits until its gap is accepted."""

    claim: Claim
    gap: Gap | None = None
    stopped: bool = False


_CLAIM: LiteralString = """
insert into flowmaps.consumer_offset as o (cluster_id, topic, partition, next_offset, fence, topic_id)
values (%s, %s, %s, %s, 1, %s)
on conflict (cluster_id, topic, partition) do update set fence = o.fence + 1, updated_at = clock_timestamp()
returning next_offset, fence, topic_id, xmax = 0
"""
_ELSEWHERE: LiteralString = """
select next_offset from flowmaps.consumer_offset
where topic = %s and partition = %s and cluster_id <> %s
order by updated_at desc limit 1
"""
_MOVE: LiteralString = """
update flowmaps.consumer_offset set next_offset = %s, topic_id = %s, updated_at = clock_timestamp()
where cluster_id = %s and topic = %s and partition = %s
"""
_OPEN_GAP: LiteralString = """
insert into flowmaps.gap as g (cluster_id, topic, partition, topic_id, stored_offset, found_offset, reason)
values (%(cluster_id)s, %(topic)s, %(partition)s, %(topic_id)s, %(stored)s, %(found)s, %(reason)s)
on conflict (cluster_id, topic, partition) where resumed_at is null do update set
    stored_offset = excluded.stored_offset, found_offset = excluded.found_offset, reason = excluded.reason,
    topic_id = excluded.topic_id,
    -- What was accepted is this gap and no other.
    accepted_at = case when g.stored_offset = excluded.stored_offset then g.accepted_at end
returning accepted_at is not null, xmax <> 0
"""
_CLOSE_GAP: LiteralString = """
update flowmaps.gap set resumed_at = clock_timestamp(), accepted_at = coalesce(accepted_at, clock_timestamp())
where cluster_id = %s and topic = %s and partition = %s and resumed_at is null
"""


def claim_partition(
    conn: Connection[Any], source: Source, partition: int, found: LogRange, *, on_gap: OnGap = "stop"
) -> Claimed:
    """Take the partition over from whoever wrote it before; *found* is what Kafka holds of it.

    Without a stored offset reading begins where Kafka's log begins. Raise `BrokerUnavailable` where Kafka does not
    say just now which topic it is, although it did before.
    """
    with conn.transaction():
        log = log_number(conn, source)
        place = [source.cluster_id, source.topic, partition]
        row = conn.execute(_CLAIM, [*place, found.low, source.topic_id]).fetchone()
        if row is None:
            raise RuntimeError("PostgreSQL returned no row for a claim")
        stored, fence, topic_id, is_first = row
        gap = None
        if is_first:
            gap = _moved_cluster(conn, source, partition, found)
        elif topic_id and topic_id != source.topic_id:
            gap = Gap("recreated", stored, found.low)
        if gap is not None:
            _record(conn, source, partition, gap)
        elif not found.low <= stored <= found.high:
            gap = Gap("expired" if stored < found.low else "beyond-end", stored, found.low)
            accepted, known = _record(conn, source, partition, gap)
            gap = Gap(gap.reason, gap.stored_offset, gap.found_offset, known)
            if on_gap == "stop" and not accepted:
                return Claimed(Claim(stored, fence, log), gap, stopped=True)
        next_offset = gap.found_offset if gap else stored
        conn.execute(_CLOSE_GAP, place)
        if gap or topic_id != source.topic_id:
            conn.execute(_MOVE, [next_offset, source.topic_id, *place])
    return Claimed(Claim(next_offset, fence, log), gap)


def log_number(conn: Connection[Any], source: Source) -> int:
    """Return the number of this log among the tenant's; a log whose id was not known before is given it now."""
    rows = conn.execute(
        "select topic_id, id from flowmaps.kafka_log where cluster_id = %s and topic = %s",
        [source.cluster_id, source.topic],
    ).fetchall()
    known: dict[str, int] = dict(rows)
    if source.topic_id in known:
        return known[source.topic_id]
    if known and not source.topic_id:
        raise BrokerUnavailable(f"Kafka does not say the id of topic {source.topic} just now")
    if "" in known:
        conn.execute("update flowmaps.kafka_log set topic_id = %s where id = %s", [source.topic_id, known[""]])
        return known[""]
    row = conn.execute(
        "insert into flowmaps.kafka_log as l (cluster_id, topic, topic_id) values (%s, %s, %s)"
        " on conflict (cluster_id, topic, topic_id) do update set topic_id = l.topic_id returning id",
        [source.cluster_id, source.topic, source.topic_id],
    ).fetchone()
    if row is None:
        raise RuntimeError("PostgreSQL returned no row for a log")
    return int(row[0])


def _moved_cluster(conn: Connection[Any], source: Source, partition: int, found: LogRange) -> Gap | None:
    row = conn.execute(_ELSEWHERE, [source.topic, partition, source.cluster_id]).fetchone()
    return Gap("new-cluster", row[0], found.low) if row else None


def _record(conn: Connection[Any], source: Source, partition: int, gap: Gap) -> tuple[bool, bool]:
    """Write the open gap down and return whether it is accepted, and whether it was there before."""
    values = {
        "cluster_id": source.cluster_id,
        "topic": source.topic,
        "partition": partition,
        "topic_id": source.topic_id,
        "stored": gap.stored_offset,
        "found": gap.found_offset,
        "reason": gap.reason,
    }
    row = conn.execute(_OPEN_GAP, values).fetchone()
    if row is None:
        raise RuntimeError("PostgreSQL returned no row for a gap")
    return row[0], row[1]
