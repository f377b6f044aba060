"""Count what ingest does. Names, labels and buckets that the replaced system had are kept."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator

from prometheus_client import Counter, Gauge, disable_created_metrics
from prometheus_client.core import Metric
from prometheus_client.registry import REGISTRY, Collector

from flowmaps.ingest.plan import BatchPlan

# The time a series began would be a second series beside each.
disable_created_metrics()  # type: ignore[no-untyped-call]

LAG = Gauge(
    "flowmaps_consumer_lag", "Records of the partition that are not in the database yet.", ["topic", "partition"]
)
FRESHNESS = Gauge(
    "flowmaps_freshness_seconds", "For how long the oldest record waits that is not in the database yet.", ["topic"]
)
REJECTED = Counter("flowmaps_rejected_records", "Records kept as rejected.", ["topic", "reason"])
REMOVED = Counter("flowmaps_removed_points", "Points that a tombstone took off the map.", ["topic"])
GAPS = Counter("flowmaps_gaps", "Stored offsets that Kafka's log did not continue.", ["topic", "reason"])
STOPPED = Gauge(
    "flowmaps_partition_stopped", "1 while a partition waits for its gap to be accepted.", ["topic", "partition"]
)
ASSIGNED = Gauge("flowmaps_assigned_partitions", "Partitions that this process reads.")
PAUSED = Gauge("flowmaps_topic_paused", "1 while a topic waits because its tenant or the registry fails.", ["topic"])
FENCED = Counter("flowmaps_fenced_batches", "Batches given up as another consumer had the partition.", ["topic"])


class _DatapointProcess(Collector):
    """`datapoint_process`, which ends in no ``_total``, as the client library would have it."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = defaultdict(int)
        self._lock = threading.Lock()

    def add(self, topic: str, name: str, count: int) -> None:
        with self._lock:
            self._counts[topic, name] += count

    def collect(self) -> Iterator[Metric]:
        metric = Metric("datapoint_process", "Records by what became of them.", "unknown")
        with self._lock:
            counts = dict(self._counts)
        for (topic, name), count in sorted(counts.items()):
            metric.add_sample("datapoint_process", {"topic": topic, "name": name}, count)
        yield metric


DATAPOINT_PROCESS = _DatapointProcess()
REGISTRY.register(DATAPOINT_PROCESS)


def count_batch(topic: str, plan: BatchPlan, *, refused: int = 0, removed: int = 0) -> None:
    """Count a batch that is in the database: *refused* rows it did not take, *removed* were taken off by tombstones."""
    DATAPOINT_PROCESS.add(topic, "total", plan.total)
    DATAPOINT_PROCESS.add(topic, "upsert", plan.upsert - refused)
    DATAPOINT_PROCESS.add(topic, "discarded", plan.discarded + refused)
    for item in plan.rejected:
        REJECTED.labels(topic=topic, reason=item.reason).inc()
    if refused:
        REJECTED.labels(topic=topic, reason="refused").inc(refused)
    if removed:
        REMOVED.labels(topic=topic).inc(removed)


def forget_partition(topic: str, partition: int) -> None:
    """Say nothing more of a partition that another process follows now."""
    for gauge in (LAG, STOPPED):
        if (topic, str(partition)) in gauge._metrics:  # noqa: SLF001 - remove() warns about what is not there
            gauge.remove(topic, str(partition))


def forget_topic(topic: str) -> None:
    """Say nothing more of how fresh a topic is that another process follows now."""
    for gauge in (FRESHNESS, PAUSED):
        if (topic,) in gauge._metrics:  # noqa: SLF001 - as above
            gauge.remove(topic)
