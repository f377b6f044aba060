"""The compiler gives the rules that npm carto gives over the whole corpus; each deviation is listed with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from carto_peer import VERSIONS, Carto, PlainMap, plain_map
from cartocss_corpus import CLASSES, LAYER, Sample, corpus
from cartocss_deviations import DEVIATIONS
from flowmaps.cartocss import MapLayer, build_map, compile_layer, relative_names


def compiled(sample: Sample) -> PlainMap:
    style = compile_layer(sample.css, layer_id=LAYER, classes=CLASSES, bind_ids=False, resources=relative_names)
    return plain_map(build_map([MapLayer(style)]))


@pytest.fixture(params=VERSIONS)
def carto(request: pytest.FixtureRequest) -> Iterator[Carto]:
    with Carto(request.param) as running:
        yield running


def test_the_corpus_gives_the_rules_of_carto_but_for_the_listed_deviations(carto: Carto) -> None:
    samples = corpus()
    assert len(samples) >= 300
    differing: set[str] = set()
    for sample in samples:
        answer = carto.compile(sample.css, layer_id=LAYER, classes=CLASSES)
        if answer.xml is None or plain_map(answer.xml) != compiled(sample):
            differing.add(sample.name)
    listed = {
        sample.name
        for sample in samples
        for deviation in DEVIATIONS
        if carto.version in deviation.versions and re.fullmatch(deviation.pattern, sample.name)
    }
    assert differing - listed == set(), "differ, but are not listed"
    assert listed - differing == set(), "are listed, but do not differ"


def test_every_listed_deviation_is_of_a_sample() -> None:
    names = [sample.name for sample in corpus()]
    unused = [entry.pattern for entry in DEVIATIONS if not any(re.fullmatch(entry.pattern, name) for name in names)]
    assert unused == []
