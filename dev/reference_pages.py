"""Write the generated parts of the documentation anew: ``make docs``.

A page is generated whole, by its function in `WHOLE`, or written by hand but for its blocks between
``<!-- generated: NAME -->`` and ``<!-- end -->``, each by its function in `BLOCKS`. A new one needs one entry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from cartocss_deviations import DEVIATIONS
from flowmaps.cartocss import Limits, Property, load_reference
from flowmaps.cartocss.functions import FUNCTIONS
from flowmaps.cartocss.reference import STYLE_LEVEL, TRANSFORMS
from reference_settings import settings_page

DOCS = Path(__file__).resolve().parents[1] / "docs"
Block = Callable[[], str]

_BLOCK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_TITLES = {
    "markers": "Markers (`marker-…`)",
    "line": "Lines (`line-…`)",
    "polygon": "Polygons (`polygon-…`)",
    "text": "Texts (`text-…`)",
    "shield": "Shields: a picture with a text (`shield-…`)",
    "point": "Points: a picture (`point-…`)",
    "dot": "Dots (`dot-…`)",
    "line-pattern": "Lines of pictures (`line-pattern-…`)",
    "polygon-pattern": "Polygons filled with pictures (`polygon-pattern-…`)",
    "building": "Buildings (`building-…`)",
    "raster": "Rasters (`raster-…`)",
    "debug": "Debugging",
    STYLE_LEVEL: "The whole attachment",
    "map": "The whole map (`Map { … }`)",
}
_MANY_WORDS = 12
_LIMIT_UNITS = {
    "source_bytes": "bytes of one stylesheet",
    "block_depth": "blocks inside each other",
    "expression_depth": "parentheses and calls inside each other",
    "expression_operators": "operators of one value",
    "value_items": "values in one list, after variables",
    "selectors_per_ruleset": "selectors between commas",
    "definitions": "combinations of selectors after nesting",
    "declarations": "declarations in all combinations",
    "elements_per_attachment": "combinations of filters in one attachment",
    "elements_per_layer": "combinations of filters in one layer",
    "rules_per_map": "rules of a whole map",
    "merge_steps": "steps of combining filters",
    "seconds": "seconds for one layer",
    "xml_bytes": "bytes of the whole map's XML",
    "string_chars": "characters of one string",
    "regex_chars": "characters of one regular expression",
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return (
        "\n".join([*lines, *(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows)]) + "\n"
    )


def properties() -> str:
    """Return a table of the properties of each symbolizer, from the reference data."""
    reference = load_reference()
    parts = []
    for symbolizer, title in _TITLES.items():
        known = sorted(
            (entry for entry in reference.properties.values() if entry.symbolizer == symbolizer),
            key=lambda entry: (not entry.is_switch, entry.css),
        )
        rows = [(f"`{entry.css}`", _accepts(entry), _default(entry), ", ".join(_notes(entry))) for entry in known]
        parts.append(f"### {title}\n\n" + table(("property", "takes", "without it", "notes"), rows))
    if missing := {entry.symbolizer for entry in reference.properties.values()} - set(_TITLES):
        raise ValueError(f"no title for {', '.join(sorted(missing))}")
    return "\n".join(parts)


def _accepts(known: Property) -> str:
    if isinstance(known.type, tuple):
        if len(known.type) > _MANY_WORDS:
            return "a [composition mode](#composition-modes)" if "multiply" in known.type else "a scaling method"
        return " ".join(f"`{word}`" for word in known.type)
    if known.font:
        return "a font, or several between commas"
    if known.css == "line-dash-offset":
        return "number"
    words = {
        "float": "number",
        "unsigned": "whole number, 0 or more",
        "boolean": "`true` `false`",
        "color": "colour",
        "numbers": "numbers between commas",
        "uri": "file",
        "tags": "`stop()` calls",
        "string": "text",
        "functions": "image filters" if known.is_image_filter else "transforms",
    }
    return words[known.type]


def _default(known: Property) -> str:
    if known.default in (None, "") or known.is_switch:
        return ""
    default = str(known.default).lower() if isinstance(known.default, bool) else str(known.default)
    return f"`{default}`"


def _notes(known: Property) -> list[str]:
    notes = []
    if known.required:
        notes.append("required")
    if known.expression:
        notes.append("field or expression")
    if known.is_switch:
        notes.append("leaves the symbolizer out, or makes sure of it")
    if known.ignored:
        notes.append("no effect in Mapnik 4; a warning says so")
    if known.inert:
        notes.append("read by Mapnik, but changes nothing")
    if known.status != "stable":
        notes.append(known.status)
    if known.css not in load_reference("3.0.6").properties:
        notes.append("newer than Mapnik 3.0.6")
    return notes


def composition_modes() -> str:
    known = load_reference().properties["comp-op"]
    return " ".join(f"`{word}`" for word in known.type) + "\n"


def functions() -> str:
    """Return the functions by kind, with the numbers of their arguments."""
    computed = " ".join(f"`{name}({count})`" for name, (count, _) in sorted(FUNCTIONS.items()))
    transforms = " ".join(f"`{name}({' or '.join(map(str, counts))})`" for name, counts in TRANSFORMS.items())
    filters = " ".join(
        f"`{name}({'any' if count < 0 else count})`" for name, count in sorted(load_reference().image_filters.items())
    )
    rows = [("colours", computed), ("transforms", transforms), ("image filters", filters), ("raster", "`stop(1 to 3)`")]
    return table(("kind", "name and number of arguments"), rows)


def limits() -> str:
    rows = [
        (f"`{field.name}`", f"{getattr(Limits(), field.name):,}", _LIMIT_UNITS[field.name]) for field in fields(Limits)
    ]
    return table(("limit", "value", "counts"), rows)


def deviations() -> str:
    """Return every deviation from npm carto that the comparison over the corpus knows."""
    by_reason: dict[str, set[str]] = {}
    for deviation in DEVIATIONS:
        by_reason.setdefault(deviation.reason, set()).update(deviation.versions)
    rows = [(reason, *("differs" if name in found else "the same" for name in ("0.16.3", "1.2.0")))
            for reason, found in by_reason.items()]  # fmt: skip
    return table(("deviation", "carto 0.16.3", "carto 1.2.0"), rows)


WHOLE: Mapping[str, Block] = {"configuration.md": settings_page}
BLOCKS: Mapping[str, Mapping[str, Block]] = {
    "cartocss.md": {
        "properties": properties,
        "composition-modes": composition_modes,
        "functions": functions,
        "limits": limits,
        "deviations": deviations,
    },
}


PAGES = (*WHOLE, *BLOCKS)


def rendered(page: str) -> str:
    """Return the text of a page with what is generated in it anew; raise `ValueError` where a block is missing."""
    if page in WHOLE:
        return WHOLE[page]()
    blocks = BLOCKS[page]
    text = (DOCS / page).read_text(encoding="utf-8")
    if (found := {match[2] for match in _BLOCK.finditer(text)}) != set(blocks):
        raise ValueError(f"{page} has the blocks {sorted(found)}, not {sorted(blocks)}")
    return _BLOCK.sub(lambda match: f"{match[1]}\n{blocks[match[2]]()}\n{match[3]}", text)


def main() -> None:
    for page in PAGES:
        text = rendered(page)
        path = DOCS / page
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"{path} is written anew")


if __name__ == "__main__":
    main()
