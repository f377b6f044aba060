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

from cartocss_corpus import REQUIRED, Sample, corpus
from flowmaps.cartocss import CartoError, compile_layer
from flowmaps.cartocss.expressions import compile_expression, is_expression
from flowmaps.cartocss.reference import STYLE_LEVEL, Property, load_reference
from flowmaps.cartocss.regex import BadRegex, translate
from integration.mapnik_maps import draw, is_blank, load, map_xml, quiet, write_files

NIGHTLY = bool(os.environ.get("FLOWMAPS_TEST_NIGHTLY"))
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
    "line-simplify": ("wave", "", "30"),
    "line-simplify-algorithm": ("wave", "line-simplify: 30;", "visvalingam-whyatt"),
    "line-smooth-algorithm": ("wave", "line-smooth: 1;", "adaptive"),
    "line-dash-offset": ("short", "line-dasharray: 20, 10;", "7"),
    "line-pattern-alignment": ("short", "", "local"),
    "line-pattern-offset": ("short", "", "10"),
    "line-pattern-simplify": ("wave", "", "30"),
    "line-pattern-simplify-algorithm": ("wave", "line-pattern-simplify: 30;", "visvalingam-whyatt"),
    "line-pattern-smooth-algorithm": ("wave", "line-pattern-smooth: 1;", "adaptive"),
    "line-pattern-type": ("short", "line-pattern-width: 20;", "repeat"),
    "line-pattern-width": ("short", "line-pattern-type: repeat;", "20"),
    "line-pattern-cap": ("short", "line-pattern-type: repeat; line-pattern-width: 20;", "square"),
    "line-pattern-join": ("short", "line-pattern-type: repeat; line-pattern-width: 20;", "bevel"),
    "line-pattern-miterlimit": ("sharp", "line-pattern-type: repeat; line-pattern-width: 20;", "1"),
    "line-pattern-dasharray": ("short", "line-pattern-type: repeat; line-pattern-width: 20;", "6, 6"),
    "line-pattern-transform": ("short", "line-pattern-type: repeat; line-pattern-width: 20;", "rotate(30)"),
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
    "marker-simplify": ("wave", _ALONG, "60"),
    "marker-simplify-algorithm": ("wave", _ALONG + "marker-simplify: 40;", "visvalingam-whyatt"),
    "marker-smooth": ("short", _ALONG, "1"),
    "marker-smooth-algorithm": ("wave", _ALONG + "marker-smooth: 1;", "adaptive"),
    "marker-spacing": ("short", _ALONG, "50"),
    "marker-spacing-offset": ("short", _ALONG, "11"),
    "marker-extend": ("short", _ALONG, "20"),
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
    "polygon-simplify": ("jagged", "", "30"),
    "polygon-simplify-algorithm": ("jagged", "polygon-simplify: 30;", "visvalingam-whyatt"),
    "polygon-smooth": ("jagged", "", "1"),
    "polygon-smooth-algorithm": ("jagged", "polygon-smooth: 1;", "adaptive"),
    "polygon-comp-op": ("polygon", "line-width: 20;", "dst-out"),
    "polygon-pattern-alignment": ("polygon", "", "local"),
    "polygon-pattern-gamma": ("polygon", "", "0.1"),
    "polygon-pattern-gamma-method": ("polygon", "polygon-pattern-gamma: 0.9;", "threshold"),
    "polygon-pattern-simplify": ("jagged", "", "30"),
    "polygon-pattern-simplify-algorithm": ("jagged", "polygon-pattern-simplify: 30;", "visvalingam-whyatt"),
    "polygon-pattern-smooth": ("jagged", "", "1"),
    "polygon-pattern-smooth-algorithm": ("jagged", "polygon-pattern-smooth: 1;", "adaptive"),
    "polygon-pattern-comp-op": ("polygon", "line-width: 20;", "dst-out"),
    "polygon-pattern-transform": ("polygon", "", "rotate(30)"),
    "raster-colorizer-default-mode": ("raster", "", "discrete"),
    "raster-colorizer-default-color": ("raster", "", "#ff0"),
    "raster-colorizer-epsilon": ("raster", "raster-colorizer-default-mode: exact;", "30"),
    "raster-colorizer-stops": ("raster", "", "stop(0, #000) stop(255, #fff)"),
    "raster-scaling": ("raster", "", "bilinear"),
    "raster-filter-factor": ("raster", "raster-scaling: gaussian;", "4"),
    "debug-mode": ("pair", "", "vertex"),
    "dot-comp-op": ("pair", "marker-width: 60;", "xor"),
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
    "text-offset": ("short", _ON_LINE.format("text"), "12"),
    "text-ratio": ("pair", "text-wrap-width: 20;", "1"),
    "text-repeat-wrap-character": ("pair", _WRAPPED.format("text") + "text-wrap-character: 'g';", "true"),
    "text-align": ("pair", _WRAPPED.format("text") + "text-horizontal-alignment: middle;", "right"),
    "shield-justify-alignment": ("pair", _WRAPPED.format("shield") + "shield-horizontal-alignment: middle;", "right"),
    "shield-unlock-image": ("pair", "shield-dx: 12;", "true"),
    "text-name": ("pair", "", "'other'"),
    "shield-name": ("pair", "", "'other'"),
    "shield-placement-type": ("pair", "shield-placements: 'N,S,10';", "simple"),
    "text-face-name": ("pair", "", "'DejaVu Sans Bold'"),
    "shield-face-name": ("pair", "", "'DejaVu Sans Bold'"),
}
for _kind in ("text", "shield"):
    SCENES |= {
        f"{_kind}-avoid-edges": ("edge", "", "true"),
        f"{_kind}-allow-overlap": ("point", "", "true"),
        f"{_kind}-grid-cell-width": ("jagged", f"{_kind}-placement: grid; {_kind}-size: 6;", "40"),
        f"{_kind}-grid-cell-height": ("jagged", f"{_kind}-placement: grid; {_kind}-size: 6;", "20"),
        f"{_kind}-halo-fill": ("pair", f"{_kind}-halo-radius: 3;", "#f00"),
        f"{_kind}-halo-opacity": ("pair", f"{_kind}-halo-radius: 3; {_kind}-halo-fill: #f00;", "0.3"),
        f"{_kind}-halo-rasterizer": ("pair", f"{_kind}-halo-radius: 3.5; {_kind}-halo-fill: #f00;", "fast"),
        f"{_kind}-halo-radius": ("pair", "", "3"),
        f"{_kind}-line-spacing": ("pair", _WRAPPED.format(_kind), "8"),
        f"{_kind}-margin": ("pair", "", "200"),
        f"{_kind}-min-distance": ("pair", "", "200"),
        f"{_kind}-min-padding": ("pair", "", "60"),
        f"{_kind}-repeat-distance": ("pair", "", "200"),
        f"{_kind}-placement": ("short", "", "line"),
        f"{_kind}-placements": ("pair", "", "'N,20'"),
        f"{_kind}-simplify": ("wave", _ON_LINE.format(_kind) + f"{_kind}-size: 6;", "60"),
        f"{_kind}-simplify-algorithm": (
            "wave", _ON_LINE.format(_kind) + f"{_kind}-size: 6; {_kind}-simplify: 40;", "visvalingam-whyatt"
        ),
        f"{_kind}-smooth": ("wave", _ON_LINE.format(_kind) + f"{_kind}-size: 6; {_kind}-simplify: 40;", "1"),
        f"{_kind}-spacing": ("wave", f"{_kind}-placement: line; {_kind}-size: 6; {_kind}-simplify: 40;", "40"),
        f"{_kind}-wrap-before": ("pair", f"{_kind}-wrap-width: 30;", "true"),
        f"{_kind}-wrap-character": ("pair", _WRAPPED.format(_kind), "'g'"),
        f"{_kind}-wrap-width": ("pair", "", "1"),
        f"{_kind}-character-spacing": ("pair", "", "4"),
        f"{_kind}-text-transform": ("pair", "", "uppercase"),
        f"{_kind}-comp-op": ("pair", "marker-width: 60; marker-allow-overlap: true; marker-ignore-placement: true;", "xor"),
        f"{_kind}-size": ("pair", "", "20"),
    }  # fmt: skip
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


@pytest.mark.parametrize("known", [known for known in PROPERTIES if known.symbolizer != "map"], ids=lambda known: known.css)
def test_each_property_draws_or_changes_what_is_drawn(known: Property, folder: Path) -> None:
    with_it = picture(known, value_for(known), folder)
    without = picture(known, None, folder) if not known.required or known.css in SCENES else None
    if known.css in ONLY_DRAWN:
        assert not is_blank(with_it)
        assert with_it == without, "this property does change the picture; it needs no entry in ONLY_DRAWN"
    else:
        assert with_it != without
        assert not (is_blank(with_it) and (without is None or is_blank(without)))
