"""Read Kafka and hand each topic's records to a thread; one thread polls, and never waits for a database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, wait

import structlog
from confluent_kafka import OFFSET_BEGINNING, TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as Place

from flowmaps.errors import BrokerUnavailable, FlowMapsError
from flowmaps.ingest import metrics
from flowmaps.ingest.claims import FencedError
from flowmaps.ingest.health import Health
from flowmaps.ingest.kafka import topic_pattern
from flowmaps.ingest.plan import Record
from flowmaps.ingest.topics import ALL_BYTES, STOPPED_SECONDS, Lane, Partition, Running, TopicState
from flowmaps.ingest.watch import Watch
from flowmaps.ingest.work import Done, InterruptedJobError, Job, NeedsTenantError
from flowmaps.settings import Settings
from flowmaps.tenants import our_error

_log = structlog.get_logger(__name__)
_POLL_SECONDS = 0.05
_POLL_BUSY_SECONDS = 0.005
"""While a job runs: its end is noticed between two polls."""
_METRICS_SECONDS = 1.0
_STOP_SECONDS = 10.0
_REST_AFTER_FENCE_SECONDS = 1.0


class IngestLoop:
    """Consumes until told to stop; everything here but the jobs runs in the thread that calls `run`."""

    def __init__(
        self,
        settings: Settings,
        consumer: Consumer,
        work: Callable[[Job], Done],
        *,
        executors: Mapping[Lane, Executor],
        health: Health,
        watch: Watch,
        mark: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._work = work
        self._executors = executors
        self._health = health
        self._watch = watch
        self._mark = mark
        self._clock = clock
        self._topics: dict[str, TopicState] = {}
        self._crowded = False
        self._measured = 0.0
        self._defect: Exception | None = None

    def run(self, stop: threading.Event) -> None:
        """Consume until *stop* is set, then finish what runs; a defect rises where the settings say so."""
        self._consumer.subscribe(
            [topic_pattern(self._settings.kafka.topic_pattern)],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
        )
        while not stop.is_set():
            self._read()
            self._look_again()
            self._finish_jobs()
            self._start_jobs()
            self._measure()
            self._health.beat(
                assigned=sum(len(state.partitions) for state in self._topics.values()),
                problems={state.topic: trouble for state in self._topics.values() if (trouble := state.trouble)},
            )
            if self._defect is not None:
                raise self._defect
        running = [state.running.future for state in self._topics.values() if state.running]
        wait(running, timeout=_STOP_SECONDS)
        self._finish_jobs(last=True)
        _log.info("stopping", unfinished=sum(not future.done() for future in running))

    def _read(self) -> None:
        busy = any(state.running for state in self._topics.values())
        first = self._consumer.poll(_POLL_BUSY_SECONDS if busy else _POLL_SECONDS)
        if first is None:
            return
        self._take(first)
        for message in self._consumer.consume(self._settings.kafka.max_poll_records, timeout=0):
            self._take(message)

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            self._take_error(error, message)
            return
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        if topic is None or partition is None or offset is None:
            raise RuntimeError("Kafka gave a record without its place")
        state = self._topics.get(topic)
        part = state.partitions.get(partition) if state else None
        if state is None or part is None or not part.ready:
            # Fetched before the partition was paused or taken away; it will be read again.
            return
        kind, time_ms = message.timestamp()
        state.add(
            Record(
                partition,
                offset,
                _bytes(message.key()),
                _bytes(message.value()),
                time_ms if kind != TIMESTAMP_NOT_AVAILABLE else None,
            )
        )
        if not state.paused and state.full(crowded=self._crowded):
            state.paused = True
            self._consumer.pause(self._places(state))

    def _take_error(self, error: KafkaError, message: Message) -> None:
        if error.fatal():
            raise BrokerUnavailable(f"Kafka: {error.str()}")
        topic, partition = message.topic(), message.partition()
        if error.code() == KafkaError._AUTO_OFFSET_RESET and topic in self._topics:  # noqa: SLF001 - its public name
            # The offset is gone from the log, or was never in it: claim anew, which reports the gap.
            part = self._topics[topic].partitions.get(partition) if partition is not None else None
            if part is not None:
                self._unclaim(self._topics[topic], [part])
            return
        _log.warning("Kafka reports a problem", topic=topic, partition=partition, error=error.str())

    def _look_again(self) -> None:
        """Claim anew what an operator, or the cluster, has changed."""
        for topic in self._watch.changed():
            state = self._topics.get(topic)
            if state is None:
                continue
            _log.info("the topic or its tenant changed", topic=topic)
            state.refresh = True
            state.not_before = 0.0
            self._unclaim(state, list(state.partitions.values()))

    def _unclaim(self, state: TopicState, parts: list[Partition]) -> None:
        for part in parts:
            part.ready, part.claim, part.seek_to, part.claim_at = False, None, None, 0.0
        state.drop(part.number for part in parts)
        self._consumer.pause([Place(state.topic, part.number) for part in parts])

    def _assigned(self, consumer: Consumer, places: list[Place]) -> None:
        """Take partitions, but read nothing before their tenant's database has said where to begin."""
        consumer.incremental_assign([Place(place.topic, place.partition, OFFSET_BEGINNING) for place in places])
        consumer.pause([Place(place.topic, place.partition) for place in places])
        for place in places:
            state = self._topics.get(place.topic)
            if state is None:
                state = TopicState(place.topic, self._settings.kafka.max_poll_records)
                self._topics[place.topic] = state
            state.partitions[place.partition] = Partition(place.partition)
        _log.info("partitions assigned", partitions=[f"{place.topic}/{place.partition}" for place in places])

    def _revoked(self, consumer: Consumer, places: list[Place]) -> None:
        """Give partitions back; a job that still runs for them is let finish, or is fenced by the next owner."""
        self._forget(places)
        consumer.incremental_unassign(places)
        _log.info("partitions revoked", partitions=[f"{place.topic}/{place.partition}" for place in places])

    def _lost(self, consumer: Consumer, places: list[Place]) -> None:
        _log.warning("partitions lost", partitions=[f"{place.topic}/{place.partition}" for place in places])
        self._forget(places)
        consumer.incremental_unassign(places)

    def _forget(self, places: list[Place]) -> None:
        for place in places:
            state = self._topics.get(place.topic)
            if state is None:
                continue
            state.partitions.pop(place.partition, None)
            state.drop([place.partition])
            metrics.forget_partition(place.topic, place.partition)
            if not state.partitions and state.running is None:
                del self._topics[place.topic]
                metrics.forget_topic(place.topic)

    def _start_jobs(self) -> None:
        now = self._clock()
        self._crowded = sum(state.waiting_bytes for state in self._topics.values()) > ALL_BYTES
        for state in self._topics.values():
            self._seek(state)
            if state.paused and state.low(crowded=self._crowded):
                state.paused = False
                self._consumer.resume(self._places(state))
            job = state.next_job(now)
            if job is not None:
                state.start(job, self._executors[state.lane].submit(self._work, job), now)

    def _seek(self, state: TopicState) -> None:
        for part in state.partitions.values():
            if part.seek_to is None:
                continue
            try:
                self._consumer.seek(Place(state.topic, part.number, part.seek_to))
            except KafkaException as error:
                # The fetcher has not taken the partition up yet; the next turn tries again.
                if error.args[0].code() != KafkaError._STATE:  # noqa: SLF001 - its public name
                    raise
                continue
            part.seek_to, part.ready = None, True
            if not state.paused:
                self._consumer.resume([Place(state.topic, part.number)])

    def _finish_jobs(self, *, last: bool = False) -> None:
        for state in list(self._topics.values()):
            running = state.running
            if running is None or not running.future.done():
                continue
            state.running = None
            self._finish(state, running, running.future, last=last)
            if not state.partitions:
                del self._topics[state.topic]
                metrics.forget_topic(state.topic)

    def _finish(self, state: TopicState, running: Running, future: Future[Done], *, last: bool) -> None:
        error = future.exception()
        if isinstance(error, InterruptedJobError):
            claims = error.rest.claims
            done = Done(claims, {number: claim.next_offset for number, claim in claims.items()})
            self._moved(state, running, done, last=last)
            running.job, error = error.rest, error.__cause__
        if error is None:
            self._succeeded(state, running, future.result(), last=last)
        elif isinstance(error, FencedError):
            metrics.FENCED.labels(topic=state.topic).inc()
            _log.warning("fenced", topic=state.topic, partitions=sorted(error.partitions))
            ours = state.still_ours(running)
            state.keep(running)
            self._unclaim(state, [part for number, part in ours.items() if number in error.partitions])
            state.not_before = self._clock() + _REST_AFTER_FENCE_SECONDS
        elif isinstance(error, NeedsTenantError):
            state.keep(running)
            state.lane = "creating"
        else:
            self._failed(state, running, error)

    def _succeeded(self, state: TopicState, running: Running, done: Done, *, last: bool) -> None:
        now = self._clock()
        state.succeeded(now - running.started)
        metrics.PAUSED.labels(topic=state.topic).set(0)
        ours = state.still_ours(running)
        if done.reclaim:
            self._unclaim(state, list(state.partitions.values()))
            return
        for number in running.job.unclaimed & ours.keys():
            self._claimed(state, ours[number], done, now)
        self._moved(state, running, done, last=last)

    def _moved(self, state: TopicState, running: Running, done: Done, *, last: bool) -> None:
        """Take over how far the job's records are stored, and tell Kafka."""
        commits = []
        for number, part in state.still_ours(running).items():
            if number in running.job.unclaimed or not part.ready:
                # Claimed by this job, or to be claimed anew: where to go on is for that claim to say.
                continue
            part.claim = done.claims.get(number, part.claim)
            part.next_offset = done.next_offsets.get(number, part.next_offset)
            if part.next_offset is not None:
                commits.append(Place(state.topic, number, part.next_offset, self._mark))
        if commits:
            self._commit(commits, last=last)

    def _claimed(self, state: TopicState, part: Partition, done: Done, now: float) -> None:
        """Read on where the claim says, or stop there."""
        part.claim = done.claims.get(part.number)
        part.next_offset = done.next_offsets[part.number]
        part.end = done.ends.get(part.number, 0)
        part.gap = done.gaps.get(part.number)
        metrics.STOPPED.labels(topic=state.topic, partition=str(part.number)).set(part.gap is not None)
        if part.gap is None:
            part.seek_to = part.next_offset
        else:
            part.claim_at = now + STOPPED_SECONDS

    def _commit(self, places: list[Place], *, last: bool) -> None:
        """Tell Kafka as well where we are; on the way out, wait until it knows."""
        try:
            if last:
                self._consumer.commit(offsets=places, asynchronous=False)
            else:
                self._consumer.commit(offsets=places, asynchronous=True)
        except KafkaException as error:
            # The databases have the offsets, so that nothing is lost but the view of tools that show lag.
            _log.warning("offsets not committed to Kafka", error=error.args[0].str())

    def _failed(self, state: TopicState, running: Running, error: BaseException) -> None:
        ours = error if isinstance(error, FlowMapsError) else our_error(error) if isinstance(error, Exception) else None
        if ours is None and self._settings.ingest.die_on_uncaught_exception:
            self._defect = error if isinstance(error, Exception) else RuntimeError(repr(error))
        message = ours.message if ours else f"{type(error).__name__}: {error}"
        wait_seconds = state.failed(running, message, self._clock(), self._settings.ingest.retry_seconds)
        exhausted = state.failures > len(self._settings.ingest.retry_seconds)
        metrics.PAUSED.labels(topic=state.topic).set(1)
        log = _log.error if ours is None or exhausted else _log.warning
        log(
            "topic waits",
            topic=state.topic,
            problem=message,
            failures=state.failures,
            retry_in_seconds=round(wait_seconds, 2),
            exc_info=error if ours is None else None,
        )

    def _places(self, state: TopicState) -> list[Place]:
        return [Place(state.topic, number) for number, part in state.partitions.items() if part.ready]

    def _measure(self) -> None:
        now = self._clock()
        if now - self._measured < _METRICS_SECONDS:
            return
        self._measured = now
        self._watch.follow((state.topic, number) for state in self._topics.values() for number in state.partitions)
        metrics.ASSIGNED.set(sum(len(state.partitions) for state in self._topics.values()))
        for state in self._topics.values():
            behind = [self._lag(state.topic, part) for part in state.partitions.values()]
            if not any(behind) and all(part.ready for part in state.partitions.values()):
                state.behind_since = None
            elif state.behind_since is None:
                state.behind_since = now
            waited = now - state.behind_since if state.behind_since is not None else 0.0
            metrics.FRESHNESS.labels(topic=state.topic).set(max(waited, _oldest_seconds(state)))

    def _lag(self, topic: str, part: Partition) -> int:
        bounds = self._consumer.get_watermark_offsets(Place(topic, part.number), cached=True)
        if part.next_offset is None:
            return 0
        # What was fetched last says nothing of a partition that is paused since; the claim and the watch do.
        fetched = bounds[1] if bounds is not None else 0
        lag = max(0, fetched, part.end, self._watch.end(topic, part.number)) - part.next_offset
        lag = max(0, lag)
        metrics.LAG.labels(topic=topic, partition=str(part.number)).set(lag)
        return lag


def _oldest_seconds(state: TopicState) -> float:
    """Return the age of the first record that waits, by Kafka's clock; 0 where none waits."""
    job = state.running.job.records if state.running else ()
    first = next(iter(state.retry or job or state.waiting), None)
    if first is None or first.time_ms is None:
        return 0.0
    return max(0.0, time.time() - first.time_ms / 1000)


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
