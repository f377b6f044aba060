"""Look, beside the reading loop, at what changes without a record: tenants, topics made anew, ends of partitions.

One thread, one question to the master database and two to Kafka, however many topics there are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import psycopg
import structlog

from flowmaps.errors import TemporaryError
from flowmaps.settings import Settings
from flowmaps.tenants import translate_database_errors

REVISIONS_SECONDS = 2.0
ENDS_SECONDS = 10.0
_log = structlog.get_logger(__name__)
Place = tuple[str, int]


class Cluster(Protocol):
    """The questions that are asked of Kafka."""

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]: ...

    def ends(self, places: Iterable[Place]) -> dict[Place, int]: ...


class Watch:
    """Remembers which topics must be claimed anew, and where partitions end that nobody fetches just now."""

    def __init__(self, settings: Settings, cluster: Cluster, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._cluster = cluster
        self._clock = clock
        self._topics_seconds = max(1.0, settings.kafka.metadata_max_age_ms / 1000)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._due: dict[str, float] = {}
        self._followed: frozenset[Place] = frozenset()
        self._revisions: dict[str, int] | None = None
        self._topic_ids: dict[str, str] = {}
        self._ends: dict[Place, int] = {}
        self._changed: set[str] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        # It may wait for Kafka's answer to a question; nothing of ours depends on that.
        self._thread.join(timeout=1)

    def follow(self, places: Iterable[Place]) -> None:
        """Say which partitions are assigned to this process."""
        self._followed = frozenset(places)

    def changed(self) -> set[str]:
        """Return the topics that changed since the last call; their partitions are to be claimed anew."""
        if not self._changed:
            return set()
        with self._lock:
            changed, self._changed = self._changed, set()
        return changed

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last record, as far as it is known."""
        return self._ends.get((topic, partition), 0)

    def _run(self) -> None:
        while not self._stop.wait(0.25):
            for name, seconds, look in (
                ("revisions", REVISIONS_SECONDS, self.look_at_tenants),
                ("topics", self._topics_seconds, self.look_at_topics),
                ("ends", ENDS_SECONDS, self.look_at_ends),
            ):
                if self._clock() < self._due.get(name, 0.0):
                    continue
                self._due[name] = self._clock() + seconds
                try:
                    look()
                except TemporaryError as error:
                    _log.debug("cannot look", at=name, problem=error.message)

    def look_at_tenants(self) -> None:
        """Notice tenants that an operator rewound, re-keyed or dropped, or whose gap was accepted."""
        timeout = max(2, round(self._settings.database.connect_timeout_seconds))
        with (
            translate_database_errors(),
            psycopg.connect(self._settings.database.url.get_secret_value(), connect_timeout=timeout) as conn,
        ):
            rows: list[Any] = conn.execute("select topic, revision from flowmaps.tenant where revision > 0").fetchall()
        revisions: dict[str, int] = dict(rows)
        before = self._revisions
        self._revisions = revisions
        if before is not None:
            self._note(topic for topic in {*revisions, *before} if revisions.get(topic, 0) != before.get(topic, 0))

    def look_at_topics(self) -> None:
        """Notice topics that were deleted and made anew."""
        found = self._cluster.topic_ids({topic for topic, _ in self._followed})
        self._note(topic for topic, seen in found.items() if self._topic_ids.get(topic, seen) != seen)
        self._topic_ids = found

    def look_at_ends(self) -> None:
        """Ask for the ends of all partitions: of those that are paused nothing is fetched, which would tell."""
        followed = self._followed
        found: Mapping[Place, int] = self._cluster.ends(followed)
        kept = {place: end for place, end in self._ends.items() if place in followed}
        self._ends = {**kept, **found}

    def _note(self, topics: Iterable[str]) -> None:
        with self._lock:
            self._changed.update(topics)
