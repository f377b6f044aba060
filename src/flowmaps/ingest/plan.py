"""Say what a batch of one topic's records will do, without doing any of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from flowmaps.datapoint import MAX_IDENTIFIER_BYTES, Datapoint, parse_datapoint
from flowmaps.errors import RecordError

Decode = Callable[[bytes], Mapping[str, Any]]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record as it came; *time_ms* since 1970 as Kafka says, None where it says nothing."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    time_ms: int | None = None

    @property
    def size(self) -> int:
        return len(self.value or b"") + len(self.key or b"")

    @property
    def place(self) -> tuple[int, int]:
        """The record's position: partition and offset."""
        return (self.partition, self.offset)


@dataclass(frozen=True, slots=True)
class Row:
    """A datapoint to store, and the record it came in, whose position orders it among those of equal time."""

    datapoint: Datapoint
    record: Record

    @property
    def order(self) -> tuple[datetime, int, int]:
        return (self.datapoint.updated, self.record.offset, self.record.partition)


@dataclass(frozen=True, slots=True)
class Removal:
    """A tombstone: the point with this identifier goes, if the record came before it; *time* is Kafka's."""

    identifier: str
    time: datetime
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that will not be stored, with a stable reason and a text for people."""

    record: Record
    reason: str
    message: str

    @property
    def text(self) -> str:
        """The message as PostgreSQL can hold it: it may quote what the record has."""
        return self.message.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


@dataclass(slots=True)
class Round:
    """Rows and then removals, each at most one per identifier."""

    rows: dict[str, Row] = field(default_factory=dict)
    removals: dict[str, Removal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What to do with a batch; the counts are of records, each in exactly one of *upsert* and *discarded*."""

    rounds: tuple[Round, ...]
    rejected: tuple[Rejected, ...]
    next_offsets: Mapping[int, int]
    total: int
    upsert: int

    @property
    def discarded(self) -> int:
        return self.total - self.upsert

    @property
    def needs_tenant(self) -> bool:
        """Whether a tenant must be made for it: a topic gets its database with its first located datapoint."""
        return self.upsert > 0


def plan_batch(records: Iterable[Record], decode: Decode) -> BatchPlan:
    """Return the plan of *records*, in the order they were read; what *decode* raises but `RecordError` rises.

    Of several records of one identifier only the newest is stored. A tombstone takes that one's place without
    changing its time, so that what follows is stored in a later round.
    """
    rounds: list[Round] = []
    level: dict[str, int] = {}
    rejected: list[Rejected] = []
    next_offsets: dict[int, int] = {}
    total = upsert = 0
    for record in records:
        total += 1
        next_offsets[record.partition] = max(record.offset + 1, next_offsets.get(record.partition, 0))
        if record.value is None:
            _plan_removal(record, rounds, level)
            continue
        try:
            row = Row(parse_datapoint(decode(record.value)), record)
        except RecordError as error:
            rejected.append(Rejected(record, error.reason, error.message))
            continue
        upsert += row.datapoint.located
        rows = _round(rounds, level.get(row.datapoint.identifier, 0)).rows
        earlier = rows.get(row.datapoint.identifier)
        if earlier is None or row.order > earlier.order:
            rows[row.datapoint.identifier] = row
    return BatchPlan(tuple(rounds), tuple(rejected), next_offsets, total, upsert)


def _plan_removal(record: Record, rounds: list[Round], level: dict[str, int]) -> None:
    identifier = _identifier_of_key(record.key)
    if identifier is None:
        return
    number = level.get(identifier, 0)
    if number and identifier not in _round(rounds, number).rows:
        before = rounds[number - 1].removals[identifier]
        if before.partition == record.partition:
            # Tombstones in a row are one: a thousand of them make no thousand rounds.
            number -= 1
    time = _EPOCH + timedelta(milliseconds=min(max(record.time_ms or 0, 0), 2**47))
    _round(rounds, number).removals[identifier] = Removal(identifier, time, record.partition, record.offset)
    level[identifier] = number + 1


def _identifier_of_key(key: bytes | None) -> str | None:
    """Return the key as text where it may be an identifier; the replaced system's keys were binary numbers."""
    if key is None or len(key) > MAX_IDENTIFIER_BYTES or b"\0" in key:
        return None
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def _round(rounds: list[Round], number: int) -> Round:
    while len(rounds) <= number:
        rounds.append(Round())
    return rounds[number]


def after(records: Sequence[Record], next_offsets: Mapping[int, int]) -> list[Record]:
    """Return the records that are not stored yet."""
    return [record for record in records if record.offset >= next_offsets.get(record.partition, 0)]
