"""A corpus of stylesheets that covers the language: properties, value forms, operators, selectors and whole maps.

Half of it is generated from the reference data and from tables of forms, half of it is whole styles in
``tests/unit/cartocss/corpus/*.mss``. Tests and benchmarks compare over it with npm carto and load it in Mapnik.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowmaps.cartocss.reference import STYLE_LEVEL, Property, load_reference

FILES = Path(__file__).resolve().parents[1] / "tests" / "unit" / "cartocss" / "corpus"
LAYER = "pts"
CLASSES = ("pts", "area")

REQUIRED = {
    "text": (("text-name", "[name]"), ("text-face-name", '"DejaVu Sans Book"')),
    "shield": (
        ("shield-file", "url(marker.png)"),
        ("shield-face-name", '"DejaVu Sans Book"'),
        ("shield-name", "[name]"),
    ),
    "line-pattern": (("line-pattern-file", "url(marker.png)"),),
    "polygon-pattern": (("polygon-pattern-file", "url(marker.png)"),),
    "raster": (),
}
"""What a symbolizer needs beside the property under test."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One stylesheet of the corpus for a layer called ``pts`` of the classes ``pts`` and ``area``."""

    name: str
    css: str


def corpus() -> list[Sample]:
    """Return the whole corpus; names are unique."""
    samples = [*_properties(), *_forms(), *_files()]
    names = [sample.name for sample in samples]
    if len(set(names)) != len(names):
        raise ValueError(f"names repeat: {sorted({name for name in names if names.count(name) > 1})}")
    return samples


# --- one style for each property


def values_of(known: Property) -> list[str]:
    """Return values in every form that a property takes."""
    if known.is_switch:
        return ["none"]
    values = _plain_values(known)
    if known.expression and known.type not in ("uri", "tags", "functions", "numbers") and not known.font:
        if known.css == "text-font-feature-settings":
            return values
        values += ["[n]"]
        if known.type == "unsigned":
            values.remove("[n]")  # carto refuses fields there; see the deviations
        if known.type == "float" and not known.css.endswith("-placements"):
            values += ["[n] + 1", "[n] * 2", "[n] - [m]"]
        if known.type == "float":
            values += ["'[n]*2'", "'@size'"]
    return values


def _plain_values(known: Property) -> list[str]:
    if isinstance(known.type, tuple):
        return [word for word in known.type if word not in ("none", "auto")]
    if known.font:
        return ['"DejaVu Sans Book"', '"DejaVu Sans Bold", "DejaVu Sans Book"']
    if known.css == "line-dash-offset":
        return ["3", "0.5"]
    if known.css.endswith("-placements"):
        return ['"N,S,10"', '"NE,SW,X,12,10"']
    if known.css.endswith("wrap-character") and known.type == "string":
        return ['"_"', '" "']
    if known.css == "text-font-feature-settings":
        return ['"smcp"']
    if known.css.endswith("-lang"):
        return ["\"'en'\""]
    match known.type:
        case "float":
            return ["1.5", "1", "1.25", "0.1e1"] if known.css == "marker-spacing" else ["0.5", "1", ".25", "0.1e1"]
        case "unsigned":
            return ["20", "1"]
        case "boolean":
            return ["true", "false"]
        case "color":
            return ["#f00", "#00ff7f", "blue", "rgba(10, 20, 30, 0.5)", "hsl(120, 50%, 50%)", "transparent"]
        case "numbers":
            return ["3, 4", "10, 2, 3, 4", "5"]
        case "uri":
            return ["url(marker.png)", 'url("marker.png")', "url('marker.png')", 'url( "marker.png" )']
        case "tags":
            return ["stop(0, #006400) stop(500, yellow, exact)", "stop(1, red), stop(2, blue, linear)"]
        case "functions" if known.is_image_filter:
            return ["agg-stack-blur(2,2)", "gray()", "invert(), blur()"]
        case "functions":
            return ["scale(2)", "rotate(45), translate(1,2)", "'scale(0.5)'"]
        case "string":
            return ["[name]", '"[name]"', "\"'a text'\"", '[name] + " m"']
        case _:
            raise ValueError(f"no values for {known.css} of type {known.type}")


