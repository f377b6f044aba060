"""Do one topic's work in a thread: find or make its tenant, claim partitions, apply a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import Any, Protocol

import psycopg
import structlog
from psycopg import Connection

from flowmaps.errors import BrokerUnavailable, DatabaseUnavailable
from flowmaps.ingest import metrics
from flowmaps.ingest.apply import Applied, apply_batch, store_rejected
from flowmaps.ingest.claims import Claim, Claimed, Gap, Source, claim_partition
from flowmaps.ingest.kafka import LogRange
from flowmaps.ingest.plan import BatchPlan, Decode, Record, after, plan_batch
from flowmaps.settings import Settings
from flowmaps.telemetry import batch_size_label, timed
from flowmaps.tenants import (
    OwnerConnections,
    Tenant,
    TenantReader,
    migrate_tenant,
    pending_migrations,
    provision_tenant,
)

_log = structlog.get_logger(__name__)
BEYOND_END_SECONDS = 5.0
"""A broker that has just started may not know its log's end yet: only what lasts longer is a gap."""


class NeedsTenantError(Exception):
    """The topic's tenant has to be made, or brought up to date, which is slow: try again where that may be done."""


class InterruptedJobError(Exception):
    """A batch of a job failed, for the reason that is its cause, after others were stored; *rest* is still to do."""

    def __init__(self, rest: Job) -> None:
        super().__init__(f"{len(rest.records)} records are still to be stored")
        self.rest = rest


@dataclass(frozen=True, slots=True)
class Job:
    """One topic's next step: records to apply, or partitions to claim before any of theirs is read.

    Records are applied in batches of *batch_records*, each in a transaction of its own.
    """

    topic: str
    records: Sequence[Record] = ()
    batch_records: int = 1000
    claims: Mapping[int, Claim] = field(default_factory=dict)
    unclaimed: frozenset[int] = frozenset()
    may_create: bool = True
    refresh: bool = False
    """Whether what is known of the tenant may be wrong, as an operator changed it."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a job did: the claims it has now, where each partition goes on, and which are stopped by a gap.

    With *reclaim* nothing was done: the tenant is a new one, and the topic is to be read from its beginning.
    *ends* are the offsets after the last records.
    """

    claims: Mapping[int, Claim]
    next_offsets: Mapping[int, int]
    gaps: Mapping[int, Gap] = field(default_factory=dict)
    ends: Mapping[int, int] = field(default_factory=dict)
    reclaim: bool = False


class Cluster(Protocol):
    """The questions that claims ask of Kafka."""

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]: ...

    def log_range(self, topic: str, partition: int, *, mark: str) -> LogRange: ...


