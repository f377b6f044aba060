"""Write the page of settings from the settings themselves; the test of the page compares both."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from flowmaps.settings import ALIASES, JSON_SETTINGS, PREFIX, Group, Settings

_HEAD = """# Configuration

<!-- Written by `make docs` from src/flowmaps/settings.py; do not edit. -->

Every setting is an environment variable. `flow-maps serve` and `flow-maps ingest` read the same ones, and each takes
what concerns it. A file `.env` in the working directory, or the one given by `--env-file`, may hold them as well; the
environment wins. An unknown `FLOWMAPS_` name, a value that cannot be read and settings that contradict each other stop
the process at its start, with a message that names them.

Lists are written with commas: `a,b`. Values marked JSON are JSON objects. Values marked secret are never logged.
"""
_ALIASES = """
## Names of the replaced system

These are read as well, so that an existing deployment moves over. Where both names are set they must agree.

| name | is read as |
|---|---|
"""
_POD = """
`POD_NAMESPACE` and `POD_NAME` together are the default of `FLOWMAPS_INGEST_CLIENT_ID`. `DATABASE_URL` may be in the
form `jdbc:postgresql://host:port/name?user=…&password=…&ssl=true`, where `ssl=true` means `sslmode=verify-full`.
`KEYCLOAK_URL` without `/realms/` gets `/realms/akvo` at its end.
"""


def settings_page() -> str:
    """Return the page as Markdown."""
    parts = [_HEAD, "\n## Everywhere\n\n", _table(_rows("", Settings))]
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Group):
            doc = (kind.__doc__ or "").strip()
            parts += [f"\n## {name.capitalize() if name != 'oidc' else 'OIDC'}\n\n{doc}\n\n", _table(_rows(name, kind))]
    aliases = "".join(f"| `{alias}` | `{name}` |\n" for alias, name in ALIASES.items())
    return "".join([*parts, _ALIASES, aliases, _POD])


def _rows(group: str, kind: type[Group]) -> list[tuple[str, str, str]]:
    rows = []
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Group):
            continue
        full = "_".join(filter(None, (PREFIX.rstrip("_"), group, name))).upper()
        notes = [
            note
            for note, holds in (("JSON", full in JSON_SETTINGS), ("secret", "Secret" in str(field.annotation)))
            if holds
        ]
        text = (field.description or "") + (f" *{', '.join(notes)}*" if notes else "")
        rows.append((full, _default(field), text.replace("|", "\\|")))
    return rows


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return f"`{value}`" if value not in (None, "", {}) else "none"


def _table(rows: list[tuple[str, str, str]]) -> str:
    body = "".join(f"| `{name}` | {default} | {text} |\n" for name, default, text in rows)
    return f"| setting | default | meaning |\n|---|---|---|\n{body}"
