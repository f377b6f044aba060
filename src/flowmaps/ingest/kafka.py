"""Talk to Kafka: the consumer's configuration, its log's identity, and where a partition begins and ends."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition

from flowmaps.errors import BrokerUnavailable, ConfigurationError
from flowmaps.settings import Settings

_TIMEOUT_SECONDS = 10.0
_log = logging.getLogger("kafka")


@dataclass(frozen=True, slots=True)
class LogRange:
    """What Kafka holds of a partition: offsets from *low*, before *high*; *committed* is our group's, if it has one."""

    low: int
    high: int
    committed: int | None


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


def open_consumer(settings: Settings) -> Consumer:
    """Return a consumer of our group that never chooses an offset by itself."""
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
        "on_commit": _on_commit,
        "error_cb": _on_error,
    }
    try:
        return Consumer(config, logger=_log)
    except KafkaException as error:
        raise ConfigurationError(f"Kafka: {error.args[0].str()}", names=("FLOWMAPS_KAFKA_*",)) from error


def topic_pattern(pattern: str) -> str:
    """Return the regular expression as librdkafka takes it: a leading ``^`` marks one; ours fit the whole name."""
    return f"^({pattern})$"


def cluster_id(consumer: Consumer) -> str:
    """Return the Kafka cluster's own id; raise `BrokerUnavailable`."""
    with translate_kafka_errors():
        return str(consumer.list_topics(timeout=_TIMEOUT_SECONDS).cluster_id or "")


def log_range(consumer: Consumer, topic: str, partition: int) -> LogRange:
    """Ask the broker what it holds of a partition; raise `BrokerUnavailable`."""
    place = TopicPartition(topic, partition)
    with translate_kafka_errors():
        bounds = consumer.get_watermark_offsets(place, timeout=_TIMEOUT_SECONDS)
        committed = consumer.committed([place], timeout=_TIMEOUT_SECONDS)[0]
    if bounds is None:
        raise BrokerUnavailable("Kafka does not say what a partition holds")
    if committed.error:
        raise BrokerUnavailable(f"Kafka does not say what is committed: {committed.error.str()}")
    return LogRange(bounds[0], bounds[1], committed.offset if committed.offset > OFFSET_INVALID else None)


@contextmanager
def translate_kafka_errors() -> Iterator[None]:
    """Raise `BrokerUnavailable` for what Kafka or the way to it refuses."""
    try:
        yield
    except KafkaException as error:
        raise BrokerUnavailable(f"Kafka: {error.args[0].str()}") from error


def _on_commit(error: KafkaError | None, partitions: list[TopicPartition]) -> None:
    failed = error or next((place.error for place in partitions if place.error), None)
    if failed:
        # The database has the offsets; Kafka's copy only serves tools that show lag, and the next commit repeats it.
        _log.info("offsets not committed to Kafka: %s", failed)


def _on_error(error: KafkaError) -> None:
    _log.warning("Kafka: %s", error.str())
