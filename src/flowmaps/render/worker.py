"""The render worker: one process, one Mapnik, a small cache of map objects. Run by `flowmaps.render.pool`.

Requests and answers are pickles with a four-byte length before them, on standard input and on the file that standard
output was; whatever Mapnik prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import resource
import select
import struct
import sys
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import mapnik

from flowmaps.render.job import ComposeJob, Job, MapJob, MapPlan, PatternJob, PictureJob, Problem, Rendered, TorqueJob
from flowmaps.render.picture import clean_picture
from flowmaps.render.pixels import BadImage, compose, fill_pattern, tiles_of
from flowmaps.render.torque_image import draw_torque
from flowmaps.tile import TILE_PX

LENGTH = struct.Struct(">I")
GRID_RESOLUTION = 4
MOST_DECODED_BYTES = 128 * 1024 * 1024
"""Mapnik keeps every picture that it ever read; beyond this it is made to forget them."""
_IN_STYLE = re.compile(r"in style '([^']*)'")
_IN_LAYER = re.compile(r"(?:encountered during (?:parsing|rendering) of|of) layer '([^']*)'")
_CONNECTION_TEXT = re.compile(r"\s*Connection string: '.*?'(?:\n|$)", re.DOTALL)
_SQL_TEXT = re.compile(r"\s*(?:in \w+ )?Full sql was:.*", re.DOTALL)
_AWAY = re.compile(
    r"connection to server|could not connect|authentication failed|too many (?:connections|clients)"
    r"|connection.*(?:closed|limit)|terminat|shutting down|starting up|in recovery"
)
_MISSING_FILE = re.compile(r"file could not be found: '")
_SERVER_PATH = re.compile(r"is the server.*?encountered", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker behaves; handed over on its command line as JSON."""

    cached_maps: int
    cached_map_seconds: float
    memory_mib: int
    font_directories: tuple[str, ...] = ()


