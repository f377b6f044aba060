"""A decoded record becomes a datapoint, or is refused with a stable reason."""

import json
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from flowmaps.datapoint import MAX_IDENTIFIER_BYTES, MAX_PROPERTIES_BYTES, parse_datapoint
from flowmaps.errors import RecordError

PUBLISHED: dict[str, Any] = {
    "ambiguous": False,
    "createdDateTime": 1_500_000_000_000,
    "identifier": "abcd-efgh-ijkl",
    "lastUpdateDateTime": 1_600_000_000_123,
    "surveyGroupId": 148412306,
    "surveyInstanceContrib": [1, 2],
    "countryCode": "ML",
    "displayName": "Puits de Kayes",
    "latitude": 14.44,
    "longitude": -11.44,
    "geocells": None,
}
OLDER: dict[str, Any] = {
    "identifier": "p1",
    "survey_id": 7,
    "longitude": 4.9,
    "latitude": 52.4,
    "created_date_time": 1,
    "last_update_date_time": 2,
}


def test_published_record() -> None:
    point = parse_datapoint(PUBLISHED)
    assert (point.identifier, point.survey_id) == ("abcd-efgh-ijkl", "148412306")
    assert (point.longitude, point.latitude) == (-11.44, 14.44)
    assert point.created == datetime(2017, 7, 14, 2, 40, tzinfo=UTC)
    assert point.updated == datetime(2020, 9, 13, 12, 26, 40, 123000, tzinfo=UTC)


def test_other_fields_become_properties_under_their_own_names() -> None:
    assert parse_datapoint(PUBLISHED).properties == {
        "ambiguous": False,
        "surveyInstanceContrib": [1, 2],
        "countryCode": "ML",
        "displayName": "Puits de Kayes",
        "geocells": None,
    }


def test_older_record() -> None:
    point = parse_datapoint(OLDER)
    assert (point.identifier, point.survey_id, point.properties) == ("p1", "7", {})
    assert point.created == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=1)
    assert point.updated == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=2)


def test_camel_case_survey_id_of_the_older_record() -> None:
    record = {name: value for name, value in PUBLISHED.items() if name != "surveyGroupId"}
    assert parse_datapoint({**record, "surveyId": "s"}).survey_id == "s"


def test_logical_timestamps_are_understood() -> None:
    moment = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    point = parse_datapoint(
        {**OLDER, "created_date_time": moment.replace(tzinfo=None), "last_update_date_time": moment}
    )
    assert (point.created, point.updated) == (moment, moment)


def test_without_update_time_the_creation_decides() -> None:
    assert parse_datapoint({**OLDER, "last_update_date_time": None}).updated == parse_datapoint(OLDER).created


@pytest.mark.parametrize("missing", [("longitude",), ("latitude",), ("longitude", "latitude")])
def test_no_location_is_a_datapoint_without_coordinates(missing: tuple[str, ...]) -> None:
    point = parse_datapoint({**OLDER, **dict.fromkeys(missing)})
    assert (point.longitude, point.latitude, point.located) == (None, None, False)


def test_zero_and_the_empty_text_are_values() -> None:
    point = parse_datapoint({**OLDER, "identifier": "", "survey_id": 0, "longitude": 0, "latitude": 0.0})
    assert (point.identifier, point.survey_id, point.longitude, point.latitude) == ("", "0", 0.0, 0.0)


@pytest.mark.parametrize(("longitude", "latitude"), [(180, 90), (-180, -90)])
def test_edges_of_the_world_are_on_it(longitude: float, latitude: float) -> None:
    assert parse_datapoint({**OLDER, "longitude": longitude, "latitude": latitude}).located


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"identifier": None}, "missing-identifier"),
        ({"survey_id": None}, "missing-survey"),
        ({"created_date_time": None, "last_update_date_time": None}, "missing-time"),
        ({"longitude": math.nan}, "invalid-coordinates"),
        ({"latitude": math.inf}, "invalid-coordinates"),
        ({"longitude": 180.000001}, "invalid-coordinates"),
        ({"latitude": -91}, "invalid-coordinates"),
        ({"longitude": "4.9"}, "invalid-type"),
        ({"latitude": True}, "invalid-type"),
        ({"identifier": 1.5}, "invalid-type"),
        ({"survey_id": False}, "invalid-type"),
        ({"last_update_date_time": "2020"}, "invalid-type"),
        ({"last_update_date_time": 2**62}, "invalid-time"),
        ({"identifier": "a\0b"}, "nul-character"),
        ({"displayName": "a\0b"}, "nul-character"),
        ({"nested": {"list": ["\0"]}}, "nul-character"),
        ({"identifier": "\ud800"}, "invalid-text"),
        ({"displayName": "\ud800"}, "invalid-text"),
        ({"identifier": "x" * (MAX_IDENTIFIER_BYTES + 1)}, "too-large"),
        ({"identifier": "é" * MAX_IDENTIFIER_BYTES}, "too-large"),
        ({"displayName": "x" * MAX_PROPERTIES_BYTES}, "too-large"),
        ({"displayName": object()}, "invalid-type"),
    ],
)
def test_refusals_have_a_stable_reason(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecordError) as refusal:
        parse_datapoint({**OLDER, **change})
    assert refusal.value.reason == reason


def test_a_value_that_is_no_record_is_refused() -> None:
    with pytest.raises(RecordError) as refusal:
        parse_datapoint(["identifier"])  # type: ignore[arg-type]
    assert refusal.value.reason == "invalid-type"


def test_deep_nesting_is_refused() -> None:
    value: Any = 1
    for _ in range(100):
        value = [value]
    with pytest.raises(RecordError) as refusal:
        parse_datapoint({**OLDER, "tree": value})
    assert refusal.value.reason == "too-large"


def test_a_text_that_spells_the_escape_of_nul_is_kept() -> None:
    assert parse_datapoint({**OLDER, "displayName": "\\u0000"}).properties == {"displayName": "\\u0000"}


def test_values_without_json_form_are_written_as_text() -> None:
    record = {
        **OLDER,
        "raw": b"\x00\xff",
        "price": Decimal("1.50"),
        "day": datetime(2024, 1, 2, tzinfo=UTC),
        "bad": math.nan,
    }
    assert parse_datapoint(record).properties == {
        "raw": "AP8=",
        "price": "1.50",
        "day": "2024-01-02T00:00:00+00:00",
        "bad": None,
    }


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*OLDER, *PUBLISHED, "extra"]), _VALUES))
def test_any_record_is_a_storable_datapoint_or_refused(change: dict[str, Any]) -> None:
    try:
        point = parse_datapoint({**OLDER, **change})
    except RecordError as refusal:
        event(refusal.reason)
        return
    assert "\0" not in point.identifier + point.survey_id
    json.dumps(point.properties, allow_nan=False).encode()
