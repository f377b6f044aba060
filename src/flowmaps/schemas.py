"""Decode Avro records by the schema that their producer registered.

The framing is Confluent's: a zero byte, the schema's id as four bytes, big-endian, then the Avro body.
"""

from __future__ import annotations

import io
import json
import struct
import threading
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Protocol, Self

import fastavro
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from fastavro.schema import SchemaParseException

from flowmaps.errors import ConfigurationError, RecordError, RegistryUnavailable
from flowmaps.settings import RegistrySettings

MAX_RECORD_BYTES = 8 * 1024 * 1024
"""Brokers take one megabyte unless told otherwise; decoding needs a multiple of this in memory."""
UNKNOWN_SECONDS = 30.0
"""So long a schema id that the registry does not know is not asked for again."""
_HEADER = struct.Struct(">bI")
_DECODING = (
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AttributeError,
    MemoryError,
    RecursionError,
    struct.error,
)
"""What fastavro raises, here and there, for bytes that do not fit the schema."""
_AWAY: tuple[type[Exception], ...] = (
    OSError,
    *(import_module(name).HTTPError for name in ("httpx", "httpx2") if find_spec(name)),
)
"""What the client lets through when the registry does not answer: it takes whichever of the two is installed."""


class RegistryClient(Protocol):
    """The part of Confluent's client that is used; its in-memory client has it as well."""

    def get_schema(self, schema_id: int) -> Any: ...

    def get_version(self, subject_name: str, version: int) -> Any: ...


class SchemaRegistry:
    """Decodes records; every schema is fetched and parsed once. Safe for several threads."""

    def __init__(
        self,
        settings: RegistrySettings,
        *,
        client: RegistryClient | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._client: RegistryClient | None = client
        self._owned: SchemaRegistryClient | None = None
        self._clock = clock
        self._schemas: dict[int, Any] = {}
        self._refused: dict[int, tuple[float, RecordError]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if self._client is None:
            self._client = self._owned = open_registry_client(self._settings)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owned is not None:
            self._owned.__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]
            self._client = self._owned = None

    def decode(self, raw: bytes) -> dict[str, Any]:
        """Return the record in *raw*.

        Raise `RecordError` for what will never decode, with reason ``too-large``, ``framing``, ``unknown-schema``,
        ``schema`` or ``decode``; raise `RegistryUnavailable` where the schema cannot be fetched just now.
        """
        if len(raw) > MAX_RECORD_BYTES:
            raise RecordError(f"the record has {len(raw)} bytes of at most {MAX_RECORD_BYTES}", reason="too-large")
        if len(raw) < _HEADER.size:
            raise RecordError("the record is shorter than the header of a schema registry", reason="framing")
        magic, schema_id = _HEADER.unpack_from(raw)
        if magic != 0:
            raise RecordError(f"the record starts with byte {raw[0]} instead of 0", reason="framing")
        schema = self._schema(schema_id)
        body = io.BytesIO(raw)
        body.seek(_HEADER.size)
        try:
            record = fastavro.schemaless_reader(body, schema, None)
        except _DECODING as error:
            raise RecordError(
                f"the record does not fit schema {schema_id}: {_first_line(error)}", reason="decode"
            ) from error
        if rest := len(raw) - body.tell():
            raise RecordError(f"{rest} bytes follow the record of schema {schema_id}", reason="decode")
        if not isinstance(record, dict):
            raise RecordError(f"schema {schema_id} describes no record", reason="schema")
        return record

    def _schema(self, schema_id: int) -> Any:
        schema = self._schemas.get(schema_id)
        if schema is not None:
            return schema
        with self._lock:
            if schema_id in self._schemas:
                return self._schemas[schema_id]
            until, refusal = self._refused.get(schema_id, (0.0, None))
            if refusal is not None and self._clock() < until:
                raise RecordError(refusal.message, reason=refusal.reason)
            try:
                self._schemas[schema_id] = self._load(schema_id)
            except RecordError as error:
                if len(self._refused) > 1000:
                    self._refused.clear()
                self._refused[schema_id] = (self._clock() + UNKNOWN_SECONDS, error)
                raise
            return self._schemas[schema_id]

    def _load(self, schema_id: int) -> Any:
        client = self._open_client()
        registered = _ask(lambda: client.get_schema(schema_id), f"schema {schema_id}")
        named: dict[str, Any] = {}
        try:
            self._load_references(registered, named, depth=0)
            return _parse(registered, named)
        except (SchemaParseException, ValueError, TypeError, LookupError, AttributeError) as error:
            raise RecordError(f"schema {schema_id} is no Avro schema: {_first_line(error)}", reason="schema") from error

    def _load_references(self, schema: Any, named: dict[str, Any], depth: int) -> None:
        if depth > 16:
            raise RecordError("the schema's references go round in a circle", reason="schema")
        client = self._open_client()
        for reference in schema.references or ():
            if reference.name in named:
                continue
            subject, version = reference.subject, reference.version

            def fetch(subject: str = subject, version: int = version) -> Any:
                return client.get_version(subject, version)

            found = _ask(fetch, f"version {version} of {subject}").schema
            self._load_references(found, named, depth + 1)
            _parse(found, named)

    def _open_client(self) -> RegistryClient:
        if self._client is None:
            raise RuntimeError("the registry was not entered")
        return self._client


def open_registry_client(settings: RegistrySettings) -> SchemaRegistryClient:
    """Return a client for the registry of *settings*; raise `ConfigurationError` where they cannot work."""
    if not settings.url:
        raise ConfigurationError("no schema registry is set", names=("FLOWMAPS_REGISTRY_URL",))
    # Ingest itself waits and tries again, so that one topic's wait does not hold up another's.
    conf: dict[str, Any] = {"url": settings.url, "timeout": settings.timeout_seconds, "max.retries": 0}
    files = {
        "ssl.ca.location": settings.ca_file,
        "ssl.certificate.location": settings.certificate_file,
        "ssl.key.location": settings.key_file,
    }
    conf |= {name: str(path) for name, path in files.items() if path}
    if settings.username:
        conf["basic.auth.user.info"] = f"{settings.username}:{settings.password.get_secret_value()}"
    try:
        return SchemaRegistryClient.new_client(conf)
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"schema registry: {error}", names=("FLOWMAPS_REGISTRY_URL",)) from error


def _ask(question: Callable[[], Any], what: str) -> Any:
    try:
        return question()
    except SchemaRegistryError as error:
        # Confluent's codes: 40401 subject, 40402 version, 40403 schema not found. A plain 404 is a wrong address.
        if error.http_status_code == 404 and 40400 <= error.error_code <= 40499:
            raise RecordError(f"the registry does not know {what}", reason="unknown-schema") from error
        raise RegistryUnavailable(
            f"the schema registry answers {error.http_status_code} when asked for {what}"
        ) from error
    except _AWAY as error:
        raise RegistryUnavailable(f"the schema registry does not answer: {type(error).__name__}") from error
    except ValueError as error:
        raise RegistryUnavailable("the schema registry's answer is no JSON") from error


def _parse(schema: Any, named: dict[str, Any]) -> Any:
    if (schema.schema_type or "AVRO") != "AVRO":
        raise RecordError(f"the schema is of type {schema.schema_type}, not AVRO", reason="schema")
    return fastavro.parse_schema(json.loads(schema.schema_str), named_schemas=named)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
