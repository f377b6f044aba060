"""Every error of ours has a status and the one shape of errors."""

from collections.abc import Iterator
from typing import Any

import pytest

from flowmaps.api.answers import STATUSES, error_document, status_of
from flowmaps.cartocss.source import CartoError, Message
from flowmaps.errors import (
    FlowMapsError,
    InvalidCartoCSS,
    InvalidMapConfig,
    InvalidSQL,
    RecordError,
    TemporaryError,
)


def classes(root: type[FlowMapsError]) -> Iterator[type[FlowMapsError]]:
    yield root
    for child in root.__subclasses__():
        yield from classes(child)


MORE: dict[type[FlowMapsError], dict[str, Any]] = {
    RecordError: {"reason": "r"},
}
"""Class → what it is made of beside its message."""


def made(kind: type[FlowMapsError]) -> FlowMapsError:
    if issubclass(kind, CartoError):
        return kind([Message("error", "what is wrong")])
    return kind("what is wrong", **MORE.get(kind, {}))


@pytest.mark.parametrize("kind", list(classes(FlowMapsError)), ids=lambda kind: kind.__name__)
def test_every_class_has_a_status_and_the_shape_of_errors(kind: type[FlowMapsError]) -> None:
    error = made(kind)
    assert 400 <= status_of(error) < 600
    assert (status_of(error) == 503) == isinstance(error, TemporaryError)
    document = error_document(error)
    assert set(document) == {"errors", "errors_with_context"}
    assert document["errors"] == [error.message]
    [context] = document["errors_with_context"]
    assert context["message"] == error.message
    assert "what is wrong" in error.message
    assert isinstance(context["type"], str)


@pytest.mark.parametrize("kind", list(classes(FlowMapsError)), ids=lambda kind: kind.__name__)
def test_a_class_that_is_not_a_callers_fault_says_whether_time_heals_it(kind: type[FlowMapsError]) -> None:
    assert kind.retriable == issubclass(kind, TemporaryError)
    if issubclass(kind, TemporaryError):
        error = made(kind)
        assert isinstance(error, TemporaryError)
        assert error.retry_after_seconds > 0


def test_the_table_lists_classes_of_ours_only() -> None:
    assert set(STATUSES) <= set(classes(FlowMapsError))


@pytest.mark.parametrize("kind", [InvalidMapConfig, InvalidCartoCSS, InvalidSQL])
def test_an_error_of_a_layer_names_it(kind: type[InvalidMapConfig]) -> None:
    error = kind("wrong", member="layers[1].options.sql", layer=1, layer_id="layer1", layer_type="mapnik")
    [context] = error_document(error)["errors_with_context"]
    assert context["layer"] == {"id": "layer1", "index": 1, "type": "mapnik"}
    assert context["member"] == "layers[1].options.sql"
