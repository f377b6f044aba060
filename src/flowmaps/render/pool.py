"""Run render workers: a bounded queue, a deadline for each job, and a new process for one that crashed or hangs."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import structlog
from prometheus_client import Counter, Gauge, Histogram

from flowmaps.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    FlowMapsError,
    Forbidden,
    InvalidCartoCSS,
    InvalidSQL,
    QueryTimeout,
    RemoteUnavailable,
    RendererCrashed,
    RenderQueueFull,
    RenderTimeout,
)
from flowmaps.render.assets import list_assets
from flowmaps.render.job import Job, Rendered
from flowmaps.settings import RenderSettings

START_SECONDS = 30.0
_LENGTH_BYTES = 4

_WAITING = Gauge("flowmaps_render_queue", "Render jobs that wait for a worker.")
_DRAWING = Gauge("flowmaps_render_busy", "Render workers that draw.")
_RESTARTS = Counter("flowmaps_render_restarts", "Render workers replaced, by reason.", ["reason"])
_SECONDS = Histogram(
    "flowmaps_render_seconds",
    "Time from a worker taking a job to its answer.",
    ["output"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_log = structlog.get_logger()


@dataclass(slots=True)
class _Pending:
    payload: bytes
    output: str
    deadline: float
    answer: asyncio.Future[Rendered]


class _Process:
    """One worker process and its pipe."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.fonts: frozenset[str] = frozenset()

    @classmethod
    async def start(cls, settings: RenderSettings) -> _Process:
        options = {
            "cached_maps": settings.cached_maps,
            "cached_map_seconds": settings.cached_map_seconds,
            "memory_mib": settings.memory_mib,
            "font_directories": list(settings.font_directories),
        }
        # A name of PostgreSQL in our environment must not reach a map's connection; each map brings its own.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "FLOWMAPS_"))}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "flowmaps.render.worker",
            json.dumps(options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            # Ctrl-C in a terminal reaches the whole group; the parent decides when a worker ends.
            start_new_session=True,
        )
        started = cls(process)
        try:
            async with asyncio.timeout(START_SECONDS):
                started.fonts = frozenset((await started._read()).message.split("\n"))
        except BaseException:
            await started.stop()
            raise
        return started

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    async def wait(self) -> None:
        await self._process.wait()

    async def ask(self, payload: bytes) -> Rendered:
        if self._process.stdin is None:
            raise RuntimeError("the worker has no pipe")
        self._process.stdin.write(len(payload).to_bytes(_LENGTH_BYTES, "big") + payload)
        await self._process.stdin.drain()
        return await self._read()

    async def _read(self) -> Rendered:
        if self._process.stdout is None:
            raise RuntimeError("the worker has no pipe")
        size = int.from_bytes(await self._process.stdout.readexactly(_LENGTH_BYTES), "big")
        answer = pickle.loads(await self._process.stdout.readexactly(size))  # noqa: S301  from our own child
        if not isinstance(answer, Rendered):
            raise TypeError(type(answer).__name__)
        return answer

    async def stop(self) -> None:
        """End the process now: it holds nothing that must be saved."""
        if self._process.returncode is None:
            try:
                self._process.send_signal(signal.SIGKILL)
            except ProcessLookupError:
                _log.debug("render worker was gone already", pid=self.pid)
        await self._process.wait()


