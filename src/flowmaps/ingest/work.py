"""Do one topic's work in a thread: find or make its tenant, claim partitions, apply a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import psycopg
import structlog
from psycopg import Connection

from flowmaps.ingest import metrics
from flowmaps.ingest.apply import (
    Applied,
    Claim,
    FencedError,
    Source,
    apply_batch,
    claim_partition,
    record_gap,
    store_rejected,
)
from flowmaps.ingest.kafka import LogRange
from flowmaps.ingest.plan import BatchPlan, Decode, Record, after, plan_batch
from flowmaps.settings import Settings
from flowmaps.telemetry import batch_size_label, timed
from flowmaps.tenants import OwnerConnections, Tenant, TenantReader, migrate_tenant, provision_tenant

_log = structlog.get_logger(__name__)
Announce = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One topic's next step: records to apply, or partitions to claim before any of theirs is read."""

    topic: str
    records: Sequence[Record] = ()
    claims: Mapping[int, Claim] = field(default_factory=dict)
    unclaimed: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Done:
    """What a job did: the claims it has now, and where each partition goes on."""

    claims: Mapping[int, Claim]
    next_offsets: Mapping[int, int]


class TopicWork:
    """Does jobs, from several threads at once, never two of one topic."""

    def __init__(
        self,
        settings: Settings,
        cluster_id: str,
        decode: Decode,
        log_range: Callable[[str, int], LogRange],
        connections: OwnerConnections,
    ) -> None:
        self._settings = settings
        self._cluster_id = cluster_id
        self._decode = decode
        self._log_range = log_range
        self._connections = connections
        self._tenants: dict[str, Tenant] = {}
        self._lock = Lock()
        self._reader = TenantReader(settings)

    def run(self, job: Job) -> Done:
        """Do *job*; PostgreSQL's, Kafka's and the registry's failures rise, and the same job may be run again."""
        try:
            return self._apply(job) if job.records else self._claim(job)
        except psycopg.Error:
            # A new password, another server, a dropped tenant: ask the master database again.
            self.forget(job.topic)
            raise

    def forget(self, topic: str) -> None:
        with self._lock:
            self._tenants.pop(topic, None)

    def _claim(self, job: Job) -> Done:
        """Find where each partition goes on: at the tenant's stored offset, else at Kafka's committed one."""
        source = Source(self._cluster_id, job.topic)
        ranges = {partition: self._log_range(job.topic, partition) for partition in sorted(job.unclaimed)}
        tenant = self._tenant(job.topic)
        if tenant is None:
            return Done({}, {partition: _first(found) for partition, found in ranges.items()})
        claims = {}
        with self._connections.connection(tenant) as conn:
            for partition, found in ranges.items():
                claim = claim_partition(conn, source, partition, _first(found))
                claims[partition] = self._mind_gap(conn, source, partition, claim, found)
        return Done(claims, {partition: claim.next_offset for partition, claim in claims.items()})

    def _mind_gap(self, conn: Connection[Any], source: Source, partition: int, claim: Claim, found: LogRange) -> Claim:
        if found.low <= claim.next_offset <= found.high:
            return claim
        reason = "expired" if claim.next_offset < found.low else "beyond-end"
        moved = record_gap(conn, source, partition, claim, found=found.low, reason=reason)
        metrics.GAPS.labels(topic=source.topic, reason=reason).inc()
        _log.error(
            "gap: Kafka no longer has the stored offset",
            topic=source.topic,
            partition=partition,
            stored_offset=claim.next_offset,
            low=found.low,
            high=found.high,
            reason=reason,
        )
        return moved

    def _apply(self, job: Job) -> Done:
        source = Source(self._cluster_id, job.topic)
        tenant = self._tenant(job.topic)
        if tenant is None:
            plan = plan_batch(job.records, self._decode)
            if not plan.needs_tenant:
                self._keep_in_master(source, plan)
                metrics.count_batch(job.topic, plan, 0)
                return Done({}, plan.next_offsets)
            tenant = self._new_tenant(job.topic)
        with self._connections.connection(tenant) as conn:
            claims = dict(job.claims)
            for partition, first in _firsts(job.records).items():
                if partition not in claims:
                    claims[partition] = claim_partition(conn, source, partition, first)
            stored = {partition: claim.next_offset for partition, claim in claims.items()}
            plan = plan_batch(after(job.records, stored), self._decode)
            applied = self._write(conn, source, plan, claims)
        metrics.count_batch(job.topic, plan, len(applied.refused))
        next_offsets = stored | dict(plan.next_offsets)
        return Done(
            {partition: Claim(next_offsets[partition], claim.fence) for partition, claim in claims.items()},
            {partition: next_offsets[partition] for partition in _firsts(job.records)},
        )

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

    def _tenant(self, topic: str) -> Tenant | None:
        """Return the topic's tenant with its newest schema, or None where it has none yet."""
        with self._lock:
            known = self._tenants.get(topic)
        if known:
            return known
        timeout = max(2, round(self._settings.database.connect_timeout_seconds))
        with psycopg.connect(self._settings.database.url.get_secret_value(), connect_timeout=timeout) as conn:
            found = self._reader.find_tenant(conn, topic)
        if found is None:
            return None
        if found.state != "ready":
            return self._new_tenant(topic)
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
    """Return where to begin without a stored offset: where the group was, if Kafka still has that, else its start."""
    if found.committed is None or not found.low <= found.committed <= found.high:
        return found.low
    return found.committed


def _firsts(records: Iterable[Record]) -> dict[int, int]:
    firsts: dict[int, int] = {}
    for record in records:
        firsts.setdefault(record.partition, record.offset)
    return firsts


__all__ = ["Done", "FencedError", "Job", "TopicWork"]
