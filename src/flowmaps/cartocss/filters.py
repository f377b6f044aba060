"""Conjunctions of filters in a canonical, minimal form.

Numbers compare as numbers and everything else as text; a number never equals a text. A range holds for numbers only.
As in Mapnik, true is 1 and false is 0.
Regular expressions, expressions and comparisons with a field are opaque: equal text adds nothing, else all are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from flowmaps.cartocss.expressions import Scalar, compile_expression, equal, ordered, unequal
from flowmaps.cartocss.tree import Comparison

ValueKind = Literal["number", "string", "keyword", "opaque"]
_RANGES = ("<", "<=", ">", ">=")
_LOWER = (">", ">=")


Identity = tuple[str, str, str, float | str]


@dataclass(frozen=True, slots=True, eq=False)
class Clause:
    """One filter: a field compared with a constant, or an opaque text; *text* is what Mapnik reads.

    Two clauses are the same where their identities are; a set never holds both.
    """

    key: str
    operator: Comparison
    kind: ValueKind
    value: float | str
    text: str
    identity: Identity

    @property
    def is_opaque(self) -> bool:
        return self.kind == "opaque"

    @property
    def is_null(self) -> bool:
        return self.kind == "keyword" and self.value == "null"

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
    return Clause(key, operator, kind, value, f"([{key}] {operator} {printed})", (key, operator, kind, value))


def opaque_clause(key: str, operator: Comparison, text: str) -> Clause:
    return Clause(key, operator, "opaque", text, text, (key, operator, "opaque", text))


class FilterSet:
    """A conjunction of clauses in the order they are written; never changed once made."""

    __slots__ = ("_fields", "_order", "equals", "key")

    def __init__(self, clauses: Iterable[Clause] = ()) -> None:
        """Hold *clauses* as they are; use `add` and `merge` for a minimal set."""
        self._order: dict[Identity, Clause] = {clause.identity: clause for clause in clauses}
        self._fields: dict[str, tuple[Clause, ...]] = {}
        self.equals: dict[str, Identity] = {}
        for clause in self._order.values():
            if not clause.is_opaque:
                self._fields[clause.key] = (*self._fields.get(clause.key, ()), clause)
                if clause.operator == "=":
                    self.equals[clause.key] = clause.identity
        self.key = frozenset(self._order)

    @classmethod
    def _made(
        cls, order: dict[Identity, Clause], fields: dict[str, tuple[Clause, ...]], equals: dict[str, Identity]
    ) -> FilterSet:
        made = cls()
        made._order, made._fields, made.equals, made.key = order, fields, equals, frozenset(order)
        return made

    @property
    def clauses(self) -> tuple[Clause, ...]:
        return tuple(self._order.values())

    @property
    def text(self) -> str:
        return " and ".join([clause.text for clause in self._order.values()])

    def clashes(self, other: FilterSet) -> bool:
        """Tell quickly whether both fix one field to different constants."""
        small, large = self.equals, other.equals
        if len(small) > len(large):
            small, large = large, small
        return any(name in large and large[name] != identity for name, identity in small.items())

    def add(self, clause: Clause) -> FilterSet | None:
        """Return this set with *clause*: itself where that adds nothing, None where nothing can satisfy both."""
        return self._extended((clause,))

    def merge(self, other: FilterSet) -> FilterSet | None:
        """Return the conjunction of both: this very object where *other* adds nothing, None where it is empty."""
        if other.key <= self.key:
            return self
        if not self._order:
            return other
        if self.clashes(other):
            return None
        return self._extended(other._order.values())

    def implies(self, other: FilterSet) -> bool:
        if other.key <= self.key:
            return True
        for name in other._fields:
            if name not in self._fields:
                return False
        return self.merge(other) is self

    def _extended(self, clauses: Iterable[Clause]) -> FilterSet | None:
        order, fields, equals = self._order, self._fields, self.equals
        for clause in clauses:
            if clause.identity in order:
                continue
            rivals: tuple[Clause, ...] = ()
            kept: tuple[Clause, ...] = ()
            if not clause.is_opaque:
                rivals = fields.get(clause.key, ())
                decided = _narrow(rivals, clause)
                if decided is None:
                    return None
                if decided == rivals:
                    continue
                kept = decided
            if order is self._order:
                order, fields, equals = dict(order), dict(fields), dict(equals)
            if clause.is_opaque:
                order[clause.identity] = clause
                continue
            _rewrite(order, rivals, kept, in_place=clause.operator == "!=")
            fields[clause.key] = kept
            if kept[0].operator == "=":
                equals[clause.key] = kept[0].identity
        return self if order is self._order else FilterSet._made(order, fields, equals)

    def holds(self, feature: Mapping[str, Scalar]) -> bool:
        """Evaluate the set for one feature as Mapnik does."""
        return all(_holds(clause, feature) for clause in self._order.values())


def _rewrite(
    order: dict[Identity, Clause], before: tuple[Clause, ...], after: tuple[Clause, ...], *, in_place: bool
) -> None:
    """Bring *order* from one field's old clauses to its new ones; a bound that becomes strict keeps its place."""
    gone = [clause for clause in before if clause not in after]
    new = [clause for clause in after if clause not in before]
    if in_place and gone:
        entries = [(new[0].identity, new[0]) if known is gone[0] else (name, known) for name, known in order.items()]
        order.clear()
        order.update(entries)
        return
    for clause in gone:
        del order[clause.identity]
    for clause in new:
        order[clause.identity] = clause


