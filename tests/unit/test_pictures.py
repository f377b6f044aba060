"""The cache of pictures, with a remote server and a worker that the test plays."""

import asyncio
import gc
import resource
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flowmaps.errors import (
    ConfigurationError,
    FlowMapsError,
    RemoteRefused,
    RemoteTimeout,
    RemoteUnavailable,
    RendererCrashed,
    RenderQueueFull,
    RenderTimeout,
)
from flowmaps.render.job import Job, PictureJob
from flowmaps.render.pictures import FAILED_SECONDS, LOOKED_AT_ONCE, MOST_FAILURES, Picture, Pictures
from flowmaps.render.pool import RenderPool
from flowmaps.render.remote import RemoteImages
from flowmaps.settings import RenderSettings, ServeSettings


class Remote(RemoteImages):
    """Answers with what *bodies* holds, or raises it."""

    def __init__(self) -> None:
        super().__init__(ServeSettings())
        self.bodies: dict[str, bytes | FlowMapsError] = {}
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        await self.open.wait()
        body = self.bodies.get(url, url.encode())
        if isinstance(body, FlowMapsError):
            raise body
        return body


class Pool(RenderPool):
    """Finds every picture good as it is, unless *error* is set."""

    def __init__(self) -> None:
        super().__init__(RenderSettings())
        self.error: FlowMapsError | None = None
        self.working = self.most = 0

    async def render(self, job: Job) -> tuple[bytes, ...]:
        assert isinstance(job, PictureJob)
        self.working += 1
        self.most = max(self.most, self.working)
        await asyncio.sleep(0)
        self.working -= 1
        if self.error is not None:
            raise self.error
        return (job.body,)


