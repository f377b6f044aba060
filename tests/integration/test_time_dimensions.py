"""Times as dimensions of an aggregation, in PostgreSQL, against values computed by hand."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from flowmaps.mapsql.aggregation import parse_aggregation
from flowstack.postgres import Postgres
from maps_fixtures import layer, maps_server


def value(postgres: Postgres, moment: str, group: dict[str, Any], **members: Any) -> Any:
    """Return the dimension of one moment, as PostgreSQL computes it."""
    option = {"dimensions": {"t": {"column": "t", "group": group, **members}}}
    aggregation = parse_aggregation(option)
    assert aggregation is not None
    query = f"select {aggregation.dimensions['t']} from (select {moment} as t) as cdb_points"
    with psycopg.connect(postgres.url, options="-c timezone=UTC") as conn:
        row = conn.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


WEDNESDAY = "timestamptz '2021-03-03T23:30:45Z'"
"""The 62nd day of 2021, in ISO week 9; in Amsterdam it is Thursday, half past midnight."""


@pytest.mark.parametrize(
    ("units", "zone", "expected"),
    [
        ("minuteOfHour", "utc", 30),
        ("hourOfDay", "utc", 23),
        ("dayOfWeek", "utc", 3),
        ("dayOfMonth", "utc", 3),
        ("dayOfYear", "utc", 62),
        ("weekOfYear", "utc", 9),
        ("monthOfYear", "utc", 3),
        ("quarterOfYear", "utc", 1),
        ("trimesterOfYear", "utc", 1),
        ("semesterOfYear", "utc", 1),
        ("hourOfDay", "Europe/Amsterdam", 0),
        ("dayOfWeek", "Europe/Amsterdam", 4),
        ("dayOfMonth", "Europe/Amsterdam", 4),
        ("dayOfYear", "Europe/Amsterdam", 63),
        ("hourOfDay", 3600, 0),
        ("hourOfDay", "+3600", 0),
        ("hourOfDay", "-7200", 21),
        ("minuteOfHour", 19_800, 0),
    ],
)
def test_cyclic_units_are_parts_that_come_again(postgres: Postgres, units: str, zone: object, expected: int) -> None:
    assert value(postgres, WEDNESDAY, {"units": units, "timezone": zone}) == expected


@pytest.mark.parametrize(
    ("moment", "units", "expected"),
    [
        ("2021-03-07T12:00:00Z", "dayOfWeek", 7),
        ("2021-03-08T12:00:00Z", "dayOfWeek", 1),
        ("2021-01-03T12:00:00Z", "weekOfYear", 53),
        ("2020-12-31T12:00:00Z", "dayOfYear", 366),
        ("2020-12-31T12:00:00Z", "quarterOfYear", 4),
        ("2020-12-31T12:00:00Z", "trimesterOfYear", 3),
        ("2020-12-31T12:00:00Z", "semesterOfYear", 2),
        ("2020-06-30T12:00:00Z", "semesterOfYear", 1),
        ("2020-05-01T00:00:00Z", "trimesterOfYear", 2),
    ],
)
def test_cycles_begin_and_end_where_they_should(postgres: Postgres, moment: str, units: str, expected: int) -> None:
    assert value(postgres, f"timestamptz '{moment}'", {"units": units}) == expected


@pytest.mark.parametrize(
    ("units", "starting", "expected"),
    [
        # 1 + 31 + 28 + 2 days after the start of the year, the third of March is day 62, 61 whole days later.
        ("second", "2021", 61 * 86400 + 23 * 3600 + 30 * 60 + 45),
        ("minute", "2021", 61 * 1440 + 23 * 60 + 30),
        ("hour", "2021", 61 * 24 + 23),
        ("day", "2021", 62),
        ("day", "2021-03-03", 1),
        ("day", "2021-03-04", 0),
        ("day", "20210303T2330", 1),
        ("day", "2021-03-03T23:31:00", 0),
        # Weeks begin on the day of the start: 61 days are 8 weeks and 5 days.
        ("week", "2021", 9),
        ("month", "2021", 3),
        ("month", "2020-12", 4),
        ("quarter", "2021", 1),
        ("quarter", "2020-10", 2),
        ("trimester", "2020", 4),
        ("semester", "2020", 3),
        ("semester", "2020-04", 2),
        ("year", "2021", 1),
        ("year", "2000", 22),
        ("decade", "2001", 2),
        ("decade", "2011", 1),
        ("century", "1921", 2),
        ("millennium", "1021", 2),
        # From the year 1 on they are those of the calendar.
        ("year", None, 2021),
        ("month", None, 2020 * 12 + 3),
        ("quarter", None, 2020 * 4 + 1),
        ("semester", None, 2020 * 2 + 1),
        ("decade", None, 202),
        ("century", None, 21),
        ("millennium", None, 3),
        # 2020 years with 505 - 20 + 5 leap days, and 62 days.
        ("day", None, 2020 * 365 + 490 + 62),
        ("second", None, (2020 * 365 + 490 + 61) * 86400 + 84645),
    ],
)
def test_periods_are_numbered_from_a_start(postgres: Postgres, units: str, starting: str | None, expected: int) -> None:
    group = {"units": units} if starting is None else {"units": units, "starting": starting}
    assert value(postgres, WEDNESDAY, group) == expected
    assert value(postgres, WEDNESDAY, group, format="number") == expected


@pytest.mark.parametrize(
    ("units", "count", "starting", "expected"),
    [
        # Seconds to hours count from 0: hours 0 to 5 are 0, 6 to 11 are 1.
        ("hour", 6, "2021-03-03", 3),
        ("minute", 15, "2021-03-03T23:00:00", 2),
        ("second", 30, "2021-03-03T23:30:00", 1),
        # The others count from 1: days 1 to 7 are 1, 57 to 63 are 9.
        ("day", 7, "2021", 9),
        ("day", 62, "2021", 1),
        ("day", 61, "2021", 2),
        ("week", 2, "2021", 5),
        ("month", 2, "2021", 2),
        ("month", 3, "2021", 1),
        ("year", 5, "2001", 5),
    ],
)
def test_periods_can_hold_several_units(
    postgres: Postgres, units: str, count: int, starting: str, expected: int
) -> None:
    assert value(postgres, WEDNESDAY, {"units": units, "count": count, "starting": starting}) == expected


def test_a_start_is_one_in_the_zone_of_the_dimension(postgres: Postgres) -> None:
    group = {"units": "day", "starting": "2021-03-04", "timezone": "Europe/Amsterdam"}
    assert value(postgres, WEDNESDAY, group) == 1


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ("second", "2021-03-03T23:30:45"),
        ("minute", "2021-03-03T23:30"),
        ("hour", "2021-03-03T23"),
        ("day", "2021-03-03"),
        ("week", "2021-W09"),
        ("month", "2021-03"),
        ("quarter", "2021-Q1"),
        ("trimester", "2021t1"),
        ("semester", "2021S1"),
        ("year", "2021"),
        ("decade", "D202"),
        ("century", "C21"),
        ("millennium", "M3"),
    ],
)
def test_periods_have_iso_names(postgres: Postgres, units: str, expected: str) -> None:
    assert value(postgres, WEDNESDAY, {"units": units}, format="iso") == expected


@pytest.mark.parametrize("units", ["second", "decade", "dayOfWeek", "month"])
@pytest.mark.parametrize("moment", ["null::timestamptz", "timestamptz 'infinity'", "timestamptz '-infinity'"])
def test_what_is_no_moment_has_no_period(postgres: Postgres, units: str, moment: str) -> None:
    assert value(postgres, moment, {"units": units}) is None
    assert value(postgres, moment, {"units": units}, format="iso") is None


def test_dates_and_times_without_zone_work_too(postgres: Postgres) -> None:
    assert value(postgres, "date '2021-03-03'", {"units": "dayOfWeek"}) == 3
    assert value(postgres, "timestamp '2021-03-03T23:30:45'", {"units": "hourOfDay"}) == 23


def test_maps_are_split_and_filtered_by_cycles(postgres: Postgres) -> None:
    with maps_server(postgres) as server:
        sql = "select *, created_date_time as t from datapoint"
        day = {"column": "t", "group": {"units": "dayOfWeek"}}
        pair = {"column": "t", "group": {"units": "day", "count": 4, "starting": "2020"}}
        option = {
            "threshold": 1,
            "resolution": 16384,
            "placement": "centroid",
            "dimensions": {"day": day, "pair": pair},
            "filters": {"day": {"not_equal": 7}},
        }
        style = "#l { marker-width: 99; marker-allow-overlap: true; }"
        created = server.create(layer(sql, style, aggregation=option, interactivity="day,pair,_cdb_feature_count"))
        data = server.get(created, "0/0/0/0.grid.json").json()["data"].values()
        # The first, third, fifth and seventh of January 2020 are Wednesday, Friday, Sunday and Tuesday.
        assert sorted((entry["day"], entry["pair"]) for entry in data) == [(2, 2), (3, 1), (5, 1)]
        wrong = layer(
            sql, style, aggregation={"dimensions": {"d": {**day, "group": {"units": "day", "timezone": "No/Where"}}}}
        )
        status, message, context = server.refused(wrong)
        assert (status, message) == (400, 'time zone "No/Where" not recognized')
        assert context["member"] == "layers[0].options.aggregation"