def property_style(known: Property, values: Sequence[str], selector: str = "#pts") -> str:
    """Return a style that sets a property to each value under a filter of its own, the first one for all others."""
    companions = "".join(f" {css}: {value};" for css, value in REQUIRED.get(known.symbolizer, ()) if css != known.css)
    if known.symbolizer == STYLE_LEVEL:
        body = "".join(
            f"::a{number} {{ marker-width: 5; {known.css}: {value}; }}\n" for number, value in enumerate(values)
        )
        return f"{selector} {{\n{body}}}\n"
    first, *others = values
    nested = "".join(f"  [v={number}] {{ {known.css}: {value}; }}\n" for number, value in enumerate(others, 1))
    return f"{selector} {{\n {companions} {known.css}: {first};\n{nested}}}\n"


def _properties() -> Iterator[Sample]:
    for known in load_reference().properties.values():
        if known.symbolizer == "map" or known.ignored:
            continue
        old = load_reference("3.0.6").properties.get(known.css)
        values = values_of(known)
        if known.css == "raster-scaling":
            values.remove("fast")
        if known.is_switch:
            yield Sample(f"switch {known.css}", property_style(known, values))
            continue
        if old is None:
            yield Sample(f"newer property {known.css}", property_style(known, values))
            continue
        newer = [word for word in values if isinstance(old.type, tuple) and word not in (*old.type, "[n]")]
        newer += [word for word in values if word == "douglas-peucker"]  # not in the 3.0.6 that carto 0.16.3 brings
        yield Sample(f"property {known.css}", property_style(known, [word for word in values if word not in newer]))
        if newer:
            yield Sample(f"newer keywords of {known.css}", property_style(known, newer))


# --- tables of forms