class Scene:
    """A cache of three pictures or a thousand bytes, for a minute."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.remote, self.pool, self.now = folder, Remote(), Pool(), 1000.0
        settings = RenderSettings(picture_directory=folder, pictures=3, picture_bytes=1024, picture_seconds=60)
        self.pictures = Pictures(settings, self.remote, self.pool, clock=lambda: self.now)

    @property
    def bodies(self) -> list[bytes]:
        gc.collect()
        return sorted(path.read_bytes() for path in self.folder.glob("*/*.svg"))

    @property
    def names(self) -> list[str]:
        return [path.name for path in self.folder.glob("*/*")]

    @property
    def is_gone(self) -> bool:
        return not list(self.folder.iterdir())


def content(picture: Picture | BaseException) -> bytes:
    assert isinstance(picture, Picture)
    return Path(picture.path).read_bytes()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    async with scene.pictures:
        yield scene
    assert scene.is_gone


async def test_those_who_ask_at_once_share_a_download(scene: Scene) -> None:
    scene.remote.open.clear()
    asking = [asyncio.create_task(scene.pictures.get("a")) for _ in range(5)]
    await asyncio.sleep(0)
    # The first one goes away; the others get the picture.
    asking[0].cancel()
    scene.remote.open.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert len({id(picture) for picture in found[1:]}) == 1
    assert scene.remote.asked == ["a"]
    assert await scene.pictures.get("a") is found[1]
    assert content(found[1]) == b"a"


async def test_the_one_unused_for_longest_goes_first_but_not_while_it_is_drawn(scene: Scene) -> None:
    drawn = await scene.pictures.get("a")
    for address in ("b", "c", "b", "d", "e"):
        await scene.pictures.get(address)
    assert scene.bodies == [b"a", b"b", b"d", b"e"]
    assert drawn.is_there
    del drawn
    assert scene.bodies == [b"b", b"d", b"e"]
    # It comes again for those who want it.
    assert (await scene.pictures.get("a")).is_there
    assert scene.remote.asked.count("a") == 2


async def test_bytes_are_bounded_too(scene: Scene) -> None:
    for size in (400, 500, 300, 2000):
        scene.remote.bodies[str(size)] = b"x" * size
        await scene.pictures.get(str(size))
        gc.collect()
        assert sum(map(len, scene.bodies)) <= 1024 or len(scene.bodies) == 1
    assert scene.bodies == [b"x" * 2000]


async def test_many_pictures_leave_room_for_tiles(scene: Scene) -> None:
    await asyncio.gather(*(scene.pictures.get(str(number)) for number in range(40)))
    assert scene.pool.most == LOOKED_AT_ONCE


async def test_equal_pictures_are_one_file(scene: Scene) -> None:
    scene.remote.bodies |= {"a": b"same", "b": b"same"}
    one, other = await asyncio.gather(scene.pictures.get("a"), scene.pictures.get("b"))
    assert one is other
    for address in ("c", "d", "e"):
        await scene.pictures.get(address)
    assert one.is_there
    del one, other
    assert scene.bodies == [b"c", b"d", b"e"]


async def test_an_old_picture_is_drawn_while_it_is_fetched_anew(scene: Scene) -> None:
    first = await scene.pictures.get("a")
    scene.now += 61
    scene.remote.bodies["a"] = b"new"
    scene.remote.open.clear()
    assert await scene.pictures.get("a") is first
    assert await scene.pictures.get("a") is first
    scene.remote.open.set()
    await asyncio.sleep(0.1)
    second = await scene.pictures.get("a")
    assert content(second) == b"new"
    assert scene.remote.asked == ["a", "a"]
    # A tile of the first may still be in the making.
    assert first.is_there


async def test_an_old_picture_outlives_a_server_that_is_away(scene: Scene) -> None:
    first = await scene.pictures.get("a")
    scene.now += 61
    scene.remote.bodies["a"] = RemoteRefused("", reason="server returned 404")
    for _ in range(5):
        assert await scene.pictures.get("a") is first
        await asyncio.sleep(0.01)
    assert scene.remote.asked == ["a", "a"]
    scene.now += FAILED_SECONDS
    assert await scene.pictures.get("a") is first
    await asyncio.sleep(0.01)
    assert scene.remote.asked == ["a", "a", "a"]


@pytest.mark.parametrize("kind", [RemoteRefused, RemoteTimeout, RemoteUnavailable])
async def test_a_failure_is_remembered_for_a_moment(scene: Scene, kind: type[RemoteUnavailable]) -> None:
    scene.remote.bodies["a"] = kind("long", reason="short")
    for _ in range(3):
        with pytest.raises(kind) as caught:
            await scene.pictures.get("a")
        assert caught.value.reason == "short"
    assert scene.remote.asked == ["a"]
    scene.now += FAILED_SECONDS
    scene.remote.bodies["a"] = b"a"
    assert (await scene.pictures.get("a")).is_there


async def test_what_a_worker_says_of_a_picture(scene: Scene) -> None:
    for error, kind, asked in (
        (RemoteUnavailable("no image"), RemoteRefused, 1),
        (RendererCrashed("died"), RemoteRefused, 1),
        (RenderTimeout("late"), RemoteTimeout, 1),
        # The renderer is busy, which says nothing of the picture.
        (RenderQueueFull("busy"), RenderQueueFull, 2),
    ):
        scene.remote.asked.clear()
        scene.pool.error = error
        for _ in range(2):
            with pytest.raises(kind):
                await scene.pictures.get(str(error))
        assert len(scene.remote.asked) == asked


async def test_failures_are_bounded(scene: Scene) -> None:
    for number in range(MOST_FAILURES + 1):
        scene.remote.bodies[str(number)] = RemoteUnavailable("away")
    scene.remote.asked.clear()
    for number in (*range(MOST_FAILURES + 1), MOST_FAILURES, 0):
        with pytest.raises(RemoteUnavailable):
            await scene.pictures.get(str(number))
    assert scene.remote.asked.count("0") == 2
    assert scene.remote.asked.count(str(MOST_FAILURES)) == 1


async def test_files_that_somebody_removed_come_again(scene: Scene) -> None:
    held = await scene.pictures.get("a")
    for folder in scene.folder.glob("*"):
        (folder / held.path).unlink()
        assert not held.is_there
        again = await scene.pictures.get("a")
        assert again.is_there
        shutil.rmtree(folder)
        assert (await scene.pictures.get("a")).is_there
    assert len(scene.remote.asked) == 3


async def test_no_room_is_no_defect_and_leaves_no_half_file(scene: Scene) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    scene.remote.bodies["a"] = b"x" * 500
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, before[1]))
    try:
        with pytest.raises(RemoteUnavailable) as caught:
            await scene.pictures.get("a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.reason == "there is no room to keep it"
    assert scene.names == ["lock"]


async def test_downloads_end_with_the_process(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    async with scene.pictures:
        scene.remote.open.clear()
        asking = asyncio.create_task(scene.pictures.get("a"))
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize("name", ["missing", "with[brackets]"])
async def test_a_folder_that_cannot_be_used_stops_the_start(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    if name != "missing":
        folder.mkdir()
    with pytest.raises(ConfigurationError, match="FLOWMAPS_RENDER_PICTURE_DIRECTORY"):
        async with Scene(folder).pictures:
            pass
