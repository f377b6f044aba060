"""Random stylesheets mean what their direct evaluation says, for every feature and zoom."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from flowmaps.cartocss import CartoError, compile_layer, evaluate
from unit.cartocss import oracle
from unit.cartocss.oracle import Block, Declaration, Filter, Oracle, Selector, Zoom

NIGHTLY = bool(os.environ.get("FLOWMAPS_TEST_NIGHTLY"))
pytestmark = pytest.mark.timeout(3_600 if NIGHTLY else 180)
EXAMPLES = 5_000 if NIGHTLY else 520
FEATURES = 50 if NIGHTLY else 20

LAYER, CLASSES = "pts", ("pts", "area")
NUMBERS = (-1.0, 0.0, 1.0, 2.0, 2.5, 5.0, 8.0)
TEXTS = ("a", "b", "ab", "")
PATTERNS = ("a.*", "(a|b)", "[^a]*", "b?")
NUMERIC_KEYS, TEXT_KEYS = ("n0", "n1", "n2"), ("t0", "t1", "t2")
RANGES = ("<", "<=", ">", ">=")


def one_in(draw: st.DrawFn, count: int) -> bool:
    return draw(st.integers(1, count)) == 1


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    if one_in(draw, 2):
        key, operator = draw(st.sampled_from(NUMERIC_KEYS)), draw(st.sampled_from(("=", "!=", *RANGES)))
        if one_in(draw, 10):
            return Filter(key, draw(st.sampled_from(("=", "!="))), draw(st.booleans()))
        return Filter(key, operator, draw(st.sampled_from(NUMBERS)))
    key = draw(st.sampled_from(TEXT_KEYS))
    if one_in(draw, 6):
        return Filter(key, "=~", draw(st.sampled_from(PATTERNS)))
    operator = draw(st.sampled_from(("=", "!=")))
    if one_in(draw, 8):
        return Filter(draw(st.sampled_from((key, "n0"))), operator, None)
    if one_in(draw, 8):
        return Filter(key, draw(st.sampled_from(("=", "!=", *RANGES))), 1.0)
    return Filter(draw(st.sampled_from((key, key, key, "n1"))), operator, draw(st.sampled_from(TEXTS)))


@st.composite
def zooms(draw: st.DrawFn) -> Zoom:
    return Zoom(draw(st.sampled_from(("=", "!=", *RANGES))), draw(st.sampled_from((0, 1, 4, 5, 9, 13, 25))))


@st.composite
def selectors(draw: st.DrawFn, depth: int) -> Selector:
    ids: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    if depth == 0:
        ids = draw(st.sampled_from(((), ("pts",), ("pts",), ("pts", "pts"))))
        classes = draw(st.sampled_from(((), (), ("pts",), ("pts", "area"))))
        if one_in(draw, 12):
            ids, classes = draw(st.sampled_from(((("other",), ()), (("pts", "other"), ()), ((), ("unknown",)))))
    elif one_in(draw, 8):
        classes = ("area",)
    return Selector(
        ids,
        classes,
        tuple(draw(st.lists(filters(), max_size=3 if one_in(draw, 5) else 1))),
        tuple(draw(st.lists(zooms(), max_size=2))) if one_in(draw, 3) else (),
        draw(st.sampled_from(("x", "y"))) if one_in(draw, 5) else "",
    )


@st.composite
def declarations(draw: st.DrawFn) -> Declaration:
    if one_in(draw, 12):
        name = draw(st.sampled_from(tuple(oracle.STYLE_LEVEL)))
        values = ("0.25", "0.5") if name == "opacity" else ("screen", "multiply")
        return Declaration("", name, draw(st.sampled_from(values)))
    instance = draw(st.sampled_from(("", "", "i", "j")))
    return Declaration(instance, draw(st.sampled_from(tuple(oracle.PROPERTIES))), str(draw(st.integers(1, 99))))


@st.composite
def blocks(draw: st.DrawFn, depth: int = 0) -> Block:
    own = draw(st.lists(selectors(depth), min_size=1, max_size=2))
    items: list[Declaration | Block] = draw(st.lists(declarations(), min_size=1 if depth == 0 else 0, max_size=3))
    if depth < 3:
        inner = draw(st.lists(blocks(depth + 1), max_size=2 if depth < 1 else 1))
        for block in inner:
            items.insert(draw(st.integers(0, len(items))), block)
    return Block(tuple(own), tuple(items))


def random_feature(source: random.Random) -> dict[str, oracle.Value]:
    feature: dict[str, oracle.Value] = {}
    for key in (*NUMERIC_KEYS, *TEXT_KEYS):
        numeric = (key in NUMERIC_KEYS) != (source.random() < 0.1)
        value: oracle.Value
        value = source.choice(NUMBERS) + source.choice((0, 0, 0, 0.25)) if numeric else source.choice(TEXTS)
        if numeric and source.random() < 0.1:
            value = source.random() < 0.5
        if source.random() < 0.85:
            feature[key] = value if source.random() < 0.9 else None
    return feature


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(sheet=st.lists(blocks(), min_size=1, max_size=4), seed=st.integers(0, 2**32))
def test_compiled_rules_draw_what_the_stylesheet_means(sheet: list[Block], seed: int) -> None:
    css = oracle.print_sheet(sheet)
    note(css)
    if oracle.clashes(sheet):
        event("refused for a clash")
        with pytest.raises(CartoError, match="produces an invalid filter"):
            compile_layer(css, layer_id=LAYER, classes=CLASSES, bind_ids=False)
        return
    style = compile_layer(css, layer_id=LAYER, classes=CLASSES, bind_ids=False)
    meaning = Oracle(sheet, LAYER, CLASSES)
    order = meaning.attachments()
    compiled = {}
    for found in style.styles:
        rules = [
            (
                rule.filter,
                rule.max_scale,
                rule.min_scale,
                [(item.name, dict(item.attributes)) for item in rule.symbolizers],
            )
            for rule in found.rules
        ]
        attachment = found.name.removeprefix(LAYER).removeprefix("-")
        compiled[attachment] = rules
        assert dict(found.attributes) == meaning.style_attributes(attachment)
    assert list(compiled) == [name for name in order if name in compiled]
    event(f"{len(compiled)} styles")
    source = random.Random(seed)
    for number in range(FEATURES):
        feature, zoom = random_feature(source), source.choice((0, 1, 3, 4, 5, 6, 9, 10, 13, 20, 25))
        expected = {name: meaning.draw(name, feature, zoom) for name in order}
        for name in order:
            drawn = oracle.draw_rules(compiled.get(name, []), feature, zoom)
            assert drawn == expected[name], (name, feature, zoom)
        if number < 3:
            direct = [
                (drawn.attachment, [(item.name, dict(item.attributes)) for item in drawn.symbolizers])
                for drawn in evaluate(css, LAYER, feature, zoom, classes=CLASSES, bind_ids=False)
            ]
            assert direct == [(name, expected[name]) for name in order]
