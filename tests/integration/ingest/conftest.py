"""A flow for each test: topics, a consumer group and a master database of its own."""

from collections.abc import Iterator

import pytest

from flows import Flow, new_flow
from flowstack.kafka import Kafka
from flowstack.postgres import Postgres
from flowstack.registry import Registry


@pytest.fixture
def flow(postgres: Postgres, kafka: Kafka, registry: Registry) -> Iterator[Flow]:
    with new_flow(postgres, kafka, registry) as made:
        yield made
