"""What compiles loads in the installed Mapnik, draws what it says, and means there what it means to us."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import mapnik
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cartocss_corpus import REQUIRED, corpus
from flowmaps.cartocss import CartoError, compile_layer
from flowmaps.cartocss.expressions import compile_expression, is_expression
from flowmaps.cartocss.reference import STYLE_LEVEL, Property, load_reference
from flowmaps.cartocss.regex import BadRegex, translate
from integration.mapnik_maps import draw, is_blank, load, map_xml, quiet, write_files

NIGHTLY = bool(os.environ.get("FLOWMAPS_TEST_NIGHTLY"))
pytestmark = pytest.mark.timeout(3_600 if NIGHTLY else 180)
PROPERTIES = [known for known in load_reference().properties.values() if not known.ignored]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("files")
    write_files(made)
    return made


# --- loading


@pytest.mark.parametrize("part", range(4))
def test_every_style_of_the_corpus_loads_strictly(part: int, folder: Path) -> None:
    refused = {}
    for sample in corpus()[part::4]:
        try:
            load(map_xml(sample.css, folder=folder, bind_ids=False))
        except RuntimeError as error:
            refused[sample.name] = str(error)
    assert refused == {}


VALUES = """
1 | 0 | -1 | 0.5 | 1e30 | 1e-30 | 50% | 3px | 1, 2 | 1 2 | 1, 2, 3, 4 | 0, 0 | #f00 | rgba(1,2,3,.5) | transparent
true | false | none | auto | foo | foo-bar | power | minimum | 'foo' | 'foo bar' | '' | '1' | '-1' | '1.' | '.5' | ' 1 '
'1e5' | '+1' | 'true' | 'TRUE' | '#f00' | '#f0f0' | 'red' | 'Red' | 'rgb(1)' | 'rgb(1,2,3)' | 'rgba(1,2,3,50%)'
'hsl(1,2,3)' | 'rgb(10%,2%,3%)' | 'hsla(120,50%,50%,0.5)' | 'rgb(300,2,3)' | 'rgb(-1,2,3)' | 'rgb(1 2 3)' | 'rgb(1.5,2,3)'
[n] | [n] + 1 | [n] * 'x' | '[n]' | '[n' | '[n] +' | '@x' | '@x-y' | '@1' | '[n] and' | "[n].match('(')"
"[n].match('a')" | "[n].replace('a','b')" | "[n].replace('(','b')" | '[n][m]' | 'foo([n])' | 'sin([n])' | '[n] = 1'
'not [n]' | '[n]+foo' | '5px' | 'a.b' | '-[n]' | '- [n]' | '--[n]' | '[n] % 2' | '<Format>x</Format>' | url(marker.png)
url() | url('[n].png') | 'marker.png' | '[n].svg' | stop(1) | stop(1, red) | stop(1, red) stop(2, blue)
stop(1, red, exact), stop(2, blue, inherit) | stop(1,red,linear-rgba) | gray() | agg-stack-blur(1,1)
agg-stack-blur(-1,1) | agg-stack-blur(0.5,1.5) | scale-hsla(0,1,0,1,0,1,0,1) | colorize-alpha() | colorize-alpha(red)
color-to-alpha(red) | scale(2) | scale(0) | rotate(1,2,3) | rotate([n]) | translate(1) | matrix(1,2,3,4,5,6)
skewX(1) skewY(2) | 'scale(2)' | 'scale(2) rotate(45)' | 'rotate(45,1)' | 'rotate(45, 1, 2)' | 'foo(1)' | 'scale()'
'scale(a)' | 'scale([n])' | 'scale([n]+1, 2)' | 'scale([n)' | 'translate(1 2)' | 'matrix(1 2 3 4 5 6)'
'scale(2),,rotate(4)' | 'scale(2);rotate(4)' | 'SCALE(2)' | 'scale( 2 )' | 'scale(2' | 'rotate(@x)' | 'scale([n]*, 2)'
'N,S,10' | 'N' | N | 10 | '10,N' | 'en' | "'en'" | 'ä' | 'ä ö' | "it's" | 'a\\\\' | multiply | 'multiply' | src-over
'src_over' | line | 'line' | point | uppercase | left | middle | power | round | 'round' | miter | grid | basic | global
near | fast | lanczos | list | simple | dummy | 'DejaVu Sans Book' | 'DejaVu Sans Book', 'DejaVu Sans Bold'
'No Such Font' | DejaVu | @undefined | 1/0 | 0/0 | -0.0001 | 1e400 | 999999999999 | 4294967296 | -2147483649 | 0x10
"""


def pool() -> list[str]:
    return list(dict.fromkeys(value.strip() for line in VALUES.strip().splitlines() for value in line.split(" | ")))


@pytest.mark.parametrize("part", range(4))
def test_no_value_that_we_accept_is_refused_by_mapnik(part: int, folder: Path) -> None:
    """Every property with every value of the pool, well-formed or not; a third of them at random unless nightly."""
    chosen = [(known, value) for known in PROPERTIES[part::4] for value in pool()]
    if not NIGHTLY:
        chosen = random.sample(chosen, len(chosen) // 3)
    refused = []
    accepted = 0
    for known, value in chosen:
        css = style_with(known, value)
        try:
            xml = map_xml(css, folder=folder)
        except CartoError:
            continue
        accepted += 1
        try:
            load(xml)
        except RuntimeError as error:
            refused.append((css, str(error)))
    assert refused == []
    assert accepted > len(chosen) / 10


def style_with(known: Property, value: str) -> str:
    if known.symbolizer == "map":
        return f"Map {{ {known.css}: {value}; }} #pts {{ line-width: 1; }}"
    companions = "".join(f"{css}: {text};" for css, text in REQUIRED.get(known.symbolizer, ()) if css != known.css)
    if known.symbolizer == STYLE_LEVEL:
        companions = "line-width: 1;"
    return f"#pts {{ {companions} {known.css}: {value}; }}"


# --- drawing

BASES = {
    "building": ("polygon", "building-fill: #888; building-height: 5;"),
    "debug": ("pair", "marker-width: 10;"),
    "dot": ("pair", "dot-width: 20; dot-height: 20; dot-fill: #f80;"),
    "line": ("short", "line-width: 12; line-color: #080;"),
    "line-pattern": ("short", "line-pattern-file: url(marker.png);"),
    "markers": ("point", "marker-width: 24; marker-fill: #08f; marker-line-width: 3;"),
    "point": ("point", "point-file: url(marker.png);"),
    "polygon": ("polygon", "polygon-fill: #08f;"),
    "polygon-pattern": ("polygon", "polygon-pattern-file: url(marker.png);"),
    "raster": (
        "raster",
        "raster-colorizer-stops: stop(60, red) stop(120, blue) stop(255, white); raster-colorizer-default-color: #0f0;",
    ),
    "shield": (
        "pair",
        "shield-file: url(marker.png); shield-name: [name]; shield-face-name: 'DejaVu Sans Book'; shield-size: 14;",
    ),
    "text": ("pair", "text-name: [name]; text-face-name: 'DejaVu Sans Book'; text-size: 14;"),
    STYLE_LEVEL: ("point", "marker-width: 60; marker-fill: rgba(255, 128, 0, 0.5); line-width: 3;"),
}
_ALONG = "marker-file: url(shape://arrow); marker-placement: line; marker-width: 20; marker-spacing: 30;"
_WRAPPED = "{0}-wrap-width: 1;"
_ON_LINE = "{0}-placement: line; {0}-spacing: 90;"
SCENES: dict[str, tuple[str, str, str]] = {
    # property: geometry, what else is set, a value that must change the picture
    "line-simplify": ("wave", "", "300"),
    "line-simplify-algorithm": ("wave", "line-simplify: 20;", "douglas-peucker"),
    "line-smooth-algorithm": ("wave", "line-smooth: 1;", "adaptive"),
    "line-dash-offset": ("short", "line-dasharray: 20, 10;", "7"),
    "line-pattern-alignment": ("jagged", "line-pattern-type: repeat; line-pattern-width: 20;", "local"),
    "line-pattern-offset": ("short", "", "10"),
    "line-pattern-simplify": ("wave", "", "300"),
    "line-pattern-simplify-algorithm": ("wave", "line-pattern-simplify: 20;", "douglas-peucker"),
    "line-pattern-smooth-algorithm": ("wave", "line-pattern-smooth: 1;", "adaptive"),
    "line-pattern-type": ("short", "line-pattern-width: 20;", "repeat"),
    "line-pattern-width": ("short", "line-pattern-type: repeat;", "20"),
    "line-pattern-cap": ("short", "line-pattern-type: repeat; line-pattern-width: 20;", "square"),
    "line-pattern-join": ("short", "line-pattern-type: repeat; line-pattern-width: 20;", "bevel"),
    "line-pattern-miterlimit": ("sharp", "line-pattern-type: repeat; line-pattern-width: 20;", "1"),
    "line-pattern-dasharray": ("short", "line-pattern-type: repeat; line-pattern-width: 20;", "6, 6"),
    "line-pattern-transform": ("short", "line-pattern-file: url(marker.svg);", "rotate(30)"),
    "line-join": ("short", "", "round"),
    "line-miterlimit": ("sharp", "", "1"),
    "marker-avoid-edges": ("edge", "", "true"),
    "marker-comp-op": ("point", "marker-allow-overlap: true;", "xor"),
    "marker-direction": ("short", _ALONG, "left"),
    "marker-file": ("point", "", "url(marker.png)"),
    "marker-geometry-transform": ("short", _ALONG, "translate(10, 10)"),
    "marker-multi-policy": ("parts", "", "whole"),
    "marker-offset": ("short", _ALONG, "15"),
    "marker-placement": ("short", "", "line"),
    "marker-simplify": ("wave", _ALONG, "300"),
    "marker-simplify-algorithm": ("wave", _ALONG + "marker-simplify: 20;", "douglas-peucker"),
    "marker-smooth": ("short", _ALONG, "1"),
    "marker-smooth-algorithm": ("wave", _ALONG + "marker-smooth: 1;", "adaptive"),
    "marker-spacing": ("short", _ALONG, "50"),
    "marker-spacing-offset": ("short", _ALONG, "11"),
    "marker-max-error": ("sharp", _ALONG, "0.01"),
    "line-gamma-method": ("short", "", "threshold"),
    "point-file": ("edge", "", "url(shape://ellipse)"),
    "marker-height": ("point", "", "50"),
    "marker-width": ("point", "", "50"),
    "marker-type": ("point", "", "arrow"),
    "marker-transform": ("point", "marker-height: 10;", "rotate(45)"),
    "marker-line-width": ("point", "", "8"),
    "point-comp-op": ("point", "point-allow-overlap: true;", "xor"),
    "point-placement": ("horseshoe", "", "interior"),
    "point-transform": ("point", "", "rotate(45)"),
    "polygon-gamma": ("polygon", "", "0.1"),
    "polygon-gamma-method": ("polygon", "polygon-gamma: 0.9;", "threshold"),
    "polygon-simplify": ("wave", "", "300"),
    "polygon-simplify-algorithm": ("wave", "polygon-simplify: 20;", "douglas-peucker"),
    "polygon-smooth": ("jagged", "", "1"),
    "polygon-smooth-algorithm": ("jagged", "polygon-smooth: 1;", "adaptive"),
    "polygon-comp-op": ("polygon", "line-width: 20;", "dst-out"),
    "polygon-pattern-alignment": ("polygon", "", "local"),
    "polygon-pattern-gamma": ("polygon", "", "0.1"),
    "polygon-pattern-gamma-method": ("polygon", "polygon-pattern-gamma: 0.9;", "threshold"),
    "polygon-pattern-simplify": ("wave", "", "300"),
    "polygon-pattern-simplify-algorithm": ("wave", "polygon-pattern-simplify: 20;", "douglas-peucker"),
    "polygon-pattern-smooth": ("jagged", "", "1"),
    "polygon-pattern-smooth-algorithm": ("jagged", "polygon-pattern-smooth: 1;", "adaptive"),
    "polygon-pattern-comp-op": ("polygon", "line-width: 20;", "dst-out"),
    "polygon-pattern-transform": ("polygon", "polygon-pattern-file: url(marker.svg);", "rotate(30)"),
    "raster-colorizer-default-mode": ("raster", "", "discrete"),
    "raster-colorizer-default-color": ("raster", "", "#ff0"),
    "raster-colorizer-epsilon": ("raster", "raster-colorizer-default-mode: exact;", "30"),
    "raster-colorizer-stops": ("raster", "", "stop(0, #000) stop(255, #fff)"),
    "raster-scaling": ("raster", "", "bilinear"),
    "raster-filter-factor": ("raster", "raster-scaling: lanczos;", "4"),
    "debug-mode": ("pair", "", "vertex"),
    "dot-comp-op": ("point", "", "xor"),
    "image-filters-inflate": ("edge", "image-filters: agg-stack-blur(20, 20);", "true"),
    "comp-op": ("point", "", "dst-out"),
    "text-font-feature-settings": ("pair", "", "'liga=0'"),
    "text-halo-comp-op": ("pair", "text-halo-radius: 4;", "xor"),
    "text-halo-transform": ("pair", "text-halo-radius: 4;", "translate(3, 3)"),
    "text-largest-bbox-only": ("parts", "", "false"),
    "text-max-char-angle-delta": ("sharp", _ON_LINE.format("text"), "90"),
    "text-min-path-length": ("short", _ON_LINE.format("text"), "5000"),
    "text-orientation": ("pair", "", "45"),
    "text-rotate-displacement": ("pair", "text-orientation: 45; text-dx: 20;", "true"),
    "text-upright": ("short", _ON_LINE.format("text"), "left"),
    "shield-placement": ("short", "", "vertex"),
    "text-placements": ("pair", "text-dy: 14;", "'N'"),
    "text-repeat-wrap-character": ("pair", _WRAPPED.format("text") + "text-wrap-character: 'g';", "true"),
    "text-align": ("pair", _WRAPPED.format("text") + "text-horizontal-alignment: middle;", "right"),
    "shield-justify-alignment": ("pair", _WRAPPED.format("shield") + "shield-horizontal-alignment: middle;", "right"),
    "shield-unlock-image": ("pair", "shield-text-dx: 12;", "true"),
    "text-name": ("pair", "", "'other'"),
    "shield-name": ("pair", "", "'other'"),
    "text-face-name": ("pair", "", "'DejaVu Sans Bold'"),
    "shield-face-name": ("pair", "", "'DejaVu Sans Bold'"),
}
for _kind in ("text", "shield"):
    SCENES |= {
        f"{_kind}-avoid-edges": ("edge", "", "true"),
        f"{_kind}-allow-overlap": ("point", "", "true"),
        f"{_kind}-grid-cell-width": ("polygon", f"{_kind}-placement: grid; {_kind}-size: 6; {_kind}-grid-cell-height: 20;", "10"),
        f"{_kind}-grid-cell-height": ("polygon", f"{_kind}-placement: grid; {_kind}-size: 6; {_kind}-grid-cell-width: 20;", "10"),
        f"{_kind}-halo-fill": ("pair", f"{_kind}-halo-radius: 3;", "#f00"),
        f"{_kind}-halo-opacity": ("pair", f"{_kind}-halo-radius: 3; {_kind}-halo-fill: #f00;", "0.3"),
        f"{_kind}-halo-rasterizer": ("pair", f"{_kind}-halo-radius: 3.5; {_kind}-halo-fill: #f00;", "fast"),
        f"{_kind}-halo-radius": ("pair", "", "3"),
        f"{_kind}-line-spacing": ("pair", _WRAPPED.format(_kind), "8"),
        f"{_kind}-margin": ("pair", "", "200"),
        f"{_kind}-min-distance": ("pair", "", "200"),
        f"{_kind}-min-padding": ("pair", "", "60"),
        f"{_kind}-repeat-distance": ("pair", "", "200"),
        f"{_kind}-extend": ("short", _ON_LINE.format(_kind) + f"{_kind}-size: 6;", "50"),
        f"{_kind}-offset": ("short", _ON_LINE.format(_kind) + f"{_kind}-size: 6;", "12"),
        f"{_kind}-vertical-alignment": ("pair", "", "top"),
        f"{_kind}-horizontal-alignment": ("pair", "", "left"),
        f"{_kind}-label-position-tolerance": (
            "sharp" if _kind == "shield" else "short", _ON_LINE.format(_kind) + f"{_kind}-size: 6; {_kind}-spacing: 40;", "1"
        ),
        f"{_kind}-smooth-algorithm": ("short", _ON_LINE.format(_kind) + f"{_kind}-size: 6; {_kind}-smooth: 1;", "adaptive"),
        f"{_kind}-simplify": ("wave", _ON_LINE.format(_kind) + f"{_kind}-size: 6;", "300"),
        f"{_kind}-simplify-algorithm": (
            "wave", _ON_LINE.format(_kind) + f"{_kind}-size: 6; {_kind}-simplify: 20;", "douglas-peucker"
        ),
        f"{_kind}-smooth": ("wave", _ON_LINE.format(_kind) + f"{_kind}-size: 6; {_kind}-simplify: 40;", "1"),
        f"{_kind}-spacing": ("wave", f"{_kind}-placement: line; {_kind}-size: 6; {_kind}-simplify: 40;", "40"),
        f"{_kind}-wrap-before": ("pair", f"{_kind}-wrap-width: 30;", "true"),
        f"{_kind}-wrap-character": ("pair", _WRAPPED.format(_kind), "'g'"),
        f"{_kind}-wrap-width": ("pair", "", "1"),
        f"{_kind}-character-spacing": ("pair", "", "4"),
        f"{_kind}-text-transform": ("pair", "", "uppercase"),
        f"{_kind}-comp-op": ("edge", "line-width: 30;", "xor" if _kind == "shield" else "dst-out"),
        f"{_kind}-size": ("pair", "", "20"),
    }  # fmt: skip
SCENES["text-placement"] = ("short", "", "line")
SCENES["text-transform"] = SCENES.pop("text-text-transform")

ONLY_DRAWN = {
    # Drawn, but no tiny map shows a difference: what they steer, or why Mapnik takes no notice.
    "line-clip": "clips at the edge of the picture, beyond which nothing shows",
    "line-pattern-clip": "clips at the edge of the picture",
    "marker-clip": "clips at the edge of the picture",
    "polygon-clip": "clips at the edge of the picture",
    "polygon-pattern-clip": "clips at the edge of the picture",
    "shield-clip": "clips at the edge of the picture",
    "text-clip": "clips at the edge of the picture",
    "line-extend": "Mapnik follows extend for texts and shields only; a warning says so",
    "line-pattern-extend": "Mapnik follows extend for texts and shields only; a warning says so",
    "marker-extend": "Mapnik follows extend for texts and shields only; a warning says so",
    "polygon-extend": "Mapnik follows extend for texts and shields only; a warning says so",
    "polygon-pattern-extend": "Mapnik follows extend for texts and shields only; a warning says so",
    "raster-mesh-size": "steers the warping of rasters of another projection",
    "raster-premultiplied": "tells how the alpha of a picture was stored; a colorized raster has none",
    "shield-placements": "the picture of a shield stays where it is",
    "shield-placement-type": "simple has directions only with placements, which imply it",
    "text-placement-type": "simple has directions only with placements, which imply it",
    "shield-lang": "picks glyphs that the fonts of the package do not distinguish",
    "text-lang": "picks glyphs that the fonts of the package do not distinguish",
    "text-ratio": "applies where a label may choose between shapes",
}


def picture(known: Property, value: str | None, folder: Path) -> bytes:
    geometry, base = BASES[known.symbolizer]
    extra = ""
    if known.css in SCENES:
        geometry, extra, _ = SCENES[known.css]
    given = [part.strip() for part in (base + extra).split(";") if part.strip()]
    names = [part.split(":")[0] for part in given]
    # What the scene adds replaces what its base sets.
    kept = [part for index, part in enumerate(given) if part.split(":")[0] not in names[index + 1 :]]
    if value is not None:
        kept = [part for part in kept if part.split(":")[0] != known.css] + [f"{known.css}: {value}"]
    return draw(map_xml("#pts { " + "; ".join(kept) + "; }", folder=folder, geometry=geometry))


def value_for(known: Property) -> str:
    if known.css in SCENES:
        return SCENES[known.css][2]
    if known.is_switch:
        return "none"
    if known.css == "shield-placements":
        return "'N,20'"
    if isinstance(known.type, tuple):
        return next(word for word in reversed(known.type) if word != known.default)
    by_type = {
        "float": "0.4" if known.css.endswith(("opacity", "gamma", "smooth")) else "9",
        "unsigned": "3",
        "boolean": "false" if known.default is True else "true",
        "color": "#c0f",
        "numbers": "9, 5",
        "functions": "gray()" if known.is_image_filter else "scale(1.5)",
        "uri": "url(marker.png)",
        "string": "'x'",
    }
    return by_type[str(known.type)]


@pytest.mark.parametrize(
    "known", [known for known in PROPERTIES if known.symbolizer != "map"], ids=lambda known: known.css
)
def test_each_property_draws_or_changes_what_is_drawn(known: Property, folder: Path) -> None:
    with_it = picture(known, value_for(known), folder)
    without = picture(known, None, folder) if not known.required or known.css in SCENES else None
    if known.css in ONLY_DRAWN:
        assert not is_blank(with_it)
        assert with_it == without, "this property does change the picture; it needs no entry in ONLY_DRAWN"
    else:
        assert with_it != without
        assert not (is_blank(with_it) and (without is None or is_blank(without)))


def test_text_that_is_no_expression_is_drawn_as_it_is_written(folder: Path) -> None:
    head = "#pts { text-face-name: 'DejaVu Sans Book'; text-size: 9; text-name: "
    pictures = {
        text: draw(map_xml(f"{head}{text}; }}", folder=folder, geometry="pair"))
        for text in ('"Wells of [n]"', "\"'Wells of [n]'\"", '"Wells"', '"[name]"')
    }
    assert not is_blank(pictures['"Wells of [n]"'])
    assert pictures['"Wells of [n]"'] == pictures["\"'Wells of [n]'\""]
    assert len(set(pictures.values())) == 3


@pytest.mark.parametrize("zoom", [0, 1, 2, 5, 9, 12, 15, 18, 20, 22])
def test_a_rule_of_one_zoom_is_drawn_at_that_zoom_only(zoom: int, folder: Path) -> None:
    xml = map_xml(f"#pts[zoom={zoom}] {{ marker-width: 100; }}", folder=folder, geometry="point")
    drawn = []
    for other in range(23):
        # A tile of this zoom is 256 pixels wide; the map here is 128.
        extent = 40_075_016.68557849 / 2**other / 2
        loaded = load(xml)
        loaded.zoom_to_box(mapnik.Box2d(500 - extent / 2, 500 - extent / 2, 500 + extent / 2, 500 + extent / 2))
        image = mapnik.Image(128, 128)
        mapnik.render(loaded, image)
        if not is_blank(image.to_string()):
            drawn.append(other)
    assert drawn == [zoom]


# --- what Mapnik 4.3 refuses or ignores, and we say first

REFUSED = [
    ("text-name: '@cdb-width'; text-face-name: 'DejaVu Sans Book'", "Mapnik cannot read the variable @cdb-width"),
    ("marker-file: url(http://example.org/a.png)", "Unable to download 'http://example.org/a.png'"),
    ("opacity: [n]", "Invalid value for opacity"),
    ("comp-op: foo", "Invalid value for comp-op"),
    ("comp-op: 'src_over'", "Invalid value for comp-op"),
    ("image-filters: foo()", "unknown function foo()"),
    ("line-dash-offset: 1, 2", "Invalid value for line-dash-offset"),
    ("line-width: 1, 2", "Invalid value for line-width"),
    ("marker-placement: foo", "Invalid value for marker-placement"),
    ("marker-fill: notacolor", "Invalid value for marker-fill"),
    ("marker-fill: 'rgba(1, 2, 3, 50%)'", "Invalid value for marker-fill"),
    ("marker-width: foo", "Invalid value for marker-width"),
    ("line-width: #f00", "Invalid value for line-width"),
    ("line-width: 1/0", "is not a finite number"),
    ("line-width: 1e999", "is too large"),
    ("marker-transform: 'foo'", "Mapnik cannot read the transform"),
    ("marker-transform: 5", "Invalid value for marker-transform"),
    ("marker-transform: blur()", "Invalid value for marker-transform"),
    ("marker-transform: 'rotate(1, 2)'", "Mapnik cannot read the transform"),
    (
        "text-name: [n]; text-face-name: 'DejaVu Sans Book'; text-min-distance: 2; text-margin: 3",
        "text-min-distance is deprecated and excludes text-margin",
    ),
    (
        "shield-name: [n]; shield-face-name: 'A'; shield-file: url(a.png); shield-min-distance: 2; shield-repeat-distance: 3",
        "shield-min-distance is deprecated and excludes shield-repeat-distance",
    ),
    ("raster-colorizer-stops: stop(2, red) stop(1, blue)", "must ascend"),
    ("raster-colorizer-stops: stop(2)", "needs raster-colorizer-default-color"),
    ("raster-colorizer-stops: stop(2, red, foo)", "neither a colour nor a mode"),
]


@pytest.mark.parametrize(("declarations", "text"), REFUSED)
def test_what_mapnik_refuses_is_an_error_of_ours_first(declarations: str, text: str) -> None:
    with pytest.raises(CartoError, match=re.escape(text)):
        compile_layer(f"#pts {{ {declarations}; }}", layer_id="pts", resources={"a.png": "a.png"})


REPAIRED = [
    # declarations, what the XML holds, what it must not hold, the warning
    (
        "text-name: 'hello world'; text-face-name: 'DejaVu Sans Book'",
        ">'hello world'<",
        ">hello",
        "text-name is no expression and is drawn as it is written",
    ),
    (
        "text-name: [n]; text-face-name: 'No Such Font'",
        'face-name="DejaVu Sans Book"',
        "No Such",
        "No Such Font is not known",
    ),
    ("text-name: [n]; text-face-name: 'A', 'B'", 'face-name="DejaVu Sans Book"', "FontSet", "font A, B is not known"),
    (
        "shield-name: [n]; shield-face-name: 'DejaVu Sans Book'; shield-file: url(a.png); shield-halo-transform: scale(2)",
        "ShieldSymbolizer",
        "halo-transform",
        "shield-halo-transform has no effect in Mapnik 4",
    ),
    (
        "shield-name: [n]; shield-face-name: 'DejaVu Sans Book'; shield-file: url(a.png); shield-halo-comp-op: xor",
        "ShieldSymbolizer",
        "halo-comp-op",
        "shield-halo-comp-op has no effect in Mapnik 4",
    ),
    (
        "text-name: [n]; text-face-name: 'DejaVu Sans Book'; text-placements: 'N,10'",
        'placement-type="simple"',
        "dummy",
        "",
    ),
    (
        "text-name: [n]; text-face-name: 'DejaVu Sans Book'; text-placements: 'N,10'; text-placement-type: dummy",
        'placement-type="dummy"',
        "placements",
        "text-placements has an effect with text-placement-type: simple only",
    ),
    ("raster-scaling: fast", 'scaling="near"', "fast", ""),
    ("line-extend: 3; line-width: 1", 'extend="3"', "foo", "line-extend is read by Mapnik 4.3 but changes nothing"),
]


@pytest.mark.parametrize(("declarations", "holds", "lacks", "warning"), REPAIRED)
def test_what_mapnik_would_ignore_is_repaired_and_said(
    declarations: str, holds: str, lacks: str, warning: str, folder: Path
) -> None:
    css = f"#pts {{ {declarations}; }}"
    xml = map_xml(css, folder=folder)
    assert holds in xml
    assert lacks not in xml
    load(xml)
    style = compile_layer(css, layer_id="pts", fonts=["DejaVu Sans Book"], resources={"a.png": "a.png"})
    assert not warning or any(warning in message.text for message in style.messages)


def test_a_broken_buffer_size_is_rounded_and_no_projection_string_is_written(folder: Path) -> None:
    xml = map_xml("Map { buffer-size: 31.5; } #pts { line-width: 1; }", folder=folder)
    root = ET.fromstring(xml)
    assert root.get("buffer-size") == "32"
    assert root.get("srs") == "epsg:3857"
    load(xml)


# --- meaning in Mapnik

KEYS = st.sampled_from(("a", "b c", "mapnik_x"))
CONSTANTS = st.one_of(
    st.sampled_from(("5", "-1.5", "0", "1e3", "null", "true", "'x'", "'5'", '"it\'s"', "''")),
    st.integers(-9, 9).map(str),
)
FIELD_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.floats(-9, 9), st.sampled_from(("x", "5", "", "it's"))
)


@settings(max_examples=3_000 if NIGHTLY else 400, deadline=None)
@given(
    filters=st.lists(
        st.tuples(KEYS, st.sampled_from(("=", "!=", "<", "<=", ">", ">=")), CONSTANTS), min_size=1, max_size=3
    ),
    values=st.dictionaries(KEYS, FIELD_VALUES),
)
def test_a_compiled_filter_holds_in_mapnik_for_the_features_it_holds_for_here(
    filters: list[tuple[str, str, str]], values: dict[str, bool | float | str | None]
) -> None:
    selector = "".join(f"['{key}'{operator}{constant}]" for key, operator, constant in filters)
    try:
        style = compile_layer(f"#pts{selector} {{ line-width: 1; }}", layer_id="pts")
    except CartoError:
        return
    text = style.styles[0].rules[0].filter
    feature = mapnik.Feature(mapnik.Context(), 1)
    for key, value in values.items():
        feature[key] = value
    assert mapnik.Expression(text).to_bool(feature) == bool(compile_expression(text)(values))


TOKENS = (
    "[a]", "[b c]", "1", "2.5", "'x'", '"y"', "+", "-", "*", "/", "%", "(", ")", "=", "!=", "<", ">=", "and", "or", "not",
    "!", ",", "sin(", "min(", "length(", "pow", "power", "foo", "true", "null", "point", "@v", ".match('a+')",
    ".replace('a','b')", ".match(", " ", "is", "eq", "neq", "[", "]", "'", "\\", "#", "é", ".", "&&", "||", "==", "<>",
)  # fmt: skip


@settings(max_examples=20_000 if NIGHTLY else 2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(TOKENS), max_size=7), st.sampled_from(("", " ")))
def test_mapnik_reads_every_expression_that_we_take_for_one(tokens: list[str], joint: str) -> None:
    text = joint.join(tokens)
    if is_expression(text):
        mapnik.Expression(text)


PIECES = (
    "a", "b", ".", "*", "+", "?", "{2}", "{1,3}", "{2,}", "(", ")", "(?:", "|", "[ab]", "[^a]", "[a-c]", "[[:alpha:]]",
    "\\d", "\\w", "\\.", "^", "$", "(?i)", "[", "]", "{", "}", "\\\\", "-", "\\b", "\\1", "[]]", "é",
)  # fmt: skip


@settings(max_examples=20_000 if NIGHTLY else 2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.text("abc.é", max_size=6))
def test_mapnik_matches_what_a_regular_expression_that_we_allow_matches(pattern: str, text: str) -> None:
    try:
        ours = re.compile(translate(pattern))
    except BadRegex:
        return
    if "[:" in pattern:
        text = text.encode("ascii", "ignore").decode()
    literal = pattern.replace("\\", "\\\\").replace("'", "\\'")
    feature = mapnik.Feature(mapnik.Context(), 1)
    feature["a"] = text
    with quiet():
        matched = mapnik.Expression(f"[a].match('{literal}')").to_bool(feature)
    assert matched == (ours.fullmatch(text) is not None)