class TopicWork:
    """Does jobs, from several threads at once, never two of one topic."""

    def __init__(
        self,
        settings: Settings,
        cluster_id: str,
        decode: Decode,
        cluster: Cluster,
        connections: OwnerConnections,
        *,
        planner: Executor,
        mark: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._cluster_id = cluster_id
        self._decode = decode
        self._cluster = cluster
        self._connections = connections
        self._planner = planner
        self._mark = mark
        self._clock = clock
        self._tenants: dict[str, Tenant] = {}
        self._sources: dict[str, Source] = {}
        self._beyond: dict[tuple[str, int], float] = {}
        self._lock = Lock()
        self._reader = TenantReader(settings)

    def run(self, job: Job) -> Done:
        """Do *job*; PostgreSQL's, Kafka's and the registry's failures rise, and the same job may be run again."""
        try:
            return self._apply(job) if job.records else self._claim(job)
        except (psycopg.Error, DatabaseUnavailable, InterruptedJobError):
            # A new password, another server, a dropped tenant: ask the master database again.
            self.forget(job.topic)
            raise

    def forget(self, topic: str) -> None:
        with self._lock:
            self._tenants.pop(topic, None)

    def _claim(self, job: Job) -> Done:
        """Find where each partition goes on: at the tenant's stored offset, else where Kafka's log begins.

        While a topic has no tenant, nothing of it is kept, so that what was committed before decides.
        """
        if job.refresh:
            self.forget(job.topic)
        topic_id = self._cluster.topic_ids([job.topic]).get(job.topic)
        if topic_id is None:
            raise BrokerUnavailable(f"Kafka has no topic {job.topic} any more")
        source = Source(self._cluster_id, job.topic, topic_id)
        self._sources[job.topic] = source
        ranges = {
            partition: self._cluster.log_range(job.topic, partition, mark=self._mark)
            for partition in sorted(job.unclaimed)
        }
        ends = {partition: found.high for partition, found in ranges.items()}
        tenant = self._tenant(job)
        if tenant is None:
            return Done({}, {partition: _first(found) for partition, found in ranges.items()}, ends=ends)
        claims, gaps = {}, {}
        with self._connections.connection(tenant) as conn:
            for partition, found in ranges.items():
                claimed = self._claim_partition(conn, source, partition, found)
                claims[partition] = claimed.claim
                if claimed.stopped and claimed.gap is not None:
                    gaps[partition] = claimed.gap
        return Done(claims, {number: claim.next_offset for number, claim in claims.items()}, gaps, ends)

    def _claim_partition(self, conn: Connection[Any], source: Source, partition: int, found: LogRange) -> Claimed:
        place = (source.topic, partition)
        with conn.transaction():
            claimed = claim_partition(conn, source, partition, found, on_gap=self._settings.ingest.on_gap)
            if claimed.gap is None or claimed.gap.reason != "beyond-end":
                self._beyond.pop(place, None)
            elif not claimed.gap.known:
                now = self._clock()
                if now - self._beyond.setdefault(place, now) < BEYOND_END_SECONDS:
                    raise BrokerUnavailable(f"Kafka's log of partition {partition} ends before the stored offset")
        gap = claimed.gap
        if gap is not None and not gap.known:
            metrics.GAPS.labels(topic=source.topic, reason=gap.reason).inc()
            _log.error(
                "gap: this partition is stopped until the gap is accepted" if claimed.stopped else "gap",
                topic=source.topic,
                partition=partition,
                reason=gap.reason,
                stored_offset=gap.stored_offset,
                first_offset=found.low,
                end_offset=found.high,
            )
        return claimed

    def _apply(self, job: Job) -> Done:
        source = self._sources[job.topic]
        tenant = self._tenant(job)
        firsts = _firsts(job.records)
        if tenant is None:
            plan = plan_batch(job.records, self._decode)
            if not plan.needs_tenant:
                self._keep_in_master(source, plan)
                metrics.count_batch(job.topic, plan)
                return Done({}, plan.next_offsets)
            if not job.may_create:
                raise NeedsTenantError(job.topic)
            self._new_tenant(job.topic)
        if tenant is None or not firsts.keys() <= job.claims.keys():
            # Records without a location were passed over so far; a table that is the fold of the log needs them too.
            return Done({}, {}, reclaim=True)
        claims = {partition: job.claims[partition] for partition in firsts}
        records = after(job.records, {number: claim.next_offset for number, claim in claims.items()})
        with self._connections.connection(tenant) as conn:
            for start, planned in self._plans(records, job):
                try:
                    claims = self._store(conn, source, planned(), claims)
                except Exception as error:
                    if start == 0:
                        raise
                    rest = replace(job, records=records[start:], claims={**job.claims, **claims})
                    raise InterruptedJobError(rest) from error
        return Done(claims, {number: claim.next_offset for number, claim in claims.items()})

    def _plans(self, records: Sequence[Record], job: Job) -> Iterator[tuple[int, Callable[[], BatchPlan]]]:
        """Yield where each batch starts, and what gives its plan: it is made while PostgreSQL stores the one before."""
        ahead: Future[BatchPlan] | None = None
        for start in range(0, len(records), job.batch_records):
            batch = records[start : start + job.batch_records]
            current = partial(self._plan, batch, ahead)
            following = records[start + job.batch_records : start + 2 * job.batch_records]
            ahead = self._planner.submit(plan_batch, following, self._decode) if following else None
            yield start, current

    def _plan(self, batch: Sequence[Record], ahead: Future[BatchPlan] | None) -> BatchPlan:
        # Where all planners wait, for a registry that hangs, a topic whose schemas are known plans by itself.
        return plan_batch(batch, self._decode) if ahead is None or ahead.cancel() else ahead.result()

    def _store(
        self, conn: Connection[Any], source: Source, plan: BatchPlan, claims: Mapping[int, Claim]
    ) -> dict[int, Claim]:
        """Write a batch and return the claims as they stand after it."""
        applied = self._write(conn, source, plan, claims)
        metrics.count_batch(source.topic, plan, refused=len(applied.refused), removed=applied.removed)
        return {
            number: Claim(plan.next_offsets.get(number, claim.next_offset), claim.fence, claim.log)
            for number, claim in claims.items()
        }

    def _write(self, conn: Connection[Any], source: Source, plan: BatchPlan, claims: Mapping[int, Claim]) -> Applied:
        keep_bytes = self._settings.ingest.rejected_bytes
        if not plan.upsert:
            return apply_batch(conn, source, plan, claims, keep_bytes=keep_bytes)
        with timed("upsert-datapoints", topic=source.topic, batch_size=batch_size_label(plan.upsert)):
            return apply_batch(conn, source, plan, claims, keep_bytes=keep_bytes)

    def _keep_in_master(self, source: Source, plan: BatchPlan) -> None:
        if not plan.rejected:
            return
        with psycopg.connect(self._settings.database.url.get_secret_value()) as conn:
            store_rejected(conn, source, plan.rejected, keep_bytes=self._settings.ingest.rejected_bytes)

    def _tenant(self, job: Job) -> Tenant | None:
        """Return the topic's tenant with its newest schema, or None where it has none yet."""
        with self._lock:
            known = self._tenants.get(job.topic)
        if known:
            return known
        timeout = max(2, round(self._settings.database.connect_timeout_seconds))
        with psycopg.connect(self._settings.database.url.get_secret_value(), connect_timeout=timeout) as conn:
            found = self._reader.find_tenant(conn, job.topic)
        if found is None:
            return None
        with self._connections.connection(found) if found.state == "ready" else nullcontext() as owner:
            is_done = owner is not None and not pending_migrations(owner, "tenant")
        if not is_done and not job.may_create:
            raise NeedsTenantError(job.topic)
        if found.state != "ready":
            return self._new_tenant(job.topic)
        if not is_done:
            migrate_tenant(found)
        return self._know(found)

    def _new_tenant(self, topic: str) -> Tenant:
        def announce(step: str) -> None:
            _log.info("making tenant", topic=topic, step=step)

        with timed("create-tenant-db"):
            return self._know(provision_tenant(self._settings, topic, announce=announce))

    def _know(self, tenant: Tenant) -> Tenant:
        with self._lock:
            self._tenants[tenant.topic] = tenant
        return tenant


def _first(found: LogRange) -> int:
    """Return where to begin without a tenant: where we were, if Kafka still has that, else its start."""
    if found.committed is None or not found.low <= found.committed <= found.high:
        return found.low
    return found.committed


def _firsts(records: Iterable[Record]) -> dict[int, int]:
    firsts: dict[int, int] = {}
    for record in records:
        firsts.setdefault(record.partition, record.offset)
    return firsts
