"""The syntax tree of a stylesheet; each node knows the offset where it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Operator = Literal["+", "-", "*", "/", "%"]
Comparison = Literal["=", "!=", "<", "<=", ">", ">=", "=~"]


@dataclass(frozen=True, slots=True)
class NumberNode:
    value: float
    unit: str
    offset: int


@dataclass(frozen=True, slots=True)
class StringNode:
    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class KeywordNode:
    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class ColorNode:
    """A colour by its channels 0 to 255 and its alpha 0 to 1."""

    channels: tuple[float, float, float]
    alpha: float
    offset: int


@dataclass(frozen=True, slots=True)
class FieldNode:
    name: str
    offset: int


@dataclass(frozen=True, slots=True)
class VariableNode:
    name: str
    offset: int


@dataclass(frozen=True, slots=True)
class UrlNode:
    """``url(…)``; the text, or the variable that holds it."""

    text: str
    variable: str | None
    offset: int


@dataclass(frozen=True, slots=True)
class CallNode:
    name: str
    arguments: tuple[Node, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class OperationNode:
    operator: Operator
    left: Node
    right: Node
    offset: int


@dataclass(frozen=True, slots=True)
class NegationNode:
    operand: Node
    offset: int


@dataclass(frozen=True, slots=True)
class GroupNode:
    """An expression in parentheses."""

    inner: Node
    offset: int


@dataclass(frozen=True, slots=True)
class ListNode:
    """Items side by side; *separator* is a blank or a comma."""

    items: tuple[Node, ...]
    separator: Literal[" ", ","]
    offset: int


Node = (
    NumberNode
    | StringNode
    | KeywordNode
    | ColorNode
    | FieldNode
    | VariableNode
    | UrlNode
    | CallNode
    | OperationNode
    | NegationNode
    | GroupNode
    | ListNode
)


@dataclass(frozen=True, slots=True)
class FilterNode:
    """``[key op value]``; *key* is a field's name, or an expression that holds fields."""

    key: str | Node
    operator: Comparison
    value: Node
    offset: int


@dataclass(frozen=True, slots=True)
class ZoomNode:
    operator: Comparison
    value: Node
    offset: int


@dataclass(frozen=True, slots=True)
class Selector:
    """One selector: elements, zoom filters, filters, and an attachment or the empty text."""

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    is_map: bool
    zooms: tuple[ZoomNode, ...]
    filters: tuple[FilterNode, ...]
    attachment: str
    offset: int


@dataclass(frozen=True, slots=True)
class Declaration:
    """``instance/property: value``; a variable's property starts with ``@``."""

    instance: str
    property: str
    value: Node
    offset: int


@dataclass(slots=True)
class Ruleset:
    """Selectors with a block; *end* is the offset of its closing brace."""

    selectors: tuple[Selector, ...]
    offset: int
    declarations: list[Declaration] = field(default_factory=list)
    rulesets: list[Ruleset] = field(default_factory=list)
    end: int = 0


@dataclass(slots=True)
class Stylesheet:
    """A whole text: variables in order, and rulesets; *broken* are variables whose definition does not parse."""

    variables: list[Declaration] = field(default_factory=list)
    rulesets: list[Ruleset] = field(default_factory=list)
    properties: list[Declaration] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
