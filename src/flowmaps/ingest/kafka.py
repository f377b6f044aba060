"""Talk to Kafka: the consumer's configuration, its log's identity, and where a partition begins and ends."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin import OffsetSpec as Spec  # type: ignore[attr-defined]  # public, but not in its __all__

from flowmaps.errors import BrokerUnavailable, ConfigurationError
from flowmaps.settings import Settings

_TIMEOUT_SECONDS = 10.0
_log = logging.getLogger("kafka")


@dataclass(frozen=True, slots=True)
class LogRange:
    """What Kafka holds of a partition: offsets from *low*, before *high*; *committed* by us, or None."""

    low: int
    high: int
    committed: int | None = None


def kafka_config(settings: Settings) -> dict[str, Any]:
    """Return librdkafka's connection options; raise `ConfigurationError` where no broker is set."""
    kafka = settings.kafka
    if not kafka.servers:
        raise ConfigurationError("no Kafka servers are set", names=("FLOWMAPS_KAFKA_SERVERS",))
    config: dict[str, Any] = {
        "bootstrap.servers": kafka.servers,
        "client.id": settings.ingest.client_id or socket.gethostname(),
        "security.protocol": kafka.security_protocol,
    }
    files = {
        "ssl.ca.location": kafka.ca_file,
        "ssl.certificate.location": kafka.certificate_file,
        "ssl.key.location": kafka.key_file,
    }
    config |= {name: str(path) for name, path in files.items() if path}
    if kafka.key_password:
        config["ssl.key.password"] = kafka.key_password.get_secret_value()
    if kafka.security_protocol.startswith("SASL"):
        config |= {
            "sasl.mechanism": kafka.sasl_mechanism,
            "sasl.username": kafka.sasl_username,
            "sasl.password": kafka.sasl_password.get_secret_value(),
        }
    return config


class Commits:
    """Remembers the offsets that Kafka does not know yet: a commit during a rebalance fails, and is to be repeated."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, int], TopicPartition] = {}

    def begin(self, places: Iterable[TopicPartition]) -> None:
        self.open |= {(place.topic, place.partition): place for place in places}

    def settled(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        """Take Kafka's answer; called by the consumer, in the thread that polls."""
        for place in places:
            key, failed = (place.topic, place.partition), error or place.error
            if failed:
                # The databases have the offsets; Kafka's copy serves tools that show lag, and topics without a tenant.
                _log.info("offset not committed to Kafka: %s", failed)
            elif key in self.open and self.open[key].offset <= place.offset:
                del self.open[key]