class Worker:
    """Draws jobs; map objects are kept for reuse, each with its database connections."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._maps: OrderedDict[str, tuple[Any, float]] = OrderedDict()
        self._decoded: dict[str, int] = {}

    def render(self, job: Job) -> Rendered:
        """Do *job*; refusals become values, so that they travel."""
        try:
            match job:
                case MapJob():
                    return self._draw(job)
                case ComposeJob():
                    return Rendered((compose(job),))
                case PatternJob():
                    return Rendered((fill_pattern(job),))
                case TorqueJob():
                    return Rendered((draw_torque(job),))
                case PictureJob():
                    return Rendered((clean_picture(job),))
        except BadImage as error:
            return Rendered(problem="image", message=str(error))

    def _draw(self, job: MapJob) -> Rendered:
        try:
            drawn = self._grid(job) if job.output == "grid" else self._image(job)
        except (RuntimeError, UserWarning) as error:
            # The map object may hold a broken connection.
            self._maps.pop(job.plan.key, None)
            return explain(str(error))
        return Rendered(tuple(drawn))

    def forget_idle(self, now: float) -> None:
        """Drop map objects that were not used for a while, with their connections."""
        for key, (_, used) in list(self._maps.items()):
            if now - used > self._options.cached_map_seconds:
                del self._maps[key]

    def _count_pictures(self, plan: MapPlan) -> None:
        """Bound what Mapnik keeps of fetched pictures, which are new files again and again."""
        self._decoded |= dict(plan.pictures)
        if sum(self._decoded.values()) > MOST_DECODED_BYTES:
            mapnik.clear_cache()
            self._decoded = dict(plan.pictures)

    def _map(self, plan: MapPlan) -> Any:
        self._count_pictures(plan)
        known = self._maps.pop(plan.key, None)
        loaded = known[0] if known else self._load(plan)
        self._maps[plan.key] = (loaded, time.monotonic())
        while len(self._maps) > self._options.cached_maps:
            self._maps.popitem(last=False)
        return loaded

    def _load(self, plan: MapPlan) -> Any:
        for name, value in plan.environment:
            os.environ[name] = value
        loaded = mapnik.Map(TILE_PX, TILE_PX)
        mapnik.load_map_from_string(loaded, plan.xml, False, "")
        loaded.aspect_fix_mode = mapnik.aspect_fix_mode.RESPECT
        return loaded

    def _ready_map(self, job: MapJob, scale: int) -> Any:
        width, height = job.block.size_px
        loaded = self._map(job.plan)
        loaded.resize(width * scale, height * scale)
        loaded.zoom_to_box(mapnik.Box2d(*job.block.bounds))
        return loaded

    def _image(self, job: MapJob) -> Sequence[bytes]:
        loaded = self._ready_map(job, job.scale)
        image = mapnik.Image(loaded.width, loaded.height)
        zoom = job.block.origin.z
        # The block's tiles share the zoom and nothing else that a variable could tell.
        mapnik.render_with_vars(loaded, image, {"zoom": zoom, "zoom_level": zoom}, float(job.scale))
        return tiles_of(image, job.block.columns, job.block.rows, job.scale, job.encoding)

    def _grid(self, job: MapJob) -> list[bytes]:
        loaded = self._ready_map(job, 1)
        grid = mapnik.Grid(loaded.width, loaded.height)
        mapnik.render_layer(loaded, grid, layer=0, fields=list(job.fields))
        return [
            _grid_json(grid.view(column * TILE_PX, row * TILE_PX, TILE_PX, TILE_PX))
            for row in range(job.block.rows)
            for column in range(job.block.columns)
        ]


def _grid_json(view: Any) -> bytes:
    encoded = view.encode("utf", True, GRID_RESOLUTION)
    data = {key: dict(sorted(values.items())) for key, values in encoded["data"].items() if values}
    document = {"grid": encoded["grid"], "keys": encoded["keys"], "data": data}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def explain(text: str) -> Rendered:
    """Return Mapnik's exception as a value: who must act, and its message without SQL, addresses and paths.

    Mapnik gives nothing but text, so this is the one place where text decides.
    """
    layer = match[1] if (match := _IN_STYLE.search(text) or _IN_LAYER.search(text)) else None
    if _MISSING_FILE.search(text):
        # It was there when the job was made; the next one fetches it again. Its path is nobody's business.
        return Rendered(problem="image", message="a picture of the style is gone for the moment", layer=layer)
    message = _CONNECTION_TEXT.sub(" ", _SQL_TEXT.sub("", text))
    message = " ".join(_SERVER_PATH.sub("encountered", message).split())
    return Rendered(problem=_problem(text), message=message, layer=layer)


def _problem(text: str) -> Problem:
    if "Postgis Plugin" not in text and "PostGIS" not in text and "PgRaster Plugin" not in text:
        return "style"
    if "canceling statement due to" in text:
        return "timeout"
    if "permission denied" in text:
        return "forbidden"
    if _AWAY.search(text):
        return "database"
    return "sql"


def limit_memory(mib: int) -> None:
    """Let this process grow by at most *mib* from here on."""
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123  a kernel file
        now = int(statm.read().split()[0]) * resource.getpagesize()
    limit = now + mib * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def serve(requests: _Requests, answers: IO[bytes], options: WorkerOptions) -> None:
    """Answer requests until their end."""
    worker = Worker(options)
    idle = max(0.5, options.cached_map_seconds / 4)
    while True:
        readable, _, _ = select.select([requests], [], [], idle)
        worker.forget_idle(time.monotonic())
        if not readable:
            continue
        head = requests.read(LENGTH.size)
        if not head:
            return
        job = pickle.loads(requests.read(LENGTH.unpack(head)[0]))  # noqa: S301  written by our own parent
        try:
            answer = worker.render(job)
        except MemoryError:
            answer = Rendered(problem="style", message="The map needs more memory than a renderer may use")
        body = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
        answers.write(LENGTH.pack(len(body)) + body)
        answers.flush()


def main() -> None:
    """Run as ``python -m flowmaps.render.worker OPTIONS``."""
    raw = json.loads(sys.argv[1])
    options = WorkerOptions(**raw | {"font_directories": tuple(raw["font_directories"])})
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    mapnik.logger.set_severity(getattr(mapnik.severity_type, "None"))
    for directory in options.font_directories:
        mapnik.FontEngine.register_fonts(directory, True)
    limit_memory(options.memory_mib)
    # Unbuffered, so that select sees every byte that has not been read.
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    # The first answer comes unasked: this worker is ready, and these are its fonts.
    hello = Rendered(message="\n".join(mapnik.FontEngine.face_names()))
    body = pickle.dumps(hello, protocol=pickle.HIGHEST_PROTOCOL)
    answers.write(LENGTH.pack(len(body)) + body)
    answers.flush()
    serve(_Requests(requests), answers, options)


class _Requests:
    """A raw file whose `read` returns all that was asked for, or nothing at the end."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            part = self._raw.read(size)
            if not part:
                return b""
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


if __name__ == "__main__":
    main()