def _narrow(rivals: tuple[Clause, ...], clause: Clause) -> tuple[Clause, ...] | None:
    """Return the clauses of one field with *clause*: the same where it adds nothing, None where nothing is left."""
    if not rivals:
        return (clause,)
    if rivals[0].operator == "=":
        return rivals if clause.admits(rivals[0]) else None
    if clause.operator == "=":
        return (clause,) if all(known.admits(clause) for known in rivals) else None
    if clause.operator == "!=":
        return _without(rivals, clause)
    return _bounded(rivals, clause)


def _without(rivals: tuple[Clause, ...], clause: Clause) -> tuple[Clause, ...] | None:
    for known in rivals:
        if known.operator not in _RANGES:
            continue
        if not known.admits(clause):
            return rivals
        if known.value == clause.value:
            strict = _strict(known)
            return _unless_empty(tuple(strict if other is known else other for other in rivals))
    return (*rivals, clause)


def _bounded(rivals: tuple[Clause, ...], clause: Clause) -> tuple[Clause, ...] | None:
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
                return rivals
            gone.append(known)
    return _unless_empty((*(known for known in rivals if known not in gone), clause))


def _strict(clause: Clause) -> Clause:
    """Return ``>`` for ``>=`` and ``<`` for ``<=``."""
    operator: Comparison = ">" if clause.operator in _LOWER else "<"
    if clause.operator == operator:
        return clause
    head = f"([{clause.key}] "
    text = f"{head}{operator} {clause.text[len(head) + len(clause.operator) + 1 :]}"
    return Clause(
        clause.key, operator, clause.kind, clause.value, text, (clause.key, operator, clause.kind, clause.value)
    )


def _implies(known: Clause, clause: Clause) -> bool:
    """Tell whether *known*, a bound on the same side, is at least as tight as *clause*."""
    one, other = float(known.value), float(clause.value)
    if one == other:
        return known.operator in ("<", ">") or clause.operator in ("<=", ">=")
    return one > other if clause.operator in _LOWER else one < other


def _unless_empty(clauses: tuple[Clause, ...]) -> tuple[Clause, ...] | None:
    """Return the clauses of one field, or None where their bounds leave no number."""
    low = high = None
    for clause in clauses:
        if clause.operator in _LOWER:
            low = clause
        elif clause.operator in _RANGES:
            high = clause
    if low is None or high is None:
        return clauses
    if low.value == high.value:
        return None if low.operator == ">" or high.operator == "<" else clauses
    return None if float(low.value) > float(high.value) else clauses


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
