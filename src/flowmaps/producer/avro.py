"""Write datapoints to Kafka as survey applications do: Avro in the published schema, registered for the topic."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from typing import Any, Protocol

import fastavro
from confluent_kafka import KafkaError, Producer
from confluent_kafka.schema_registry import Schema

from flowmaps.errors import BrokerUnavailable, RecordError

_HEADER = struct.Struct(">bI")
_FLUSH_SECONDS = 60.0


class SubjectRegistry(Protocol):
    """The part of Confluent's client that registers schemas."""

    def register_schema(self, subject_name: str, schema: Schema) -> int: ...


def datapoint_schema() -> dict[str, Any]:
    """Return the published Avro schema of a datapoint."""
    text = (resources.files("flowmaps.data") / "datapoint.avsc").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def push_records(
    producer: Producer,
    registry: SubjectRegistry,
    records: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    schema: Mapping[str, Any] | None = None,
    announce: Callable[[int], None] | None = None,
) -> int:
    """Write (topic, record) pairs, in *schema* or the published one, and return how many the brokers took.

    Records of one identifier keep their order, as the identifier is the key. *announce* is told the count as it grows.
    Raise `RecordError` for a record that does not fit the schema, `BrokerUnavailable` where Kafka does not take them,
    and what the registry's client raises.
    """
    schema = schema or datapoint_schema()
    parsed = fastavro.parse_schema(dict(schema))
    ids: dict[str, int] = {}
    failures: list[KafkaError] = []
    count = 0

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            failures.append(error)

    for topic, record in records:
        if topic not in ids:
            ids[topic] = registry.register_schema(f"{topic}-value", Schema(json.dumps(schema), "AVRO"))
        body = _encode(parsed, record, ids[topic])
        while True:
            try:
                producer.produce(topic, body, key=str(record.get("identifier", "")), on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.5)
        producer.poll(0)
        count += 1
        if announce and count % 500 == 0:
            announce(count)
        if failures:
            break
    left = producer.flush(_FLUSH_SECONDS)
    if failures or left:
        reason = failures[0].str() if failures else f"{left} records were not taken in {_FLUSH_SECONDS:.0f} seconds"
        raise BrokerUnavailable(f"Kafka did not take the records: {reason}")
    if announce:
        announce(count)
    return count


def _encode(parsed: Any, record: Mapping[str, Any], schema_id: int) -> bytes:
    buffer = io.BytesIO()
    buffer.write(_HEADER.pack(0, schema_id))
    try:
        fastavro.schemaless_writer(buffer, parsed, record)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise RecordError(f"the record does not fit the schema: {error}", reason="schema") from error
    return buffer.getvalue()
