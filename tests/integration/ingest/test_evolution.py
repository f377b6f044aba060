"""Producers change their schema while ingest runs: no record is lost, and no restart is needed."""

from functools import partial
from typing import Any

from flows import OLDER, Flow, eventually, ingesting, point


def is_there(flow: Flow, topic: str, identifier: str) -> bool:
    return identifier in flow.points(topic)


def changed(
    *, drop: tuple[str, ...] = (), types: dict[str, Any] | None = None, add: tuple[dict[str, Any], ...] = ()
) -> Any:
    fields = [
        field | {"type": (types or {}).get(field["name"], field["type"])}
        for field in OLDER["fields"]
        if field["name"] not in drop
    ]
    return OLDER | {"fields": [*fields, *add]}


def test_schemas_change_while_ingest_runs(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    status = {"name": "status", "type": ["null", "string"], "default": None}
    versions: dict[str, tuple[Any, dict[str, Any]]] = {
        "as-before": (OLDER, {}),
        "new-optional-field": (changed(add=(status,)), {"status": "working"}),
        "field-left-out": (changed(drop=("created_date_time",)), {}),
        "other-order": (OLDER | {"fields": OLDER["fields"][::-1]}, {}),
        "int-to-long": (changed(types={"survey_id": "int", "last_update_date_time": "int"}), {}),
        "float-to-double": (changed(types={"longitude": "float", "latitude": ["null", "float"]}), {}),
        "long-to-text": (changed(types={"survey_id": "string"}), {"survey_id": "7"}),
        "time-type": (changed(types={"created_date_time": {"type": "long", "logicalType": "timestamp-millis"}}), {}),
        "as-before-again": (OLDER, {}),
    }
    with ingesting(flow):
        for number, (name, (schema, more)) in enumerate(versions.items()):
            flow.send(topic, point(name, 1.5, 2.5, updated=number) | more, schema=schema)
            if number % 3 == 0:
                eventually(partial(is_there, flow, topic, name), "the point is stored")
        eventually(lambda: len(flow.points(topic)) == len(versions), "all points are stored")
    assert set(flow.points(topic).values()) == {(1.5, 2.5)}
    assert flow.rejected(topic) == []
    rows = flow.query(topic, "select identifier, survey_id, properties from datapoint where properties <> '{}'")
    assert rows == [("new-optional-field", "7", {"status": "working"})]
    assert flow.query(topic, "select distinct survey_id from datapoint") == [("7",)]