_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
_COLORS = ("#f80", "#3366cc", "steelblue", "rgba(200, 100, 50, 0.5)", "hsl(200, 40%, 60%)", "hsla(30, 1, .5, .3)")
_CALLS = (
    "lighten({}, 15%)", "darken({}, 20%)", "saturate({}, 30%)", "desaturate({}, 30%)", "fadein({}, 10%)",
    "fadeout({}, 25%)", "spin({}, 40)", "spin({}, -400)", "greyscale({})", "mix({}, #0f0, 50%)", "mix({}, white, 10%)",
    "lighten({}, 10)", "{} + #111", "{} - #222", "{} * 2", "{} / 3", "10 + {}",
)  # fmt: skip
_NUMBERS = (
    "3", "3.25", ".5", "1e1", "2.5e-1", "3px", "0.05in", "1mm", "0.1cm", "2pt", "0.2pc", "1 + 2", "3 - 1", "3-1",
    "2 * 3", "9 / 4", "7 % 4", "1 + 2 * 3", "(1 + 2) * 3", "10 - 2 - 3", "@two", "@two * 2", "@two + @two / 4",
    "0.1 + 0.2", "-2 + 5", "10 + 50%", "hue(#f80) / 10", "alpha(rgba(1, 2, 3, 0.25)) * 8",
)  # fmt: skip
_FILTERS = (
    '[a="x"]', "[a='x']", "[a=1]", "[a=1.50]", "[a=-3]", "[a=1e3]", "[a=null]", "[a!=null]", "[a=true]", "[a=false]",
    "[a=@word]", "[a=@two]", "[a=[b]]", "[a>[b]]", "[2010=1]", "[a-b_c=1]", '["a b"=1]', "['a b'=1]", '["a:b">=2]',
    '["mapnik::geometry_type"=1]', '["mapnik::geometry_type"=point]', '["mapnik::geometry_type"=linestring]',
    '["mapnik::geometry_type"=polygon]', '["mapnik::geometry_type"=collection]', '[a=~"x.*"]', "[a=~'(?i)y']",
    '[a=~"x.*"][a=~"y.*"]', "[a!=1][a!=2]", "[a>1][a<5]", "[a>=1][b<=5]", '[a=""]', "[a = 'blank  kept']", "[ a = 1 ]",
    "[a=2*3]", "[a=@two*3]", '[a="it\'s"]', "[a=1][b='y'][c!=null]", '[a="ä ö ü"]', "[a=1px]", "[a=5%]", '[a!=""]',
    "[[a] % 2 = 0]", "[[a] + [b] > 3]", "[[a b]=1]", "[([a] + 1) > 3]",
)  # fmt: skip
_SELECTORS = (
    "#pts", ".pts", ".area", "#pts.pts", "#pts.pts.area", "#pts .area", ".pts.area", "#pts, #other", "#other, .pts",
    "#pts#pts", "#pts::x", "::x", "#pts.pts::x", "#pts::a, #pts::b", "#pts[zoom=3]", "#pts[zoom>3]", "#pts[zoom>=3]",
    "#pts[zoom<9]", "#pts[zoom<=9]", "#pts[zoom>3][zoom<9]", "#pts[zoom>=@two]", "#pts[a=1][zoom>4]", "#pts[zoom>4]::x",
    "#pts::x[zoom>4]", "[a=1]", "#pts [a=1]", ".pts[a=1][zoom=5]", "#pts::a-b", "#pts::a/b", "#pts,",
    "#pts[zoom=0]", "#pts[zoom<=25]", "#pts[zoom=25]", "#pts[zoom>5][zoom>7]", "#pts\n.area\n[a=1]",
)  # fmt: skip
_NESTED = (
    "#pts { marker-width: 1; [a=1] { marker-width: 2; } }",
    "#pts { [a=1] { marker-width: 2; [b=1] { marker-height: 3; } } marker-width: 1; }",
    "#pts { .area { marker-width: 2; } marker-height: 1; }",
    "#pts { ::x { marker-width: 2; } marker-height: 1; }",
    "#pts { marker-height: 1; ::x { marker-width: 2; ::y { marker-width: 3; } } }",
    "#pts { [zoom>5] { marker-width: 2; [zoom>9] { marker-width: 4; } } marker-width: 1; }",
    "#pts { [a=1], [a=2] { marker-width: 2; } marker-width: 1; }",
    "#pts { [a=1], [b=2] { marker-width: 2; [c=1], [c=2] { marker-height: 4; } } marker-width: 1; }",
    "#pts { marker-width: 1; [a>1] { marker-width: 2; } [a>2] { marker-width: 3; } [a>3] { marker-width: 4; } }",
    "#pts { marker-width: 1; [a<1] { marker-width: 2; } [a>=1][a<2] { marker-width: 3; } [a>=2] { marker-width: 4; } }",
    "#pts { a/line-width: 4; b/line-width: 2; line-width: 1; a/line-color: red; }",
    "#pts { a/line-width: 4; [v=1] { a/line-width: 6; b/line-width: 3; } }",
    "#pts { line-width: 1; marker-width: 2; polygon-fill: red; }",
    "#pts { marker-width: 2; } #pts { line-width: 1; } #pts { marker-height: 3; }",
    "#pts[a=1] { marker-width: 2; } .pts[b=1] { marker-width: 3; } [c=1] { marker-width: 4; }",
    "#pts { marker-width: 2; marker-width: 3; }",
    "#pts { marker-width: 2; } #pts { marker-width: 3; }",
    "#other { marker-width: 2; } #pts { marker-width: 3; }",
    "#pts { marker-width: 3 } /* at the end */",
    "/* first */ #pts /* between */ { /* in */ marker-width: 3; // to the end\n marker-height: 4; }",
    "#pts{marker-width:3;marker-height:4}",
    "#pts\t{\n\tmarker-width :\t3 ;\r\n\tmarker-height : 4\r\n}",
    "@a: @b; @b: 4; #pts { marker-width: @a; }",
    "#pts { marker-width: @late; } @late: 4;",
    '@f: "DejaVu Sans Bold", "DejaVu Sans Book"; #pts { text-name: [n]; text-face-name: @f; }',
    "@u: 'marker.png'; #pts { marker-file: url(@u); }",
    "@unused: 3; #pts { marker-width: 4; }",
    "Map { background-color: #abc; } #pts { marker-width: 1; }",
    "Map { background-color: #abc; buffer-size: 64; } Map { background-color: #def; } #pts { marker-width: 1; }",
    "#pts { comp-op: multiply; marker-width: 1; }",
    "#pts { opacity: 0.5; marker-width: 1; }",
    "#pts { image-filters: agg-stack-blur(2,2), gray(); marker-width: 1; }",
    "#pts { direct-image-filters: invert(); marker-width: 1; }",
    "#pts::a { comp-op: screen; marker-width: 1; } #pts::b { opacity: 0.2; marker-width: 2; }",
    "#pts { line: none; polygon-fill: red; }",
    "#pts { marker: auto; }",
    "#pts { text: none; marker-width: 2; }",
    "#pts { text-name: [a]; text-face-name: 'DejaVu Sans Book'; b/text-name: [b]; b/text-face-name: 'x'; }",
    "#pts { marker-width: [a]; marker-height: [a] * 2; marker-fill: [c]; }",
    "#pts { marker-width: [a b]; }",
    "#pts { marker-transform: rotate([dir]); }",
    "#pts { marker-transform: matrix(1, 0, 0, 1, 2, 3); a/marker-transform: translate(2), skewX(4), skewY(5); }",
    "#pts { marker-file: url('icons/[kind].svg'); }",
    "#pts { marker-file: url(shape://ellipse); a/marker-file: url('shape://arrow'); }",
    "#pts { line-dasharray: 1, 2, 3, 4; line-width: 1; }",
    "#pts { text-name: 'a' + [b] + 'c'; text-face-name: 'DejaVu Sans Book'; }",
    "#pts { text-name: [a] + ' ' + [b]; text-face-name: 'DejaVu Sans Book'; }",
    "#pts { text-name: \"[a] + ' (' + [b] + ')'\"; text-face-name: 'DejaVu Sans Book'; }",
    "#pts { marker-fill: rgb(1, 2, 3); a/marker-fill: rgba(1, 2, 3, 1); b/marker-fill: rgba(1, 2, 3, 0); }",
    "#pts { marker-fill: hsl(400, .5, .5); a/marker-fill: hsl(-60, 50%, 50%); b/marker-fill: hsl(0, 0, 1); }",
    "#pts { a/marker-width: hue(#f80); b/marker-width: hue(#0f8) / 20; c/marker-opacity: alpha(#f80); }",
    "#pts { raster-opacity: .5; raster-scaling: bilinear; raster-colorizer-default-color: #123; }",
    "#pts { building-height: [h]; building-fill: #ccc; } ",
    "#pts { dot-width: 3; dot-fill: red; debug-mode: vertex; }",
    "#pts { point-file: url(marker.png); point-opacity: .5; }",
    "#pts { [zoom>=3] { [zoom<=10] { line-width: 1; [zoom=5] { line-width: 2; } } } }",
    "#pts { line-width: 1; [zoom>5][a=1] { line-width: 2; } [zoom>8][b=1] { line-width: 3; } }",
    "#pts { marker-width: 10; [zoom<5] { marker-width: 5; } [zoom<3] { marker-width: 3; } [zoom<1] { dot-width: 1; } }",
)  # fmt: skip
_IMAGE_FILTERS = (
    "emboss()", "blur()", "gray()", "sobel()", "edge-detect()", "x-gradient()", "y-gradient()", "invert()", "sharpen()",
    "agg-stack-blur(3, 4)", "scale-hsla(0,1,0,1,0,1,0,0.5)", "colorize-alpha(blue, cyan, #0f0)", "color-to-alpha(#fff)",
    "color-blind-protanope()", "color-blind-deuteranope()", "color-blind-tritanope()",
)  # fmt: skip


