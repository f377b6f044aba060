"""Fill the ``@variables`` of a compiled style in, where Mapnik would look them up while it draws."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from flowmaps.cartocss.style import LayerStyle, Rule, Style, Symbolizer

Values = Mapping[str, str | bool | int | float]

_PARTS = re.compile(r"'(?:\\.|[^'\\])*'|\[[^\]]*\]|@([A-Za-z_][A-Za-z0-9_]*)")
"""What is no variable even where it looks like one, strings and fields; and variables."""
_NO_EXPRESSIONS = frozenset(("file", "face-name", "fontset-name"))


def bind_variables(style: LayerStyle, values: Values) -> LayerStyle:
    """Return *style* with these variables as literals of Mapnik's expressions; others stay for Mapnik to look up."""
    if not uses_variables(style, values):
        return style
    printed = {name: _literal(value) for name, value in values.items()}

    def bound(text: str) -> str:
        return _PARTS.sub(lambda match: printed.get(match[1], match[0]), text)

    def with_values(symbolizer: Symbolizer) -> Symbolizer:
        attributes = {
            name: text if name in _NO_EXPRESSIONS else bound(text) for name, text in symbolizer.attributes.items()
        }
        return replace(
            symbolizer, attributes=attributes, text=None if symbolizer.text is None else bound(symbolizer.text)
        )

    def of_rule(rule: Rule) -> Rule:
        return replace(rule, symbolizers=tuple(map(with_values, rule.symbolizers)))

    def of_style(item: Style) -> Style:
        return replace(item, rules=tuple(map(of_rule, item.rules)))

    return replace(style, styles=tuple(map(of_style, style.styles)))


def uses_variables(style: LayerStyle, names: Iterable[str]) -> bool:
    """Tell whether *style* has one of these variables in an expression."""
    wanted = frozenset(names)
    return any(match[1] in wanted for text in _expressions(style) for match in _PARTS.finditer(text))


def _expressions(style: LayerStyle) -> Iterator[str]:
    for item in style.styles:
        for rule in item.rules:
            for symbolizer in rule.symbolizers:
                yield from (text for name, text in symbolizer.attributes.items() if name not in _NO_EXPRESSIONS)
                if symbolizer.text is not None:
                    yield symbolizer.text


def _literal(value: str | bool | int | float) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            # After a minus another one would be no number.
            return str(value) if value >= 0 else f"({value})"
        case _:
            escaped = value.replace("\\", "\\\\").replace("'", "\\'")
            return f"'{escaped}'"
