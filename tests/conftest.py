"""Fixtures of real services. A service that does not start fails the test that needs it; none is ever skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from flowstack.deployment import Deployment, deployed
from flowstack.kafka import Kafka
from flowstack.keycloak import Keycloak
from flowstack.postgres import Postgres
from flowstack.registry import Registry
from flowstack.stack import Stack

pytest_plugins = ["maps_fixtures"]

_SERVICES = {
    "postgres": ("postgres",),
    "kafka": ("kafka",),
    "registry": ("registry",),
    "redis_url": ("redis",),
    "keycloak": ("keycloak",),
    "deployment": ("keycloak", "kafka", "registry", "postgres", "redis"),
}
"""Fixture → services that it needs."""
NIGHTLY = os.environ.get("FLOWMAPS_TEST_NIGHTLY") == "1"
"""Long runs of the same tests: more examples, more faults."""

# Machines are noisy: an example that is slow is no failure.
settings.register_profile("flowmaps", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("flowmaps")


@pytest.fixture(scope="session")
def nightly() -> bool:
    return NIGHTLY


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The stack; what the collected tests need starts at once, in the background."""
    wanted = {name for item in request.session.items if isinstance(item, pytest.Function) for name in item.fixturenames}
    with Stack() as running:
        running.prefetch(*dict.fromkeys(service for name in _SERVICES if name in wanted for service in _SERVICES[name]))
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


@pytest.fixture(scope="session")
def deployment(stack: Stack) -> Iterator[Deployment]:
    """`ingest`, two `serve` processes that share a store in Redis, and nginx before them."""
    with deployed(stack, stack.folder / "deployment", serves=2, prefix="e2e.") as running:
        yield running


@pytest.fixture
def settings_environ(postgres: Postgres) -> dict[str, str]:
    """The least settings of a process on a fresh master database."""
    return {
        "FLOWMAPS_DATABASE_URL": postgres.url_of(postgres.new_database()),
        "FLOWMAPS_SECRET_KEY": "a secret key for one test",
        "FLOWMAPS_INGEST_METRICS_PORT": "0",
        "FLOWMAPS_SERVE_METRICS_PORT": "0",
    }
