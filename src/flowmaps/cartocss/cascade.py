"""Flatten a tree into definitions, order them, and say which declarations win.

`winners` states the meaning of a stylesheet directly, for one feature and one zoom. `refine` and `split_zooms` turn the
same meaning into rules of which the first that holds is drawn.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flowmaps.cartocss.expressions import Scalar
from flowmaps.cartocss.filters import FilterSet, Identity
from flowmaps.cartocss.reference import STYLE_LEVEL, Property
from flowmaps.cartocss.source import Limits, Report
from flowmaps.cartocss.tree import Declaration, FilterNode, Ruleset, Selector, Stylesheet, ZoomNode

ZOOMS = 26
ALL_ZOOMS = (1 << ZOOMS) - 1
FOLD_LIMIT = 300

ReadFilter = Callable[[FilterSet, FilterNode], FilterSet | None]
ReadZoom = Callable[[ZoomNode], int]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A declaration with the property it sets."""

    declaration: Declaration
    known: Property
    target: tuple[str, str]
    group: tuple[str, str]
    offset: int

    @classmethod
    def of(cls, declaration: Declaration, known: Property) -> Assignment:
        instance = declaration.instance
        return cls(declaration, known, (instance, known.css), (instance, known.symbolizer), declaration.offset)


@dataclass(frozen=True, slots=True)
class Definition:
    """A ruleset with one combination of selectors: what must hold, and what it then declares."""

    filters: FilterSet
    zooms: int
    attachment: str
    specificity: tuple[int, int, int, int]
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    is_map: bool
    declarations: tuple[Declaration, ...]
    offset: int

    def matches(self, layer_id: str, classes: Iterable[str]) -> bool:
        known = set(classes)
        return not self.is_map and all(name == layer_id for name in self.ids) and known.issuperset(self.classes)


@dataclass(frozen=True, slots=True)
class _Context:
    """What the enclosing rulesets ask for."""

    filters: FilterSet = field(default_factory=FilterSet)
    zooms: int = ALL_ZOOMS
    attachment: str = ""
    ids: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    filter_count: int = 0
    is_map: bool = False


def flatten(sheet: Stylesheet, report: Report, read_filter: ReadFilter, read_zoom: ReadZoom) -> list[Definition]:
    """Return every pair of a ruleset and a combination of selectors that has declarations, in source order."""
    flattening = _Flattening(report, read_filter, read_zoom)
    for ruleset in sheet.rulesets:
        flattening.flatten(ruleset, [_Context()])
    return flattening.definitions


@dataclass(slots=True)
class _Flattening:
    """The definitions found so far, and what they count towards the limits."""

    report: Report
    read_filter: ReadFilter
    read_zoom: ReadZoom
    definitions: list[Definition] = field(default_factory=list)
    combinations: int = 0
    declarations: int = 0

    def flatten(self, ruleset: Ruleset, parents: Sequence[_Context]) -> None:
        self.report.check_clock()
        own = [(selector, read) for selector in ruleset.selectors if (read := self._read(selector)) is not None]
        contexts: list[_Context] = []
        for selector, (filters, zooms) in own:
            for parent in parents:
                context = _combine(parent, selector, filters, zooms)
                if context is not None:
                    contexts.append(context)
                    self._count(ruleset)
        if ruleset.declarations and contexts:
            self._define(ruleset, contexts)
        for inner in ruleset.rulesets:
            self.flatten(inner, contexts)

    def _count(self, ruleset: Ruleset) -> None:
        self.combinations += 1
        limit = self.report.limits.definitions
        if self.combinations > limit:
            raise self.report.refuse(f"More than {limit} combinations of selectors (definitions)", ruleset.offset)

    def _define(self, ruleset: Ruleset, contexts: Sequence[_Context]) -> None:
        limit = self.report.limits.declarations
        self.declarations += len(ruleset.declarations) * len(contexts)
        if self.declarations > limit:
            text = f"More than {limit} declarations in all combinations of selectors (declarations)"
            raise self.report.refuse(text, ruleset.offset)
        position = ruleset.declarations[0].offset
        declarations = tuple(ruleset.declarations)
        self.definitions += [
            Definition(
                filters=context.filters,
                zooms=context.zooms,
                attachment=context.attachment,
                specificity=(len(context.ids), len(context.classes), context.filter_count, position),
                ids=context.ids,
                classes=context.classes,
                is_map=context.is_map,
                declarations=declarations,
                offset=ruleset.offset,
            )
            for context in contexts
        ]

    def _read(self, selector: Selector) -> tuple[FilterSet, int] | None:
        """Return a selector's own filters and zooms, or None where an error was noted."""
        filters = FilterSet()
        for node in selector.filters:
            added = self.read_filter(filters, node)
            if added is None:
                return None
            filters = added
        zooms = ALL_ZOOMS
        for zoom in selector.zooms:
            zooms &= self.read_zoom(zoom)
        return filters, zooms