def _forms() -> Iterator[Sample]:
    head = "@two: 2; @word: 'well';\n"
    for operator in _OPERATORS:
        for kind, value in (("number", "5"), ("negative", "-1.5"), ("variable", "@two"), ("field", "[b]")):
            yield Sample(f"operator {operator} {kind}", f"{head}#pts[a{operator}{value}] {{ marker-width: 2; }}\n")
    for text in _FILTERS:
        yield Sample(f"filter {text}", f"{head}#pts{text} {{ marker-width: 2; }}\n#pts {{ marker-width: 1; }}\n")
    for text in _SELECTORS:
        yield Sample(f"selector {text}", f"{head}{text} {{ marker-width: 2; }}\n")
    for text in _NUMBERS:
        yield Sample(f"number {text}", f"{head}#pts {{ marker-width: {text}; }}\n")
    for text in _COLORS:
        body = "".join(f"  i{number}/marker-fill: {call.format(text)};\n" for number, call in enumerate(_CALLS))
        yield Sample(f"color {text}", f"#pts {{\n  marker-fill: {text};\n{body}}}\n")
    for text in _IMAGE_FILTERS:
        yield Sample(f"image filter {text}", f"#pts {{ marker-width: 2; image-filters: {text}; }}\n")
    for text in _NESTED:
        yield Sample(f"sheet {text}", f"{text}\n")


# --- whole styles


_TITLE = re.compile(r"^//// *(.+)$", re.MULTILINE)


def _files() -> Iterator[Sample]:
    """Yield the styles of the files; each starts with a line ``//// name``."""
    for path in sorted(FILES.glob("*.mss")):
        _, *parts = _TITLE.split(path.read_text(encoding="utf-8"))
        for title, css in zip(parts[::2], parts[1::2], strict=True):
            yield Sample(f"{path.stem}: {title}", css.lstrip("\n"))
