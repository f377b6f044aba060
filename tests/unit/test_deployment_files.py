"""The files that others deploy: they name what exists, and open nothing but nginx."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowmaps import __version__
from flowmaps.settings import OidcSettings, setting_names

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return document


def test_compose_sets_only_settings_that_exist(compose: dict[str, Any]) -> None:
    names = {name for name in _environment(compose) if name.startswith("FLOWMAPS_")}
    assert names - {"FLOWMAPS_UPSTREAM"} <= set(setting_names())
    assert {"FLOWMAPS_DATABASE_URL", "FLOWMAPS_SECRET_KEY", "FLOWMAPS_KAFKA_SERVERS"} <= names


def _environment(compose: dict[str, Any]) -> set[str]:
    return {name for service in compose["services"].values() for name in service.get("environment", {})}


def test_nginx_alone_is_reachable(compose: dict[str, Any]) -> None:
    assert [name for name, service in compose["services"].items() if service.get("ports")] == ["nginx"]


def test_compose_depends_on_services_and_mounts_files_that_exist(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith(".") else source in compose["volumes"]


def test_every_variable_of_compose_is_in_the_example(compose: dict[str, Any]) -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    used = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", text))
    offered = set(re.findall(r"^([A-Z_]+)=", (DEPLOY / "env.example").read_text(encoding="utf-8"), re.MULTILINE))
    assert used == offered


def test_the_template_of_nginx_has_the_names_that_compose_fills_in(compose: dict[str, Any]) -> None:
    template = (DEPLOY / "nginx" / "nginx.conf.template").read_text(encoding="utf-8")
    names = set(re.findall(r"\$\{([A-Z_]+)\}", template))
    assert names == set(compose["services"]["nginx"]["environment"])
    command = compose["services"]["nginx"]["entrypoint"][-1]
    assert set(re.findall(r"\$\$([A-Z_]+)", command)) == names


def test_the_realm_gives_the_role_and_the_audience_of_the_defaults() -> None:
    realm = json.loads((DEPLOY / "keycloak" / "realm.json").read_text(encoding="utf-8"))
    defaults = OidcSettings()
    assert [role["name"] for role in realm["roles"]["realm"]] == [defaults.role]
    mapper = realm["clients"][0]["protocolMappers"][0]
    assert mapper["config"]["included.custom.audience"] == defaults.audience
    assert realm["users"][0]["realmRoles"] == [defaults.role]


def test_the_image_copies_what_exists_and_builds_from_the_hashed_lock() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    assert "--require-hashes" in text
    assert re.search(r"^USER \d+$", text, re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {"!src", "!requirements.lock", "!pyproject.toml"} <= set(ignored)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_locks_have_hashes_and_no_addresses(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index-url" not in text
    pinned = re.findall(r"^[a-z0-9][^=\n]*==", text, re.MULTILINE)
    assert len(pinned) > 20
    assert text.count("--hash=sha256:") >= len(pinned)


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[?([^\]\s]+)", text, re.MULTILINE)
    assert versions[0] in (__version__, "Unreleased")


def test_the_package_takes_its_licence_along() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    for name in project["license-files"]:
        assert (ROOT / name).stat().st_size > 0


def test_links_of_the_documentation_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    assert len(pages) > 8
    broken = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or (anchor and anchor not in _anchors(file)):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
