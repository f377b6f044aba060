"""Put the parts of the ingest process together, in order, and take them down again."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

import psycopg
import structlog

from flowmaps.errors import TemporaryError
from flowmaps.ingest.health import Health, health_server
from flowmaps.ingest.kafka import Observer, open_consumer
from flowmaps.ingest.loop import IngestLoop
from flowmaps.ingest.topics import Lane
from flowmaps.ingest.watch import Watch
from flowmaps.ingest.work import TopicWork
from flowmaps.schemas import RegistryClient, SchemaRegistry
from flowmaps.settings import Settings
from flowmaps.tenants import OwnerConnections, installation_id, migrate_master, translate_database_errors

_log = structlog.get_logger(__name__)
_Result = TypeVar("_Result")
WORKERS: dict[Lane, int] = {"usual": 8, "slow": 4, "creating": 2}
"""Threads that work for tenants, so the most connections that ingest uses at once; the work is PostgreSQL's."""

PLANNERS = 4
"""Threads that decode; more would only wait for the interpreter's lock."""


def run_ingest(
    settings: Settings,
    *,
    stop: threading.Event,
    registry_client: RegistryClient | None = None,
    announce: Callable[[int], None] | None = None,
) -> None:
    """Consume until *stop* is set. *announce* is told the port of `/metrics` once it answers.

    *registry_client* stands in for the registry of the settings. Raise `ConfigurationError` at the start, and a
    defect where ``ingest.die_on_uncaught_exception`` says so; what is away for a time is waited for.
    """
    health = Health()
    with ExitStack() as stack:
        stack.callback(health.stopped)
        port = stack.enter_context(health_server(health, settings.ingest.metrics_host, settings.ingest.metrics_port))
        _log.info("metrics", port=port)
        if announce:
            announce(port)
        registry = stack.enter_context(SchemaRegistry(settings.registry, client=registry_client))
        observer = stack.enter_context(Observer(settings))
        consumer = open_consumer(settings)
        stack.callback(consumer.close)
        url = settings.database.url.get_secret_value()
        if _until_there(lambda: migrate_master(url), health, stop) is None:
            return
        mark = _until_there(lambda: [installation_id(url)], health, stop)
        cluster = _until_there(lambda: [observer.cluster_id()], health, stop)
        if not cluster or not mark:
            return
        connections = stack.enter_context(OwnerConnections(settings))
        executors: dict[Lane, Executor] = {}
        for lane, workers in WORKERS.items():
            executors[lane] = executor = ThreadPoolExecutor(workers, thread_name_prefix=lane)
            stack.callback(executor.shutdown, wait=True, cancel_futures=True)
        planner = ThreadPoolExecutor(PLANNERS, thread_name_prefix="planner")
        stack.callback(planner.shutdown, wait=True, cancel_futures=True)
        # By now the loop has waited; what still runs hangs, and would keep the process from ending.
        stack.callback(connections.cancel)
        health.checks["database"] = lambda: _check_database(settings)
        health.checks["kafka"] = lambda: _check_kafka(observer)
        stack.callback(health.checks.clear)
        work = TopicWork(settings, cluster[0], registry.decode, observer, connections, planner=planner, mark=mark[0])
        watch = stack.enter_context(Watch(settings, observer))
        _log.info("consuming", cluster_id=cluster[0], pattern=settings.kafka.topic_pattern)
        loop = IngestLoop(settings, consumer, work.run, executors=executors, health=health, watch=watch, mark=mark[0])
        loop.run(stop)
    _log.info("stopped")


def _until_there(action: Callable[[], list[_Result]], health: Health, stop: threading.Event) -> list[_Result] | None:
    """Return what *action* gives as soon as what it needs is there; None where *stop* was set before."""
    wait_seconds = 0.5
    while not stop.is_set():
        health.starting()
        try:
            return action()
        except TemporaryError as error:
            _log.warning("waiting", problem=error.message)
        stop.wait(wait_seconds * random.uniform(0.75, 1.25))  # noqa: S311 - no secret
        wait_seconds = min(wait_seconds * 2, 15.0)
    return None


def _check_database(settings: Settings) -> None:
    timeout = max(2, round(settings.database.connect_timeout_seconds))
    with (
        translate_database_errors(),
        psycopg.connect(settings.database.url.get_secret_value(), connect_timeout=timeout) as conn,
    ):
        conn.execute("select 1")


def _check_kafka(observer: Observer) -> None:
    observer.cluster_id()
