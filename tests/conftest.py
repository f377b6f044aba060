"""Fixtures of real services. A service that does not start fails the test that needs it; none is ever skipped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowstack.kafka import Kafka
from flowstack.keycloak import Keycloak
from flowstack.postgres import Postgres
from flowstack.registry import Registry
from flowstack.stack import Stack

pytest_plugins = ["maps_fixtures"]


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The stack; asking for it starts nothing yet."""
    with Stack() as running:
        yield running


@pytest.fixture(scope="session")
def postgres(stack: Stack) -> Postgres:
    return stack.postgres


@pytest.fixture(scope="session")
def kafka(stack: Stack) -> Kafka:
    return stack.kafka


@pytest.fixture(scope="session")
def registry(stack: Stack) -> Registry:
    return stack.registry


@pytest.fixture(scope="session")
def redis_url(stack: Stack) -> str:
    return stack.redis.url


@pytest.fixture(scope="session")
def keycloak(stack: Stack) -> Keycloak:
    return stack.keycloak


@pytest.fixture
def settings_environ(postgres: Postgres) -> dict[str, str]:
    """The least settings of a process on a fresh master database."""
    return {
        "FLOWMAPS_DATABASE_URL": postgres.url_of(postgres.new_database()),
        "FLOWMAPS_SECRET_KEY": "a secret key for one test",
        "FLOWMAPS_INGEST_METRICS_PORT": "0",
        "FLOWMAPS_SERVE_METRICS_PORT": "0",
    }