class RenderPool:
    """A fixed number of workers fed from one bounded queue."""

    def __init__(self, settings: RenderSettings) -> None:
        self._settings = settings
        self._queue: deque[_Pending] = deque()
        self._wake = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._in_flight = 0
        self._processes: dict[int, _Process] = {}
        self.assets: Mapping[str, str] = {}

    async def __aenter__(self) -> Self:
        self.assets = list_assets(self._settings.asset_directory)
        started = await asyncio.gather(*(_Process.start(self._settings) for _ in range(self._settings.workers)))
        self._processes = dict(enumerate(started))
        if self._settings.fallback_font not in self.fonts:
            await asyncio.gather(*(process.stop() for process in started))
            raise ConfigurationError(
                f"FLOWMAPS_RENDER_FALLBACK_FONT: there is no font face {self._settings.fallback_font!r} here"
            )
        self._tasks = [asyncio.create_task(self._work(number, process)) for number, process in enumerate(started)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(process.stop() for process in self._processes.values()))
        while self._queue:
            self._queue.popleft().answer.cancel()

    @property
    def fonts(self) -> frozenset[str]:
        """Names of the font faces that the workers know."""
        return frozenset().union(*(process.fonts for process in self._processes.values()))

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers, for tests and logs."""
        return [process.pid for process in self._processes.values()]

    async def render(self, job: Job) -> tuple[bytes, ...]:
        """Return the bodies of the job's tiles, in row-major order; of jobs that are not of tiles, one image.

        Raise `RenderQueueFull` at once where the queue is at its limit, `RenderTimeout` at the deadline (waiting
        included), `RendererCrashed`, or what Mapnik and PostgreSQL refuse.
        """
        if self._in_flight >= self._settings.queue:
            raise RenderQueueFull("the renderer is busy", retry_after_seconds=2)
        loop = asyncio.get_running_loop()
        pending = _Pending(
            pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL),
            job.output,
            loop.time() + self._settings.deadline_seconds,
            loop.create_future(),
        )
        self._in_flight += 1
        try:
            async with self._wake:
                self._queue.append(pending)
                _WAITING.set(len(self._queue))
                self._wake.notify()
            async with asyncio.timeout_at(pending.deadline + 0.5):
                rendered = await pending.answer
        except TimeoutError:
            raise RenderTimeout("Render timed out") from None
        finally:
            self._in_flight -= 1
        if rendered.problem is not None:
            raise _error(rendered)
        return rendered.tiles

    async def _next(self) -> _Pending:
        async with self._wake:
            while True:
                while self._queue:
                    pending = self._queue.popleft()
                    _WAITING.set(len(self._queue))
                    if not pending.answer.done():
                        return pending
                await self._wake.wait()

    async def _next_or_death(self, process: _Process) -> _Pending | None:
        """Return the next job, or None where the idle worker died first: no job need find that out."""
        job = asyncio.create_task(self._next())
        death = asyncio.create_task(process.wait())
        try:
            await asyncio.wait((job, death), return_when=asyncio.FIRST_COMPLETED)
            return job.result() if job.done() else None
        finally:
            job.cancel()
            death.cancel()

    async def _work(self, number: int, process: _Process) -> None:
        """Feed one worker for ever; replace it when it dies or is late."""
        loop = asyncio.get_running_loop()
        while True:
            pending = await self._next_or_death(process)
            if process.has_ended:
                # It died while it had nothing to do: that costs no request.
                process = await self._replace(number, process, "died")
            if pending is None:
                continue
            started = loop.time()
            _DRAWING.inc()
            reason = None
            try:
                async with asyncio.timeout_at(pending.deadline):
                    _settle(pending, await process.ask(pending.payload))
            except TimeoutError:
                reason = "late"
                _fail(pending, RenderTimeout("Render timed out"))
            except (asyncio.IncompleteReadError, ConnectionError):
                reason = "crashed"
                _fail(pending, RendererCrashed("the renderer died while it drew this tile"))
            finally:
                _DRAWING.dec()
                _SECONDS.labels(output=pending.output).observe(loop.time() - started)
            if reason is not None:
                process = await self._replace(number, process, reason)

    async def _replace(self, number: int, process: _Process, reason: str) -> _Process:
        _RESTARTS.labels(reason=reason).inc()
        _log.warning("render worker replaced", reason=reason, pid=process.pid)
        await process.stop()
        while True:
            try:
                self._processes[number] = await _Process.start(self._settings)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                _log.error("render worker does not start", error=repr(error))
                await asyncio.sleep(1)
            else:
                return self._processes[number]


def _settle(pending: _Pending, rendered: Rendered) -> None:
    if not pending.answer.done():
        pending.answer.set_result(rendered)


def _fail(pending: _Pending, error: FlowMapsError) -> None:
    if not pending.answer.done():
        pending.answer.set_exception(error)


def _error(rendered: Rendered) -> FlowMapsError:
    message = rendered.message
    match rendered.problem:
        case "sql":
            return InvalidSQL(message, layer_id=rendered.layer)
        case "timeout":
            return QueryTimeout("Render timed out: the query took longer than it may")
        case "forbidden":
            return Forbidden(message)
        case "database":
            return DatabaseUnavailable("the tenant's database does not answer")
        case "image":
            return RemoteUnavailable(message)
        case _:
            return InvalidCartoCSS(message, layer_id=rendered.layer, kind="layer", subtype="style")
