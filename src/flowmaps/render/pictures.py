"""Keep the pictures that styles name by address.

They are fetched under the rules of `remote`, made safe in a render worker, and written to a folder of this process,
where Mapnik finds them.
A file is named by what it holds, so that Mapnik, which reads each name once, never shows an old picture for a new one.
It lives as long as anything refers to its `Picture`: the cache, or a tile that is being drawn.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import structlog
from prometheus_client import Counter, Gauge

from flowmaps.errors import (
    ConfigurationError,
    InvalidCartoCSS,
    RemoteRefused,
    RemoteTimeout,
    RemoteUnavailable,
    RendererCrashed,
    RenderTimeout,
)
from flowmaps.render.job import PictureJob
from flowmaps.render.pool import RenderPool
from flowmaps.render.remote import RemoteImages
from flowmaps.settings import RenderSettings

FAILED_SECONDS = 10.0
"""A picture that could not be had is asked for again after this, however many want it."""
MOST_FAILURES = 1024
LOOKED_AT_ONCE = 4
_PREFIX = "flow-maps-pictures-"
_LOCK = "lock"
_PNG = b"\x89PNG"
_PNG_SIZE = slice(16, 24)

_FETCHED = Counter("flowmaps_pictures_fetched", "Pictures of styles that were fetched, by result.", ["result"])
_KEPT = Gauge("flowmaps_pictures", "Pictures of styles that are kept.")
_KEPT_BYTES = Gauge("flowmaps_pictures_bytes", "Bytes of the pictures of styles that are kept.")
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Picture:
    """A file that Mapnik may read; *decoded_bytes* is what it takes in a worker's memory."""

    path: str
    file_bytes: int
    decoded_bytes: int

    @property
    def is_there(self) -> bool:
        """Looked at before each use: the folder may be one that somebody cleans."""
        return Path(self.path).is_file()

    def read(self) -> bytes:
        return Path(self.path).read_bytes()


@dataclass(slots=True)
class _Kept:
    picture: Picture
    until: float