def _combine(parent: _Context, selector: Selector, filters: FilterSet, zooms: int) -> _Context | None:
    merged = parent.filters.merge(filters)
    zooms &= parent.zooms
    if merged is None or not zooms:
        return None
    return _Context(
        filters=merged,
        zooms=zooms,
        attachment="/".join(filter(None, (parent.attachment, selector.attachment))),
        ids=parent.ids + selector.ids,
        classes=parent.classes + selector.classes,
        filter_count=parent.filter_count + len(selector.filters) + len(selector.zooms),
        is_map=parent.is_map or selector.is_map,
    )


def in_order(definitions: Iterable[Definition]) -> list[Definition]:
    """Return *definitions* with the most specific first; the later of two equal ones comes first."""
    return sorted(definitions, key=lambda definition: definition.specificity, reverse=True)


@dataclass(frozen=True, slots=True)
class Styled:
    """A definition with its declarations resolved to properties; the unit that refinement works on."""

    filters: FilterSet
    zooms: int
    assignments: tuple[Assignment, ...]


def winners(definitions: Iterable[Styled], feature: Mapping[str, Scalar], zoom: int) -> list[Assignment]:
    """Return the assignments that win for one feature and zoom; *definitions* come most specific first."""
    chosen: dict[tuple[str, str], Assignment] = {}
    for definition in definitions:
        if not (definition.zooms >> zoom & 1 and definition.filters.holds(feature)):
            continue
        first = not chosen
        for assignment in definition.assignments:
            if assignment.known.is_switch and not first:
                continue
            chosen.setdefault(assignment.target, assignment)
    return list(chosen.values())


@dataclass(slots=True, eq=False)
class Element:
    """A filter set with the assignments chosen for it so far, each with the zooms where it wins.

    *place* orders the elements of an attachment.
    """

    filters: FilterSet
    chosen: list[tuple[Assignment, int]] = field(default_factory=list)
    covered: dict[tuple[str, str], int] = field(default_factory=dict)
    any_covered: int = 0
    place: int = 0

    def lacks(self, definition: Styled) -> bool:
        """Tell whether *definition* would add anything."""
        covered, zooms = self.covered, definition.zooms
        for assignment in definition.assignments:
            if zooms & ~covered.get(assignment.target, 0) and not (
                assignment.known.is_switch and not zooms & ~self.any_covered
            ):
                return True
        return False

    def absorb(self, definition: Styled) -> None:
        before = self.any_covered
        for assignment in definition.assignments:
            zooms = definition.zooms & ~(before if assignment.known.is_switch else 0)
            known = self.covered.get(assignment.target, 0)
            zooms &= ~known
            if zooms:
                self.chosen.append((assignment, zooms))
                self.covered[assignment.target] = known | zooms
                self.any_covered |= zooms

    def copy(self, filters: FilterSet) -> Element:
        return Element(filters, self.chosen.copy(), self.covered.copy(), self.any_covered)


@dataclass(slots=True)
class Budget:
    """What one layer may still use."""

    report: Report
    elements: int = 0
    steps: int = 0

    @property
    def limits(self) -> Limits:
        return self.report.limits

    def step(self, count: int) -> None:
        self.steps += count
        if self.steps > self.limits.merge_steps:
            raise self.report.refuse(f"Combining rules takes more than {self.limits.merge_steps} steps (merge_steps)")
        self.report.check_clock()

    def check(self, elements: int, offset: int) -> None:
        for name, count in (
            ("elements_per_attachment", elements),
            ("elements_per_layer", self.elements + elements),
        ):
            limit: int = getattr(self.limits, name)
            if count > limit:
                raise self.report.refuse(f"The filters combine to more than {limit} rules ({name})", offset)


