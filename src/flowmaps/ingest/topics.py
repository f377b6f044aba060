"""Remember, for each topic that is assigned to this process, what waits and why."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from flowmaps.ingest.apply import Claim
from flowmaps.ingest.plan import Record
from flowmaps.ingest.work import Done, Job

BUFFER_BATCHES = 16
"""A topic's partitions are paused when so many batches wait, and go on at a quarter of that."""
BUFFER_BYTES = 32 * 1024 * 1024
_LONGEST_WAIT_SECONDS = 60.0


@dataclass(slots=True)
class Partition:
    """One assigned partition; *ready* once its claim says where to read on and the consumer stands there."""

    number: int
    claim: Claim | None = None
    seek_to: int | None = None
    ready: bool = False
    next_offset: int | None = None


@dataclass(slots=True)
class Running:
    """A job in a thread; *partitions* are those objects it was started for, as one may be lost and come again."""

    future: Future[Done]
    job: Job
    partitions: dict[int, Partition]


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
    paused: bool = False
    behind_since: float | None = None

    def add(self, record: Record) -> None:
        self.waiting.append(record)
        self.waiting_bytes += record.size

    @property
    def full(self) -> bool:
        return len(self.waiting) >= BUFFER_BATCHES * self.batch_records or self.waiting_bytes >= BUFFER_BYTES

    @property
    def low(self) -> bool:
        return len(self.waiting) <= BUFFER_BATCHES * self.batch_records // 4 and self.waiting_bytes <= BUFFER_BYTES // 4

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
            number for number, part in self.partitions.items() if not part.ready and part.seek_to is None
        )
        if unclaimed:
            return Job(self.topic, unclaimed=unclaimed)
        records = self.retry or self._take()
        if not records:
            return None
        self.retry = ()
        numbers = {record.partition for record in records}
        claims = {number: claim for number in numbers if (claim := self.partitions[number].claim) is not None}
        return Job(self.topic, records, claims)

    def _take(self) -> Sequence[Record]:
        records = tuple(self.waiting.popleft() for _ in range(min(self.batch_records, len(self.waiting))))
        self.waiting_bytes -= sum(record.size for record in records)
        return records

    def start(self, job: Job, future: Future[Done]) -> None:
        numbers = job.unclaimed or {record.partition for record in job.records}
        self.running = Running(future, job, {number: self.partitions[number] for number in numbers})

    def still_ours(self, running: Running) -> dict[int, Partition]:
        return {number: part for number, part in running.partitions.items() if self.partitions.get(number) is part}

    def failed(self, running: Running, problem: str, now: float, waits: Sequence[float]) -> float:
        """Keep the job's records for another try and return in how many seconds that is."""
        ours = self.still_ours(running)
        self.retry = tuple(record for record in running.job.records if record.partition in ours)
        self.problem = problem
        wait = self._wait(waits)
        self.failures += 1
        self.not_before = now + wait
        return wait

    def _wait(self, waits: Sequence[float]) -> float:
        if self.failures < len(waits):
            wait = waits[self.failures]
        else:
            longest = max(_LONGEST_WAIT_SECONDS, *waits) if waits else _LONGEST_WAIT_SECONDS
            beyond = self.failures - len(waits) + 1
            wait = min(longest, (waits[-1] if waits else 1.0) * 2 ** min(beyond, 16))
        # Jitter, so that many topics of one dead server do not come back at once.
        return wait * random.uniform(0.75, 1.25)  # noqa: S311 - no secret

    def succeeded(self) -> None:
        self.failures = 0
        self.problem = ""
        self.not_before = 0.0