class Pictures:
    """Hands out files for addresses; opened and closed as a context manager."""

    def __init__(
        self,
        settings: RenderSettings,
        remote: RemoteImages,
        pool: RenderPool,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._remote = remote
        self._pool = pool
        self._clock = clock
        self._folder = Path()
        self._lock: IO[bytes] | None = None
        # By address, the one that was used last at the end.
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._kept_bytes = 0
        self._failed: OrderedDict[str, tuple[float, type[RemoteUnavailable], str]] = OrderedDict()
        self._running: dict[str, asyncio.Task[Picture]] = {}
        # Tiles must not find the renderer's queue full of a new map's pictures.
        self._looking = asyncio.Semaphore(LOOKED_AT_ONCE)
        self._by_name: weakref.WeakValueDictionary[str, Picture] = weakref.WeakValueDictionary()

    async def __aenter__(self) -> Self:
        parent = (self._settings.picture_directory or Path(tempfile.gettempdir())).resolve()
        name = "FLOWMAPS_RENDER_PICTURE_DIRECTORY"
        if "[" in str(parent) or "]" in str(parent):
            # Mapnik takes what stands in brackets for the name of a column.
            raise ConfigurationError(f"{name}: the path {parent} must not hold brackets", names=(name,))
        try:
            _remove_left_behind(parent)
            self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            self._lock = _locked(self._folder / "new")
            (self._folder / "new").replace(self._folder / _LOCK)
        except OSError as error:
            raise ConfigurationError(f"{name}: {error}", names=(name,)) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._kept.clear()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    async def get(self, address: str) -> Picture:
        """Return the picture at *address*; what is known and old is returned as well, and fetched anew meanwhile.

        Raise `RemoteRefused` where the answer is no picture, `RemoteUnavailable` or `RemoteTimeout` where there is
        none, `NotListed`, or a `TemporaryError` of the renderer. Whoever refers to the picture keeps its file.
        """
        known = self._kept.get(address)
        if known is not None and known.picture.is_there:
            self._kept.move_to_end(address)
            if known.until <= self._clock() and self._failure(address) is None:
                self._start(address)
            return known.picture
        self._forget(address)
        if (failure := self._failure(address)) is not None:
            raise failure
        # One who goes away must not take the picture from the others.
        return await asyncio.shield(self._start(address))

    def _start(self, address: str) -> asyncio.Task[Picture]:
        """Return the one task that fetches *address*."""
        task = self._running.get(address)
        if task is None:
            task = self._running[address] = asyncio.create_task(self._fetch(address))
            task.add_done_callback(lambda done: self._finish(address, done))
        return task

    async def _fetch(self, address: str) -> Picture:
        body = await self._remote.fetch(address)
        cleaned = await self._cleaned(body)
        picture = await self._written(cleaned)
        self._keep(address, picture)
        return picture

    def _finish(self, address: str, task: asyncio.Task[Picture]) -> None:
        del self._running[address]
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            _FETCHED.labels(result="kept").inc()
            return
        _FETCHED.labels(result="refused" if isinstance(error, RemoteRefused) else "failed").inc()
        if isinstance(error, RemoteUnavailable):
            while len(self._failed) >= MOST_FAILURES:
                self._failed.popitem(last=False)
            self._failed[address] = (self._clock() + FAILED_SECONDS, type(error), error.reason)
            _log.info("a picture of a style cannot be had", url=address, error=error.reason)

    def _failure(self, address: str) -> RemoteUnavailable | None:
        """Return why *address* could not be had a moment ago."""
        until, kind, reason = self._failed.get(address, (0.0, RemoteUnavailable, ""))
        if until <= self._clock():
            self._failed.pop(address, None)
            return None
        return kind(f"Unable to download '{address}' ({reason})", reason=reason)

    async def _cleaned(self, body: bytes) -> bytes:
        """Return what a worker makes of *body*; a worker that it ends or fills is the picture's fault."""
        try:
            async with self._looking:
                (cleaned,) = await self._pool.render(PictureJob(body, self._settings.picture_px))
        except RemoteUnavailable as error:
            raise RemoteRefused(error.message, reason=error.reason) from error
        except RenderTimeout as error:
            raise RemoteTimeout(error.message, reason="it took too long to look at it") from error
        except (RendererCrashed, InvalidCartoCSS) as error:
            raise RemoteRefused(error.message, reason="a picture that cannot be drawn") from error
        return cleaned

    async def _written(self, body: bytes) -> Picture:
        try:
            return self._placed(await asyncio.to_thread(self._write, body), body)
        except OSError as error:
            _log.error("a picture of a style cannot be kept", folder=str(self._folder), error=repr(error))
            raise RemoteUnavailable("a picture cannot be kept", reason="there is no room to keep it") from error

    def _placed(self, written: Path, body: bytes) -> Picture:
        """Return the picture of a written file, which gets its name at once and whole, unless it is there already."""
        name = hashlib.blake2b(body, digest_size=16).hexdigest() + (".png" if body.startswith(_PNG) else ".svg")
        path = self._folder / name
        written.replace(path)
        picture = self._by_name.get(name)
        if picture is None:
            picture = self._by_name[name] = Picture(str(path), len(body), _decoded_bytes(body))
            weakref.finalize(picture, path.unlink, missing_ok=True)
        return picture

    def _write(self, body: bytes) -> Path:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        number, name = tempfile.mkstemp(dir=self._folder, prefix="part-")
        path = Path(name)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(body)
        except OSError:
            # Half a file would take the room that is missing already.
            path.unlink()
            raise
        return path

    def _keep(self, address: str, picture: Picture) -> None:
        self._forget(address)
        self._failed.pop(address, None)
        self._kept[address] = _Kept(picture, self._clock() + self._settings.picture_seconds)
        self._kept_bytes += picture.file_bytes
        while len(self._kept) > 1 and (
            len(self._kept) > self._settings.pictures or self._kept_bytes > self._settings.picture_bytes
        ):
            self._forget(next(iter(self._kept)))
        self._measure()

    def _forget(self, address: str) -> None:
        gone = self._kept.pop(address, None)
        if gone is not None:
            self._kept_bytes -= gone.picture.file_bytes
            self._measure()

    def _measure(self) -> None:
        _KEPT.set(len(self._kept))
        _KEPT_BYTES.set(self._kept_bytes)


def _decoded_bytes(body: bytes) -> int:
    if not body.startswith(_PNG):
        return 4 * len(body)
    size = body[_PNG_SIZE]
    return 4 * int.from_bytes(size[:4], "big") * int.from_bytes(size[4:], "big")


def _locked(path: Path) -> IO[bytes]:
    """Return *path* opened and locked until it is closed, or until this process ends in whatever way."""
    file = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def _remove_left_behind(parent: Path) -> None:
    """Remove folders of processes that were killed; one without a lock is about to get it."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            if folder.lstat().st_uid == os.getuid() and (folder / _LOCK).is_file():
                with _locked(folder / _LOCK):
                    shutil.rmtree(folder, ignore_errors=True)
        except (BlockingIOError, FileNotFoundError) as error:
            _log.debug("a folder of pictures is in use, or gone by now", folder=str(folder), error=repr(error))
