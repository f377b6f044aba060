"""Conjunctions of filters in a canonical, minimal form.

Numbers compare as numbers and everything else as text; a number never equals a text. A range holds for numbers only.
As in Mapnik, true is 1 and false is 0.
Regular expressions, expressions and comparisons with a field are opaque: equal text adds nothing, else all are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from flowmaps.cartocss.expressions import Scalar, compile_expression, equal, ordered, unequal
from flowmaps.cartocss.tree import Comparison

ValueKind = Literal["number", "string", "keyword", "opaque"]
_RANGES = ("<", "<=", ">", ">=")
_LOWER = (">", ">=")


@dataclass(frozen=True, slots=True)
class Clause:
    """One filter: a field compared with a constant, or an opaque text; *text* is what Mapnik reads."""

    key: str
    operator: Comparison
    kind: ValueKind
    value: float | str
    text: str

    @property
    def is_opaque(self) -> bool:
        return self.kind == "opaque"

    @property
    def is_null(self) -> bool:
        return self.kind == "keyword" and self.value == "null"

    @property
    def identity(self) -> tuple[str, str, str, float | str]:
        return (self.key, self.operator, self.kind, self.text if self.is_opaque else self.value)

    def admits(self, other: Clause) -> bool:
        """Tell whether the constant of *other*, which is an ``=``, satisfies this clause."""
        same = self.kind == other.kind and self.value == other.value
        if self.operator == "=":
            return same
        if self.operator == "!=":
            # In Mapnik null is neither equal nor unequal to the empty text.
            return not same and not (self.kind == "string" and not self.value and other.is_null)
        if isinstance(self.value, str) or isinstance(other.value, str):
            return False
        return ordered(self.operator, other.value, self.value)


def field_clause(key: str, operator: Comparison, kind: ValueKind, value: float | str, printed: str) -> Clause:
    """Return the clause ``([key] operator printed)``."""
    return Clause(key, operator, kind, value, f"([{key}] {operator} {printed})")


def opaque_clause(key: str, operator: Comparison, text: str) -> Clause:
    return Clause(key, operator, "opaque", text, text)


@dataclass(frozen=True, slots=True)
class FilterSet:
    """A conjunction of clauses in the order they are written."""

    clauses: tuple[Clause, ...] = ()
    key: frozenset[tuple[str, str, str, float | str]] = field(default=frozenset(), compare=False)
    equals: Mapping[str, tuple[str, float | str]] = field(default_factory=dict, compare=False)

    @property
    def text(self) -> str:
        return " and ".join(clause.text for clause in self.clauses)

    def clashes(self, other: FilterSet) -> bool:
        """Tell quickly whether both fix one field to different constants."""
        small, large = (
            (self.equals, other.equals) if len(self.equals) < len(other.equals) else (other.equals, self.equals)
        )
        return any(name in large and large[name] != value for name, value in small.items())

    def add(self, clause: Clause) -> FilterSet | None:
        """Return this set with *clause*: itself where that adds nothing, None where nothing can satisfy both."""
        if clause.identity in self.key:
            return self
        if clause.is_opaque:
            return _build((*self.clauses, clause))
        rivals = [known for known in self.clauses if known.key == clause.key and not known.is_opaque]
        if not rivals:
            return _build((*self.clauses, clause))
        for known in rivals:
            if known.operator == "=":
                return self if clause.admits(known) else None
        if clause.operator == "=":
            if not all(known.admits(clause) for known in rivals):
                return None
            return self._replace(rivals, clause)
        if clause.operator == "!=":
            return self._add_unequal(clause, rivals)
        return self._add_range(clause, rivals)

    def _replace(self, gone: Iterable[Clause], clause: Clause) -> FilterSet:
        dropped = set(gone)
        return _build((*(known for known in self.clauses if known not in dropped), clause))

    def _add_unequal(self, clause: Clause, rivals: list[Clause]) -> FilterSet | None:
        for known in rivals:
            if known.operator not in _RANGES:
                continue
            if not known.admits(clause):
                return self
            if known.value == clause.value:
                strict = _strict(known)
                tighter = _build(tuple(strict if other is known else other for other in self.clauses))
                return None if _is_empty_range(tighter, clause.key) else tighter
        return _build((*self.clauses, clause))

    def _add_range(self, clause: Clause, rivals: list[Clause]) -> FilterSet | None:
        side = _LOWER if clause.operator in _LOWER else ("<", "<=")
        gone: list[Clause] = []
        for known in rivals:
            if known.operator == "!=":
                if not clause.admits(known):
                    gone.append(known)
                elif known.value == clause.value:
                    gone.append(known)
                    clause = _strict(clause)
            elif known.operator in side:
                if _implies(known, clause):
                    return self
                gone.append(known)
        result = self._replace(gone, clause)
        return None if _is_empty_range(result, clause.key) else result

    def merge(self, other: FilterSet) -> FilterSet | None:
        """Return the conjunction of both: this very object where *other* adds nothing, None where it is empty."""
        if self.clashes(other):
            return None
        result = self
        for clause in other.clauses:
            added = result.add(clause)
            if added is None:
                return None
            result = added
        return result

    def implies(self, other: FilterSet) -> bool:
        return self.merge(other) is self

    def holds(self, feature: Mapping[str, Scalar]) -> bool:
        """Evaluate the set for one feature as Mapnik does."""
        return all(_holds(clause, feature) for clause in self.clauses)


def _build(clauses: tuple[Clause, ...]) -> FilterSet:
    return FilterSet(
        clauses,
        frozenset(clause.identity for clause in clauses),
        {
            clause.key: (clause.kind, clause.value)
            for clause in clauses
            if clause.operator == "=" and not clause.is_opaque
        },
    )


def _strict(clause: Clause) -> Clause:
    """Return ``>`` for ``>=`` and ``<`` for ``<=``."""
    operator: Comparison = ">" if clause.operator in _LOWER else "<"
    if clause.operator == operator:
        return clause
    head = f"([{clause.key}] "
    text = f"{head}{operator} {clause.text[len(head) + len(clause.operator) + 1 :]}"
    return Clause(clause.key, operator, clause.kind, clause.value, text)


def _implies(known: Clause, clause: Clause) -> bool:
    """Tell whether *known*, a bound on the same side, is at least as tight as *clause*."""
    one, other = float(known.value), float(clause.value)
    if one == other:
        return known.operator in ("<", ">") or clause.operator in ("<=", ">=")
    return one > other if clause.operator in _LOWER else one < other


def _is_empty_range(filters: FilterSet, key: str) -> bool:
    low = high = None
    for clause in filters.clauses:
        if clause.key == key and clause.operator in _RANGES and not clause.is_opaque:
            if clause.operator in _LOWER:
                low = clause
            else:
                high = clause
    if low is None or high is None:
        return False
    if low.value == high.value:
        return low.operator == ">" or high.operator == "<"
    return float(low.value) > float(high.value)


def _holds(clause: Clause, feature: Mapping[str, Scalar]) -> bool:
    if clause.is_opaque:
        return bool(compile_expression(clause.text)(feature))
    value = feature.get(clause.key)
    constant = _constant(clause)
    if clause.operator == "=":
        return equal(value, constant)
    if clause.operator == "!=":
        return unequal(value, constant)
    return ordered(clause.operator, value, constant)


def _constant(clause: Clause) -> Scalar:
    if clause.kind == "keyword":
        return compile_expression(str(clause.value))({})
    return clause.value
