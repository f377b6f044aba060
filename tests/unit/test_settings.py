"""Settings: all wrong ones named at once, old names understood, secrets hidden, and each on its page."""

from pathlib import Path

import pytest

from flowmaps.errors import ConfigurationError
from flowmaps.settings import ALIASES, load_settings, parse_settings, setting_names

LEAST = {"FLOWMAPS_DATABASE_URL": "postgresql://u:p@host/db", "FLOWMAPS_SECRET_KEY": "k" * 32}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def test_the_page_is_what_the_settings_are() -> None:
    from reference_settings import settings_page

    assert PAGE.read_text(encoding="utf-8") == settings_page(), "make docs writes it anew"


def test_every_setting_and_alias_is_on_the_page_with_a_meaning() -> None:
    rows = [line.split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    described = {row[1].strip().strip("`"): row[-2].strip() for row in rows}
    assert set(described) == set(setting_names()) | set(ALIASES)
    assert all(len(text) > 3 for text in described.values())


def test_least_settings_are_enough() -> None:
    settings = parse_settings(LEAST)
    assert settings.serve.port == 3000
    assert settings.kafka.topic_pattern == ".*datapoint.*"
    assert settings.ingest.die_on_uncaught_exception


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"FLOWMAPS_SECRET_KEY": "short"}, {"FLOWMAPS_SECRET_KEY"}),
        ({"FLOWMAPS_SERVE_PORT": "x", "FLOWMAPS_RENDER_QUEUE": "0"}, {"FLOWMAPS_SERVE_PORT", "FLOWMAPS_RENDER_QUEUE"}),
        ({"FLOWMAPS_NOPE": "1"}, {"FLOWMAPS_NOPE"}),
        ({"FLOWMAPS_TENANT_SERVERS": "{"}, {"FLOWMAPS_TENANT_SERVERS"}),
        ({"FLOWMAPS_RENDER_VARIABLES": "[1]"}, {"FLOWMAPS_RENDER_VARIABLES"}),
        ({"FLOWMAPS_RENDER_VARIABLES": '{"a b": 1}'}, {"FLOWMAPS_RENDER_VARIABLES"}),
        ({"FLOWMAPS_RENDER_VARIABLES": '{"zoom": 1}'}, {"FLOWMAPS_RENDER_VARIABLES"}),
        ({"FLOWMAPS_RENDER_VARIABLES": '{"a": null}'}, {"FLOWMAPS_RENDER_VARIABLES"}),
        ({"FLOWMAPS_RENDER_VARIABLES": '{"a": [1]}'}, {"FLOWMAPS_RENDER_VARIABLES"}),
        ({"FLOWMAPS_RENDER_VARIABLES": '{"a": NaN}'}, {"FLOWMAPS_RENDER_VARIABLES"}),
        ({"FLOWMAPS_RENDER_VARIABLES": '{"a": "\\u0000"}'}, {"FLOWMAPS_RENDER_VARIABLES"}),
        ({"FLOWMAPS_RENDER_VARIABLES": '{"a": "\\ud800"}'}, {"FLOWMAPS_RENDER_VARIABLES"}),
        ({"FLOWMAPS_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, {"FLOWMAPS_KAFKA"}),
        ({"FLOWMAPS_KAFKA_CERTIFICATE_FILE": "/a"}, {"FLOWMAPS_KAFKA"}),
        ({"FLOWMAPS_OIDC_ALGORITHMS": "none"}, {"FLOWMAPS_OIDC_ALGORITHMS"}),
        ({"FLOWMAPS_OIDC_ALGORITHMS": "HS256"}, {"FLOWMAPS_OIDC_ALGORITHMS"}),
        (
            {"DATABASE_URL": "postgresql://other/db"},
            {"FLOWMAPS_DATABASE_URL", "DATABASE_URL"},
        ),
    ],
)
def test_wrong_settings_are_refused_and_named(change: dict[str, str], named: set[str]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_settings(LEAST | change)
    assert set(raised.value.names) == named


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_settings({})
    assert set(raised.value.names) == {"FLOWMAPS_DATABASE_URL", "FLOWMAPS_SECRET_KEY"}


def test_names_of_the_replaced_system_are_understood() -> None:
    settings = parse_settings(
        {
            "DATABASE_URL": "jdbc:postgresql://db.example:5433/master?user=me&password=p%26w&ssl=true",
            "KAFKA_SERVERS": "k1:9092,k2:9092",
            "KAFKA_SCHEMA_REGISTRY": "https://registry.example",
            "KEYCLOAK_URL": "https://login.example/auth/",
            "MAX_POLL_RECORDS": "100",
            "METADATA_MAX_AGE_MS": "5000",
            "DIE_ON_UNCAUGHT_EXCEPTION": "false",
            "ENCRYPTION_KEY": "an old encryption key",
            "POD_NAME": "ingest-1",
            "POD_NAMESPACE": "maps",
        }
    )
    url = "postgresql://db.example:5433/master?user=me&password=p%26w&sslmode=verify-full"
    assert settings.database.url.get_secret_value() == url
    assert (settings.kafka.servers, settings.registry.url) == ("k1:9092,k2:9092", "https://registry.example")
    assert settings.oidc.issuer == "https://login.example/auth/realms/akvo"
    assert (settings.kafka.max_poll_records, settings.kafka.metadata_max_age_ms) == (100, 5000)
    assert not settings.ingest.die_on_uncaught_exception
    assert settings.secret_key.get_secret_value() == "an old encryption key"
    assert settings.ingest.client_id == "maps_ingest-1"


def test_secrets_do_not_show() -> None:
    settings = parse_settings(LEAST | {"FLOWMAPS_MAP_STORE": "redis://:hidden@host/0"})
    assert "hidden" not in repr(settings)
    assert "u:p@" not in repr(settings)
    assert "kkkk" not in repr(settings)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LEAST.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FLOWMAPS_SERVE_PORT", "4000")
    file = tmp_path / "settings.env"
    file.write_text("FLOWMAPS_SERVE_PORT=5000\nFLOWMAPS_RENDER_WORKERS=7\n")
    settings = load_settings(file)
    assert (settings.serve.port, settings.render.workers) == (4000, 7)
    with pytest.raises(ConfigurationError, match="no such file"):
        load_settings(tmp_path / "nowhere.env")


def test_render_variables_keep_their_kinds() -> None:
    text = '{"COLOR": "red", "LIMIT": 10, "SHARE": 0.5, "ON": true, "TEN": "10"}'
    variables = parse_settings(LEAST | {"FLOWMAPS_RENDER_VARIABLES": text}).render.variables
    assert [*map(repr, variables.values())] == ["'red'", "10", "0.5", "True", "'10'"]
