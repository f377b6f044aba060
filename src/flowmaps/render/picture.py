"""Make a picture of unknown origin safe for Mapnik; run by the render worker, which a hostile one may cost its life."""

from __future__ import annotations

import io
import os
import resource
import tempfile

import mapnik
from PIL import Image

from flowmaps.render.job import PictureJob
from flowmaps.render.pixels import BadImage, read_foreign
from flowmaps.render.svg import BadSVG, clean_svg, looks_like_svg

_TRIED_PX = 64
_TRIED_MIB = 64
"""What drawing an SVG once may take: a pattern is as large as its outline says, a million pixels a side if it likes."""
_TRIED_SECONDS = 2
_EMPTY, _TOO_LARGE, _NOT_DRAWN = 3, 4, 5
_WHY = {
    _EMPTY: "an SVG of which nothing is drawn",
    _TOO_LARGE: "an SVG of which a pattern is too large",
    _NOT_DRAWN: "an SVG that cannot be drawn",
}
_MAP = """<Map srs="epsg:3857"><Style name="tried"><Rule>{symbolizer}</Rule></Style></Map>"""
_AS_MARKER = '<MarkersSymbolizer file="{path}" width="48" height="48" allow-overlap="true"/>'
_AT_WIDTH = '<MarkersSymbolizer file="{path}" width="{width}" allow-overlap="true"/>'
_AS_PATTERN = '<PolygonPatternSymbolizer file="{path}"/>'


def clean_picture(job: PictureJob) -> bytes:
    """Return the picture as PNG or SVG, written anew; raise `BadImage`."""
    if looks_like_svg(job.body):
        try:
            cleaned = clean_svg(job.body)
        except BadSVG as error:
            raise BadImage(str(error)) from error
        _try(cleaned)
        return cleaned
    image = read_foreign(job.body, side_px=job.side_px)
    body = io.BytesIO()
    image.save(body, "PNG")
    return body.getvalue()


def _try(cleaned: bytes) -> None:
    """Draw an SVG in the two ways that Mapnik has, in a process of its own: a pattern without extent ends it."""
    with tempfile.NamedTemporaryFile(suffix=".svg") as file:
        file.write(cleaned)
        file.flush()
        child = os.fork()
        if child == 0:
            try:
                os._exit(_tried(file.name))
            except MemoryError:
                os._exit(_TOO_LARGE)
            except BaseException:  # noqa: BLE001  whatever it is, this process must not go on as a second worker
                os._exit(_NOT_DRAWN)
        _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        raise BadImage(_WHY.get(code, _WHY[_NOT_DRAWN]))


def _tried(path: str) -> int:
    """Draw once, with little memory and time; return the status to end with."""
    _limit(resource.RLIMIT_CPU, _TRIED_SECONDS)
    _limit(resource.RLIMIT_CORE, 0)
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123  a kernel file
        now = int(statm.read().split()[0]) * resource.getpagesize()
    _limit(resource.RLIMIT_AS, now + _TRIED_MIB * 1024 * 1024)
    if _drawn(_AS_MARKER.format(path=path)).is_solid():
        return _EMPTY
    _drawn(_AS_PATTERN.format(path=path))
    return 0


def _limit(what: int, wanted: int) -> None:
    _, hard = resource.getrlimit(what)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(what, (limit, limit))


def draw_svg(cleaned: bytes, width: int) -> Image.Image:
    """Return a cleaned SVG drawn *width* pixels wide, and at most three times as high, in the middle of an image."""
    with tempfile.NamedTemporaryFile(suffix=".svg") as file:
        file.write(cleaned)
        file.flush()
        try:
            drawn = _drawn(_AT_WIDTH.format(path=file.name, width=width), 3 * width + 2)
        except RuntimeError as error:
            raise BadImage("an SVG that cannot be drawn") from error
        finally:
            # The name may come again, for another picture.
            mapnik.clear_cache()
    return Image.open(io.BytesIO(bytes(drawn.to_string("png32")))).convert("RGBA")


def _drawn(symbolizer: str, side: int = _TRIED_PX) -> mapnik.Image:
    """Return an image of *side* pixels with a symbolizer drawn for a polygon that covers it."""
    drawn = mapnik.Map(side, side)
    mapnik.load_map_from_string(drawn, _MAP.format(symbolizer=symbolizer), False, "")
    features = mapnik.MemoryDatasource()
    feature = mapnik.Feature(mapnik.Context(), 1)
    feature.geometry = mapnik.Geometry.from_wkt(f"POLYGON((0 0, {side} 0, {side} {side}, 0 {side}, 0 0))")
    features.add_feature(feature)
    layer = mapnik.Layer("tried", "epsg:3857")
    layer.datasource = features
    layer.styles.append("tried")
    drawn.layers.append(layer)
    drawn.zoom_to_box(mapnik.Box2d(0, 0, side, side))
    image = mapnik.Image(side, side)
    mapnik.render(drawn, image)
    return image