def open_consumer(settings: Settings, commits: Commits | None = None) -> Consumer:
    """Return a consumer of our group that never chooses an offset by itself; *commits* is told of what it commits."""
    kafka = settings.kafka
    config = kafka_config(settings) | {
        "group.id": kafka.group_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # An offset that is gone is ours to report; librdkafka would jump without a word.
        "auto.offset.reset": "error",
        "partition.assignment.strategy": "cooperative-sticky",
        "topic.metadata.refresh.interval.ms": kafka.metadata_max_age_ms,
        "metadata.max.age.ms": max(kafka.metadata_max_age_ms * 3, 1000),
        "session.timeout.ms": kafka.session_timeout_ms,
        "heartbeat.interval.ms": min(3000, kafka.session_timeout_ms // 3),
        # Bounds the memory of what is fetched ahead.
        "queued.max.messages.kbytes": 32_768,
        "fetch.wait.max.ms": 100,
        "fetch.error.backoff.ms": 200,
        "on_commit": (commits or Commits()).settled,
        "error_cb": _on_error,
    }
    try:
        return Consumer(config, logger=_log)
    except KafkaException as error:
        raise ConfigurationError(f"Kafka: {error.args[0].str()}", names=("FLOWMAPS_KAFKA_*",)) from error


def topic_pattern(pattern: str) -> str:
    """Return the regular expression as librdkafka takes it: a leading ``^`` marks one; ours fit the whole name."""
    return f"^({pattern})$"


class Observer:
    """Asks Kafka questions, from any thread, on connections of its own.

    On the consumer's connection they would queue behind its long fetches.
    """

    def __init__(self, settings: Settings) -> None:
        self._consumer = open_consumer(settings)
        self._admin = AdminClient(kafka_config(settings), logger=_log)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._consumer.close()

    def cluster_id(self) -> str:
        """Return the Kafka cluster's own id; raise `BrokerUnavailable`."""
        with translate_kafka_errors():
            return str(self._consumer.list_topics(timeout=_TIMEOUT_SECONDS).cluster_id or "")

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """Return Kafka's own ids of those *topics* that are there; raise `BrokerUnavailable`.

        Empty where the cluster names no controller, which knows the ids: librdkafka's in-process broker has none.
        """
        wanted = sorted(set(topics))
        if not wanted:
            return {}
        with translate_kafka_errors():
            cluster = self._consumer.list_topics(wanted[0], timeout=_TIMEOUT_SECONDS)
        if cluster.controller_id not in cluster.brokers:
            return dict.fromkeys(wanted, "")
        asked = self._admin.describe_topics(TopicCollection(wanted), request_timeout=_TIMEOUT_SECONDS)
        ids = {}
        for topic, future in asked.items():
            try:
                with translate_kafka_errors():
                    ids[topic] = str(future.result().topic_id)
            except BrokerUnavailable as error:
                if _code(error) != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
        return ids

    def log_range(self, topic: str, partition: int, *, mark: str) -> LogRange:
        """Ask what Kafka holds of a partition, and what was committed with *mark*; raise `BrokerUnavailable`."""
        place = TopicPartition(topic, partition)
        with translate_kafka_errors():
            bounds = self._consumer.get_watermark_offsets(place, timeout=_TIMEOUT_SECONDS)
            committed = self._consumer.committed([place], timeout=_TIMEOUT_SECONDS)[0]
        if bounds is None:
            raise BrokerUnavailable("Kafka does not say what a partition holds")
        if committed.error:
            raise BrokerUnavailable(f"Kafka does not say what is committed: {committed.error.str()}")
        ours = committed.offset > OFFSET_INVALID and committed.metadata == mark
        return LogRange(bounds[0], bounds[1], committed.offset if ours else None)

    def partitions(self, topic: str) -> list[int]:
        """Return the topic's partitions, none where there is no such topic; raise `BrokerUnavailable`."""
        with translate_kafka_errors():
            found = self._consumer.list_topics(topic, timeout=_TIMEOUT_SECONDS).topics[topic]
        return sorted(found.partitions)

    def offset_at(self, topic: str, partition: int, time_ms: int) -> int | None:
        """Return the offset of the first record at or after a time since 1970; None where there is none."""
        with translate_kafka_errors():
            asked = [TopicPartition(topic, partition, time_ms)]
            found = self._consumer.offsets_for_times(asked, timeout=_TIMEOUT_SECONDS)[0]
        return int(found.offset) if found.offset >= 0 else None

    def ends(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the offset after the last record of each (topic, partition) whose leader says so in time."""
        latest = Spec.latest()  # type: ignore[no-untyped-call]
        wanted = {TopicPartition(topic, partition): latest for topic, partition in places}
        if not wanted:
            return {}
        found = {}
        for place, future in self._admin.list_offsets(wanted, request_timeout=_TIMEOUT_SECONDS).items():
            try:
                found[place.topic, place.partition] = int(future.result().offset)
            except KafkaException as error:
                _log.debug("the end of %s is not known: %s", place, error)
        return found


def _code(error: BrokerUnavailable) -> int | None:
    cause = error.__cause__
    return cause.args[0].code() if isinstance(cause, KafkaException) else None


@contextmanager
def translate_kafka_errors() -> Iterator[None]:
    """Raise `BrokerUnavailable` for what Kafka or the way to it refuses."""
    try:
        yield
    except KafkaException as error:
        raise BrokerUnavailable(f"Kafka: {error.args[0].str()}") from error


def _on_error(error: KafkaError) -> None:
    _log.warning("Kafka: %s", error.str())