def refine(definitions: Sequence[Styled], budget: Budget) -> list[Element]:
    """Return elements of which the first that holds for a feature carries exactly that feature's winners.

    *definitions* belong to one attachment, most specific first. Each definition is merged with every element that it
    does not contradict; a new element stands right before the one that it refines.
    """
    elements = _Elements()
    for definition in definitions:
        if not definition.assignments:
            continue
        offset = definition.assignments[0].offset
        candidates = elements.candidates(definition.filters)
        budget.step(len(candidates))
        seen: set[frozenset[Identity]] = set()
        for element in candidates:
            # Where the definition adds nothing, it need not be merged: the element stays as it is.
            if element.lacks(definition):
                merged = element.filters.merge(definition.filters)
                if merged is element.filters:
                    element.absorb(definition)
                elif merged is not None and merged.key not in seen:
                    refined = element.copy(merged)
                    refined.absorb(definition)
                    elements.insert(refined, element)
                    seen.add(merged.key)
                    budget.check(len(elements), offset)
            seen.add(element.filters.key)
    found = [element for element in elements.in_order() if element.chosen]
    budget.elements += len(found)
    return _fold(found) if len(found) <= FOLD_LIMIT else found


_GAP = 1 << 256


class _Elements:
    """The elements of one attachment in order, indexed by the constants that their filters fix fields to.

    The index makes many values of one field cheap: a definition for one value meets only the elements of this value
    and those that leave the field open.
    """

    def __init__(self) -> None:
        first = Element(FilterSet(), place=_GAP)
        self._elements = [first]
        self._places = [first.place]
        self._by_constant: dict[str, dict[Identity, list[Element]]] = {}
        self._open: dict[str, list[Element]] = {}

    def __len__(self) -> int:
        return len(self._elements)

    def in_order(self) -> list[Element]:
        return self._elements

    def candidates(self, filters: FilterSet) -> list[Element]:
        """Return, in order, the elements whose filters do not fix a field to another constant than *filters*."""
        best: list[Element] | None = None
        for name, identity in filters.equals.items():
            if name not in self._by_constant:
                self._by_constant[name] = {}
                self._open[name] = []
                for element in self._elements:
                    self._file(name, element)
            same, unfixed = self._by_constant[name].get(identity, []), self._open[name]
            if best is None or len(same) + len(unfixed) < len(best):
                best = [*same, *unfixed]
        if best is None:
            return self._elements.copy()
        best.sort(key=_place)
        return best

    def _file(self, name: str, element: Element) -> None:
        identity = element.filters.equals.get(name)
        if identity is None:
            self._open[name].append(element)
        else:
            self._by_constant[name].setdefault(identity, []).append(element)

    def insert(self, element: Element, before: Element) -> None:
        index = bisect.bisect_left(self._places, before.place)
        low = self._places[index - 1] if index else 0
        if before.place - low < 2:
            for number, known in enumerate(self._elements, 1):
                known.place = number * _GAP
            self._places = [known.place for known in self._elements]
            low = index * _GAP
        element.place = (low + before.place) // 2
        self._elements.insert(index, element)
        self._places.insert(index, element.place)
        for name in self._by_constant:
            self._file(name, element)


def _place(element: Element) -> int:
    return element.place


def _fold(elements: Sequence[Element]) -> list[Element]:
    """Drop elements that can never be reached, as an earlier one holds wherever they do."""
    kept: list[Element] = []
    for element in elements:
        if not any(element.filters.implies(earlier.filters) for earlier in kept):
            kept.append(element)
    return kept


@dataclass(frozen=True, slots=True)
class Combination:
    """Assignments that win together for the zooms of a mask."""

    filters: FilterSet
    zooms: int
    assignments: tuple[Assignment, ...]


def split_zooms(element: Element) -> Iterator[Combination]:
    """Split an element so that the winners are the same at all zooms of each part."""
    available = ALL_ZOOMS
    for index, (assignment, zooms) in enumerate(element.chosen):
        rest = zooms & available
        while rest:
            mask = rest
            taken = {assignment.target: assignment}
            for other, other_zooms in element.chosen[index + 1 :]:
                if other.target not in taken and mask & other_zooms & available:
                    mask &= other_zooms
                    taken[other.target] = other
            yield Combination(element.filters, mask, tuple(taken.values()))
            available &= ~mask
            rest &= ~mask


def groups(assignments: Iterable[Assignment]) -> list[tuple[tuple[str, str], list[Assignment]]]:
    """Return (instance, symbolizer) → assignments, in drawing order: by the smallest offset in each group."""
    by_group: dict[tuple[str, str], list[Assignment]] = {}
    for assignment in assignments:
        if assignment.known.symbolizer != STYLE_LEVEL:
            by_group.setdefault(assignment.group, []).append(assignment)
    return sorted(by_group.items(), key=lambda item: min(assignment.offset for assignment in item[1]))
