"""Where the compiler differs from npm carto on purpose: what the comparison over the corpus may find, and why.

The test of the comparison and the language page both read this list.
"""

from __future__ import annotations

from dataclasses import dataclass

BOTH = ("0.16.3", "1.2.0")


@dataclass(frozen=True)
class Deviation:
    """Samples of the corpus whose name matches *pattern* compile to something else in these versions of carto."""

    pattern: str
    versions: tuple[str, ...]
    reason: str


DEVIATIONS = [
    Deviation(
        r"switch .*|sheet #pts \{ (line: none|marker: auto|text: none).*", ("0.16.3",), "0.16.3 knows no switches"
    ),
    Deviation(
        r"newer property (?!.*-extend$|.*-smooth-algorithm$|.*-lang$|marker-spacing-offset|raster-premultiplied"
        r"|polygon-pattern-gamma-method).*",
        ("0.16.3",),
        "the property is not in the reference 3.0.6",
    ),
    Deviation(
        r"newer property (.*-extend|.*-smooth-algorithm|.*-lang|marker-spacing-offset|raster-premultiplied"
        r"|polygon-pattern-gamma-method)",
        BOTH,
        "the property is new in Mapnik 4 and in no reference",
    ),
    Deviation(r"newer keywords of .*-simplify-algorithm", ("0.16.3",), "the keyword is not in the reference 3.0.6"),
    Deviation(r"newer keywords of .*-placement", BOTH, "the keyword is new in Mapnik 4 and in no reference"),
    Deviation(r"newer keywords of debug-mode", ("1.2.0",), "the keyword is new in Mapnik 4; 0.16.3 takes any word"),
    Deviation(
        r"property (text|shield)-placements", BOTH, "the type simple is added, without which Mapnik ignores them"
    ),
    Deviation(
        r"filter \[(a=2\*3|a=@two\*3|\[a\] % 2 = 0|\[a\] \+ \[b\] > 3)\]",
        ("0.16.3",),
        "0.16.3 computes nothing in filters",
    ),
    Deviation(r"filter \[\(\[a\] \+ 1\) > 3\]", BOTH, "parentheses around fields are kept"),
    Deviation(r"number 0\.05in", BOTH, "inches are converted"),
    Deviation(r"color (#f80|#3366cc)|polygons: land use", ("0.16.3",), "0.16.3 rounds computed colours in another way"),
    Deviation(r"polygons: missing values apart", ("0.16.3",), "0.16.3 takes null to be above any number"),
    Deviation(r"labels: labels along lines", ("1.2.0",), "1.2.0 loses auto of text-upright"),
    Deviation(r"deviations: variable defined twice", ("1.2.0",), "the first definition counts, as in 0.16.3"),
    Deviation(r"deviations: special characters in a filter", ("1.2.0",), "1.2.0 escapes filters twice"),
    Deviation(r"deviations: percentage on a ratio", BOTH, "a percentage is a ratio"),
    Deviation(r"deviations: inches", BOTH, "inches are converted"),
    Deviation(r"deviations: parentheses around fields", BOTH, "parentheses around fields are kept"),
    Deviation(r"deviations: negated variable", BOTH, "a minus before a variable negates"),
    Deviation(r"deviations: unequal and range of one field", BOTH, "carto changes a filter that two rulesets share"),
    Deviation(r"deviations: regular expression beside an equality", BOTH, "carto drops regular expressions"),
    Deviation(r"deviations: looser bound after a tighter one", BOTH, "the tighter bound counts"),
    Deviation(r"deviations: text beside a number", BOTH, "a number never equals a text"),
    Deviation(r"deviations: all zooms but one", BOTH, "carto reads != as all zooms"),
    Deviation(r"deviations: any layer", BOTH, "carto never matches *"),
    Deviation(r"deviations: transforms between blanks", BOTH, "carto refuses them or crashes"),
    Deviation(r"deviations: image filters twice", BOTH, "identical image filters count once"),
    Deviation(r"deviations: comment inside a value", BOTH, "comments may stand wherever a blank may"),
    Deviation(r"deviations: colour with alpha digits", BOTH, "four and eight digits are colours with alpha"),
    Deviation(r"deviations: perceptual colour", ("0.16.3",), "0.16.3 calls it husl"),
    Deviation(r"deviations: perceptual colour by its old name", ("1.2.0",), "1.2.0 calls it hsluv"),
    Deviation(r"deviations: rgb of percentages", BOTH, "percentages of rgb() are shares of 255"),
    Deviation(r"deviations: style level under a filter", BOTH, "style level properties make no rules"),
    Deviation(r"deviations: automatic direction", ("1.2.0",), "1.2.0 loses auto and none of enumerations"),
    Deviation(r"deviations: text that is no expression", BOTH, "Mapnik 4 refuses it unless it is quoted"),
    Deviation(r"deviations: fast raster scaling", BOTH, "Mapnik 4 has no fast scaling"),
    Deviation(r"deviations: placements without their type", BOTH, "Mapnik ignores them without the type"),
    Deviation(r"deviations: dense markers", BOTH, "markers closer than a pixel are too slow"),
    Deviation(r"deviations: halo of shields", BOTH, "Mapnik 4 does not read them"),
    Deviation(r"deviations: expression in a filter", ("0.16.3",), "0.16.3 computes nothing in filters"),
    Deviation(r"deviations: symbolizer switches", ("0.16.3",), "0.16.3 knows no switches"),
    Deviation(r"deviations: unsigned from a (string|field)", BOTH, "Mapnik takes expressions there"),
    Deviation(r"deviations: dashes from a field", BOTH, "Mapnik takes expressions there"),
    Deviation(r"deviations: greyscale", ("0.16.3",), "0.16.3 rounds computed colours in another way"),
    Deviation(r"deviations: empty block", BOTH, "a block without declarations makes no rule"),
]
