"""A batch's plan: what to store, what to count, where to go on; and the table is the fold of the log."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaps.errors import RecordError, RegistryUnavailable
from flowmaps.ingest.plan import BatchPlan, Record, after, plan_batch

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def decode(raw: bytes) -> Mapping[str, Any]:
    if raw == b"junk":
        raise RecordError("no framing", reason="framing")
    if raw == b"away":
        raise RegistryUnavailable("the registry is away")
    decoded: dict[str, Any] = json.loads(raw)
    return decoded


def record(
    offset: int, value: dict[str, Any] | bytes | None, *, partition: int = 0, key: bytes | None = None
) -> Record:
    raw = json.dumps(value).encode() if isinstance(value, dict) else value
    return Record(partition, offset, key, raw, time_ms=offset)


def point(identifier: str = "p", updated: int = 1, longitude: float | None = 1.0, **more: Any) -> dict[str, Any]:
    return {
        "identifier": identifier,
        "surveyId": "s",
        "longitude": longitude,
        "latitude": 2.0,
        "createdDateTime": 0,
        "lastUpdateDateTime": updated,
        **more,
    }


def identifiers(plan: BatchPlan) -> list[list[str]]:
    return [sorted(step.rows) for step in plan.rounds]


def test_an_empty_batch_does_nothing() -> None:
    plan = plan_batch([], decode)
    assert (plan.total, plan.rounds, plan.next_offsets, plan.needs_tenant) == (0, (), {}, False)


def test_counts_are_of_records_not_of_rows() -> None:
    plan = plan_batch([record(n, point(updated=n)) for n in range(3)], decode)
    assert (plan.total, plan.upsert, plan.discarded) == (3, 3, 0)
    assert identifiers(plan) == [["p"]]


def test_a_record_without_location_is_discarded_but_remembered() -> None:
    plan = plan_batch([record(0, point(longitude=None))], decode)
    assert (plan.upsert, plan.discarded, plan.needs_tenant) == (0, 1, False)
    assert identifiers(plan) == [["p"]]


def test_a_record_that_cannot_be_used_is_rejected_with_its_reason() -> None:
    plan = plan_batch([record(0, b"junk"), record(1, point(longitude=500.0)), record(2, point())], decode)
    assert [(item.record.offset, item.reason) for item in plan.rejected] == [(0, "framing"), (1, "invalid-coordinates")]
    assert (plan.upsert, plan.discarded) == (1, 2)


def test_an_outage_stops_the_plan() -> None:
    with pytest.raises(RegistryUnavailable):
        plan_batch([record(0, point()), record(1, b"away")], decode)


def test_next_offsets_are_after_each_partitions_last_record() -> None:
    records = [record(5, point()), record(9, b"junk", partition=1), record(6, None)]
    assert plan_batch(records, decode).next_offsets == {0: 7, 1: 10}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_newest_update_wins_and_then_the_highest_offset(order: tuple[int, int]) -> None:
    newer = [record(0, point(updated=9)), record(1, point(updated=3))]
    equal = [record(0, point(updated=3, longitude=10.0)), record(1, point(updated=3, longitude=20.0))]
    assert plan_batch([newer[n] for n in order], decode).rounds[0].rows["p"].record.offset == 0
    assert plan_batch([equal[n] for n in order], decode).rounds[0].rows["p"].datapoint.longitude == 20.0


def test_a_tombstone_ends_a_round() -> None:
    plan = plan_batch([record(0, point()), record(1, None, key=b"p"), record(2, point())], decode)
    assert identifiers(plan) == [["p"], ["p"]]
    assert list(plan.rounds[0].removals) == ["p"]
    assert plan.rounds[0].removals["p"].time == EPOCH + timedelta(milliseconds=1)


@pytest.mark.parametrize("key", [None, b"\0\0\0\0\0\0\0\x07", b"\xff\xfe", b"x" * 5000])
def test_a_tombstone_whose_key_is_no_identifier_is_discarded(key: bytes | None) -> None:
    plan = plan_batch([record(0, None, key=key)], decode)
    assert (plan.total, plan.discarded, plan.rounds) == (1, 1, ())


def test_records_that_are_stored_already_are_left_out() -> None:
    records = [record(4, point()), record(5, point()), record(0, point(), partition=1)]
    assert after(records, {0: 5}) == records[1:]


@dataclass(frozen=True)
class Cell:
    order: tuple[datetime, int, int]
    longitude: float | None


def fold(records: Iterable[Record]) -> dict[str, float]:
    """Say from the definition what the map shows: of each identifier's records the newest, if it has a location."""
    newest: dict[str, Cell] = {}
    for item in records:
        value = decode(item.value or b"")
        cell = Cell(
            (EPOCH + timedelta(milliseconds=value["lastUpdateDateTime"]), item.offset, item.partition),
            value["longitude"],
        )
        known = newest.get(value["identifier"])
        if known is None or cell.order > known.order:
            newest[value["identifier"]] = cell
    return {name: cell.longitude for name, cell in newest.items() if cell.longitude is not None}


def table_after(batches: Sequence[Sequence[Record]]) -> dict[str, float]:
    """Do what the database's guarded upsert does."""
    table: dict[str, Cell] = {}
    for batch in batches:
        for step in plan_batch(batch, decode).rounds:
            for name, row in step.rows.items():
                if name not in table or row.order > table[name].order:
                    table[name] = Cell(row.order, row.datapoint.longitude)
    return {name: cell.longitude for name, cell in table.items() if cell.longitude is not None}


_LOGS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.none() | st.integers(-180, 180), st.integers(0, 1)),
    max_size=20,
).map(
    lambda items: [
        record(offset, point(name, updated, longitude), partition=partition)
        for offset, (name, updated, longitude, partition) in enumerate(items)
    ]
)


@given(_LOGS, st.data())
def test_any_order_and_batching_and_repetition_gives_the_fold_of_the_log(
    log: list[Record], data: st.DataObject
) -> None:
    arrived = data.draw(
        st.permutations(log + data.draw(st.lists(st.sampled_from(log), max_size=5) if log else st.just([])))
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(arrived)), max_size=4)))
    bounds = [0, *cuts, len(arrived)]
    batches = [arrived[start:end] for start, end in pairwise(bounds)]
    assert table_after(batches) == fold(log)
