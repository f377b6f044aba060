"""Look at a stylesheet without compiling it: its tree, and the columns that it names."""

from __future__ import annotations

from collections.abc import Iterator

from flowmaps.cartocss.expressions import fields
from flowmaps.cartocss.parser import parse as parse_report
from flowmaps.cartocss.source import Limits, Report, check_source, normalise
from flowmaps.cartocss.tree import (
    CallNode,
    Declaration,
    FieldNode,
    FilterNode,
    GroupNode,
    ListNode,
    NegationNode,
    Node,
    OperationNode,
    Ruleset,
    StringNode,
    Stylesheet,
    UrlNode,
)


def parse(css: str, *, stylesheet: str = "style0", limits: Limits | None = None) -> Stylesheet:
    """Return the tree of a stylesheet; raise `CartoError` with every syntax error.

    Positions are offsets into the text with bare line feeds.
    """
    limits = limits or Limits()
    check_source(css, stylesheet, limits)
    report = Report(normalise(css), stylesheet, limits)
    sheet = parse_report(report)
    report.stop()
    return sheet


def columns(css: str, *, deep: bool = False) -> list[str]:
    """Return the fields that a stylesheet names, those of filters first, each once; raise `CartoError`.

    *deep* looks into strings and addresses too, which Mapnik reads as expressions; without it only fields that are
    written as such count.
    """
    sheet = parse(css)
    found: dict[str, None] = {}
    for ruleset in sheet.rulesets:
        found |= dict.fromkeys(_of_filters(ruleset, deep=deep))
    values = [declaration.value for declaration in (*sheet.variables, *_declarations(sheet))]
    for value in values:
        found |= dict.fromkeys(_of_value(value, deep=deep))
    return [name for name in found if not name.startswith("mapnik::")]


def _of_filters(ruleset: Ruleset, *, deep: bool) -> Iterator[str]:
    for selector in ruleset.selectors:
        for node in selector.filters:
            yield from _of_filter(node, deep=deep)
    for inner in ruleset.rulesets:
        yield from _of_filters(inner, deep=deep)


def _of_filter(node: FilterNode, *, deep: bool) -> Iterator[str]:
    if isinstance(node.key, str):
        yield node.key
    else:
        yield from _of_value(node.key, deep=deep)
    if not isinstance(node.value, StringNode):
        yield from _of_value(node.value, deep=deep)


def _declarations(sheet: Stylesheet) -> Iterator[Declaration]:
    for ruleset in sheet.rulesets:
        yield from _of_ruleset(ruleset)


def _of_ruleset(ruleset: Ruleset) -> Iterator[Declaration]:
    yield from ruleset.declarations
    for inner in ruleset.rulesets:
        yield from _of_ruleset(inner)


def _of_value(node: Node, *, deep: bool) -> Iterator[str]:
    match node:
        case FieldNode(name, _):
            yield name
        case StringNode(text, _) | UrlNode(text, _, _) if deep:
            yield from fields(text)
        case OperationNode(_, left, right, _):
            yield from _of_value(left, deep=deep)
            yield from _of_value(right, deep=deep)
        case NegationNode(inner, _) | GroupNode(inner, _):
            yield from _of_value(inner, deep=deep)
        case CallNode(_, parts, _) | ListNode(parts, _, _):
            for part in parts:
                yield from _of_value(part, deep=deep)
        case _:
            return
