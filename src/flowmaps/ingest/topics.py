"""Remember, for each topic that is assigned to this process, what waits and why."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

from flowmaps.ingest.claims import Claim, Gap
from flowmaps.ingest.plan import Record
from flowmaps.ingest.work import Done, Job

Lane = Literal["usual", "slow", "creating"]
"""Threads are of three kinds: topics that fail or are slow, and those whose tenant is made, hold up only their like."""

BUFFER_BATCHES = 16
"""A topic's partitions are paused when so many batches wait, and go on at a quarter of that."""
JOB_BATCHES = 4
"""So many batches are one job, where they wait: the next is planned while PostgreSQL stores the one before."""
BUFFER_BYTES = 32 * 1024 * 1024
ALL_BYTES = 256 * 1024 * 1024
"""When so much waits for all topics together, each may keep one batch only."""
STOPPED_SECONDS = 30.0
"""A partition with a gap looks so often whether it may go on; accepting the gap wakes it at once."""
SLOW_SECONDS = 5.0
"""A topic whose last job took longer works in a lane of its own, so that the others do not wait behind it."""
_LONGEST_WAIT_SECONDS = 60.0


@dataclass(slots=True)
class Partition:
    """One assigned partition; *ready* once its claim says where to read on and the consumer stands there.

    With a *gap* it is stopped, and claimed anew at *claim_at* to see whether the gap is accepted.
    """

    number: int
    claim: Claim | None = None
    seek_to: int | None = None
    ready: bool = False
    next_offset: int | None = None
    end: int = 0
    gap: Gap | None = None
    claim_at: float = 0.0


@dataclass(slots=True)
class Running:
    """A job in a thread; *partitions* are those objects it was started for, as one may be lost and come again."""

    future: Future[Done]
    job: Job
    partitions: dict[int, Partition]
    started: float


@dataclass(slots=True)
class TopicState:
    """One topic: its partitions, its waiting records in the order they came, its running job, its next try."""

    topic: str
    batch_records: int
    partitions: dict[int, Partition] = field(default_factory=dict)
    waiting: deque[Record] = field(default_factory=deque)
    waiting_bytes: int = 0
    retry: tuple[Record, ...] = ()
    running: Running | None = None
    failures: int = 0
    not_before: float = 0.0
    problem: str = ""
    lane: Lane = "usual"
    refresh: bool = False
    paused: bool = False
    behind_since: float | None = None

    def add(self, record: Record) -> None:
        self.waiting.append(record)
        self.waiting_bytes += record.size

    @property
    def trouble(self) -> str:
        """Say why the topic, or some of its partitions, does not go on; empty where it does."""
        stopped = [
            f"partition {number}: {part.gap.reason} gap from offset {part.gap.stored_offset} to {part.gap.found_offset}"
            for number, part in sorted(self.partitions.items())
            if part.gap is not None
        ]
        return "; ".join([self.problem, *stopped] if self.problem else stopped)

    def full(self, *, crowded: bool) -> bool:
        """Return whether no more should be read; *crowded* where all topics together hold too much."""
        return self._holds(1 if crowded else BUFFER_BATCHES, BUFFER_BYTES // (BUFFER_BATCHES if crowded else 1))

    def low(self, *, crowded: bool) -> bool:
        """Return whether reading may go on."""
        return not self.waiting if crowded else not self._holds(BUFFER_BATCHES // 4, BUFFER_BYTES // 4)

    def _holds(self, batches: int, size: int) -> bool:
        return len(self.waiting) >= batches * self.batch_records or self.waiting_bytes >= size

    def drop(self, numbers: Iterable[int]) -> None:
        """Forget what waits of these partitions; it will be read again by whoever has them."""
        gone = frozenset(numbers)
        self.waiting = deque(record for record in self.waiting if record.partition not in gone)
        self.waiting_bytes = sum(record.size for record in self.waiting)
        self.retry = tuple(record for record in self.retry if record.partition not in gone)

    def next_job(self, now: float) -> Job | None:
        """Return what is to be done now; claims come before records."""
        if self.running or now < self.not_before:
            return None
        unclaimed = frozenset(
            number
            for number, part in self.partitions.items()
            if not part.ready and part.seek_to is None and now >= part.claim_at
        )
        may_create = self.lane == "creating"
        if unclaimed:
            refresh, self.refresh = self.refresh, False
            return Job(self.topic, unclaimed=unclaimed, may_create=may_create, refresh=refresh)
        records = self.retry or self._take()
        if not records:
            return None
        self.retry = ()
        numbers = {record.partition for record in records}
        claims = {number: claim for number in numbers if (claim := self.partitions[number].claim) is not None}
        return Job(self.topic, records, self.batch_records, claims, may_create=may_create)

    def _take(self) -> Sequence[Record]:
        count = min(JOB_BATCHES * self.batch_records, len(self.waiting))
        records = tuple(self.waiting.popleft() for _ in range(count))
        self.waiting_bytes -= sum(record.size for record in records)
        return records

    def start(self, job: Job, future: Future[Done], now: float) -> None:
        numbers = job.unclaimed or {record.partition for record in job.records}
        self.running = Running(future, job, {number: self.partitions[number] for number in numbers}, now)

    def still_ours(self, running: Running) -> dict[int, Partition]:
        return {number: part for number, part in running.partitions.items() if self.partitions.get(number) is part}

    def failed(self, running: Running, problem: str, now: float, waits: Sequence[float]) -> float:
        """Keep the job's records for another try and return in how many seconds that is."""
        self.keep(running)
        self.problem = problem
        self.lane = "slow"
        wait = self._wait(waits)
        self.failures += 1
        self.not_before = now + wait
        return wait

    def keep(self, running: Running) -> None:
        """Keep the job's records for another try, but none of partitions that are claimed anew and read them again."""
        ready = {number for number, part in self.still_ours(running).items() if part.ready}
        self.retry = tuple(record for record in running.job.records if record.partition in ready)

    def _wait(self, waits: Sequence[float]) -> float:
        if self.failures < len(waits):
            wait = waits[self.failures]
        else:
            longest = max(_LONGEST_WAIT_SECONDS, *waits) if waits else _LONGEST_WAIT_SECONDS
            beyond = self.failures - len(waits) + 1
            wait = min(longest, (waits[-1] if waits else 1.0) * 2 ** min(beyond, 16))
        # Jitter, so that many topics of one dead server do not come back at once.
        return wait * random.uniform(0.75, 1.25)  # noqa: S311 - no secret

    def succeeded(self, seconds: float) -> None:
        self.failures = 0
        self.lane = "slow" if seconds > SLOW_SECONDS else "usual"
        self.problem = ""
        self.not_before = 0.0
