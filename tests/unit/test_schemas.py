"""Framed Avro decodes by its producer's schema, or is refused with a stable reason."""

import io
import json
import uuid
from typing import Any

import fastavro
import httpx
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.schema_registry_client import SchemaReference
from hypothesis import given
from hypothesis import strategies as st

from flowmaps.errors import ConfigurationError, RecordError, RegistryUnavailable
from flowmaps.schemas import MAX_RECORD_BYTES, UNKNOWN_SECONDS, SchemaRegistry
from flowmaps.settings import RegistrySettings

POINT: dict[str, Any] = {
    "type": "record",
    "name": "Point",
    "fields": [{"name": "identifier", "type": "string"}, {"name": "latitude", "type": ["null", "double"]}],
}


def memory_client() -> Any:
    return SchemaRegistryClient.new_client({"url": f"mock://{uuid.uuid4()}"})


def framed(schema_id: int, record: object, schema: dict[str, Any]) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema, record)
    return b"\0" + schema_id.to_bytes(4, "big") + body.getvalue()


def registry(client: Any, **options: Any) -> SchemaRegistry:
    return SchemaRegistry(RegistrySettings(url="http://registry.invalid"), client=client, **options)


@pytest.fixture
def known() -> tuple[SchemaRegistry, int]:
    client = memory_client()
    return registry(client), client.register_schema("s-value", Schema(json.dumps(POINT), "AVRO"))


def refusal(schemas: SchemaRegistry, raw: bytes) -> str:
    with pytest.raises(RecordError) as caught:
        schemas.decode(raw)
    return caught.value.reason


def test_a_framed_record_decodes(known: tuple[SchemaRegistry, int]) -> None:
    schemas, schema_id = known
    record = {"identifier": "p", "latitude": 1.5}
    assert schemas.decode(framed(schema_id, record, POINT)) == record


def test_trailing_bytes_are_an_error(known: tuple[SchemaRegistry, int]) -> None:
    schemas, schema_id = known
    assert refusal(schemas, framed(schema_id, {"identifier": "p", "latitude": None}, POINT) + b"\0") == "decode"


def test_a_cut_record_is_an_error(known: tuple[SchemaRegistry, int]) -> None:
    schemas, schema_id = known
    assert refusal(schemas, framed(schema_id, {"identifier": "p", "latitude": 1.0}, POINT)[:-1]) == "decode"


@pytest.mark.parametrize("raw", [b"", b"\0", b"\0\0\0\0", b"\x01\0\0\0\x01abc", b'{"identifier": "p"}'])
def test_bytes_without_the_framing_are_refused(known: tuple[SchemaRegistry, int], raw: bytes) -> None:
    assert refusal(known[0], raw) == "framing"


def test_an_enormous_record_is_refused_before_it_is_decoded(known: tuple[SchemaRegistry, int]) -> None:
    assert refusal(known[0], bytes(MAX_RECORD_BYTES + 1)) == "too-large"


def test_an_unknown_schema_id_is_refused(known: tuple[SchemaRegistry, int]) -> None:
    assert refusal(known[0], b"\0\xff\xff\xff\xff\0") == "unknown-schema"


def test_a_schema_that_is_no_record_is_refused() -> None:
    client = memory_client()
    schema_id = client.register_schema("s", Schema('"string"', "AVRO"))
    assert refusal(registry(client), b"\0" + schema_id.to_bytes(4, "big") + b"\x02a") == "schema"


@pytest.mark.parametrize(("text", "kind"), [("{}", "JSON"), ('{"type": "nonsense"}', "AVRO"), ("not json", "AVRO")])
def test_a_schema_that_is_not_avro_is_refused(text: str, kind: str) -> None:
    client = memory_client()
    schema_id = client.register_schema("s", Schema(text, kind))
    assert refusal(registry(client), b"\0" + schema_id.to_bytes(4, "big") + b"\0") == "schema"


def test_references_are_followed() -> None:
    client = memory_client()
    place = {"type": "record", "name": "Place", "namespace": "a", "fields": [{"name": "name", "type": "string"}]}
    outer: dict[str, Any] = {"type": "record", "name": "Outer", "fields": [{"name": "place", "type": "a.Place"}]}
    client.register_schema("place", Schema(json.dumps(place), "AVRO"))
    version = client.get_latest_version("place").version
    reference = SchemaReference(name="a.Place", subject="place", version=version)
    schema_id = client.register_schema("outer", Schema(json.dumps(outer), "AVRO", [reference]))
    assert registry(client).decode(b"\0" + schema_id.to_bytes(4, "big") + b"\x02x") == {"place": {"name": "x"}}


class Failing:
    """A registry client that only fails, and counts how often."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    def get_schema(self, schema_id: int) -> Any:  # noqa: ARG002 - the client's own signature
        self.asked += 1
        raise self.error

    def get_version(self, subject_name: str, version: int) -> Any:  # noqa: ARG002 - as above
        return self.get_schema(version)


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        SchemaRegistryError(503, 50301, "starting"),
        SchemaRegistryError(401, 401, "who are you"),
        SchemaRegistryError(404, -1, "wrong address"),
    ],
)
def test_an_outage_never_condemns_a_record(error: Exception) -> None:
    with pytest.raises(RegistryUnavailable):
        registry(Failing(error)).decode(b"\0\0\0\0\x01\0")


def test_an_unknown_schema_is_asked_for_again_only_later() -> None:
    now = [0.0]
    client = Failing(SchemaRegistryError(404, 40403, "not found"))
    schemas = registry(client, clock=lambda: now[0])
    for _ in range(3):
        assert refusal(schemas, b"\0\0\0\0\x01\0") == "unknown-schema"
    assert client.asked == 1
    now[0] = UNKNOWN_SECONDS
    assert refusal(schemas, b"\0\0\0\0\x01\0") == "unknown-schema"
    assert client.asked == 2


def test_no_address_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError), SchemaRegistry(RegistrySettings()):
        pass


@given(st.binary(max_size=64))
def test_any_bytes_decode_or_are_refused(body: bytes) -> None:
    client = memory_client()
    schema_id = client.register_schema("s-value", Schema(json.dumps(POINT), "AVRO"))
    try:
        record = registry(client).decode(b"\0" + schema_id.to_bytes(4, "big") + body)
    except RecordError:
        return
    assert set(record) == {"identifier", "latitude"}
