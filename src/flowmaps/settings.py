"""Read all configuration, once, from the environment.

Every setting is ``FLOWMAPS_<GROUP>_<NAME>`` (two stand alone: ``FLOWMAPS_SECRET_KEY``, ``FLOWMAPS_MAP_STORE``).
The environment wins over a ``.env`` file. Names of the system that Flow Maps replaces are aliases, see `ALIASES`.
`parse_settings` is pure: environment in, frozen settings out, or `ConfigurationError` naming every wrong one.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from dotenv import dotenv_values
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from flowmaps.errors import ConfigurationError

PREFIX = "FLOWMAPS_"
BUILT_IN_VARIABLES = ("zoom", "zoom_level", "x", "y", "bbox")
"""Render variables that say what is being drawn; the operator's have other names."""
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_MOST_VARIABLE_CHARS = 1000
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""What XML, and so Mapnik, cannot hold."""


def _words(value: object) -> object:
    """Split ``a,b`` as people write lists in the environment."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Numbers = Annotated[tuple[int, ...], BeforeValidator(_words)]
OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: value or None)]


class Group(BaseModel):
    """A frozen group of settings; an unknown member is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DatabaseSettings(Group):
    """Master database: tenants, credentials, stored maps. Its user creates tenant databases and roles."""

    url: SecretStr = Field(description="Master database as `postgresql://user:password@host:port/name?sslmode=…`.")
    pool_size: int = Field(8, ge=1, description="Most connections to the master database, per process.")
    connect_timeout_seconds: float = Field(5, gt=0, description="Longest wait for a connection.")

    @field_validator("url", mode="before")
    @classmethod
    def _from_jdbc(cls, value: object) -> object:
        return conninfo_from_jdbc(value) if isinstance(value, str) else value


class TenantSettings(Group):
    """Tenant databases and the reader role that maps use."""

    servers: dict[str, SecretStr] = Field(
        default_factory=dict,
        description='More PostgreSQL servers for tenants, JSON `{"name": "postgresql://…"}`; the master is `master`.',
    )
    readers: dict[str, str] = Field(
        default_factory=dict,
        description='Reader address per server, JSON `{"name": "host:port"}`, for a replica or PgBouncer.',
    )
    placement: str = Field("master", description="Name of the server on which new tenants are created.")
    statement_timeout_ms: int = Field(10_000, ge=100, description="Longest statement of a map's SQL.")
    reader_connections: int = Field(40, ge=1, description="Connection limit of a tenant's reader role.")
    reader_pool_size: int = Field(4, ge=1, description="Most pooled reader connections per tenant, per process.")
    idle_seconds: float = Field(300, gt=0, description="Idle tenant connections are closed after this.")
    work_mem_kib: int = Field(16_384, ge=64, description="`work_mem` of the reader role.")


class KafkaSettings(Group):
    """Kafka, as ingest reads it."""

    servers: str = Field("", description="Bootstrap servers, `host:port,host:port`.")
    topic_pattern: str = Field(r".*datapoint.*", description="Regular expression of the topics to follow, whole name.")
    group_id: str = Field("flow-maps-ingest", min_length=1, description="Consumer group.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to talk to the brokers."
    )
    ca_file: OptionalPath = Field(None, description="PEM file of the authorities that sign the brokers' certificates.")
    certificate_file: OptionalPath = Field(None, description="PEM file of our client certificate.")
    key_file: OptionalPath = Field(None, description="PEM file of its private key.")
    key_password: SecretStr | None = Field(None, description="Password of the private key.")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field("PLAIN", description="SASL mechanism.")
    sasl_username: str = Field("", description="SASL user.")
    sasl_password: SecretStr = Field(SecretStr(""), description="SASL password.")
    max_poll_records: int = Field(1000, ge=1, description="Most records in one batch.")
    metadata_max_age_ms: int = Field(60_000, ge=100, description="New topics are found within this time.")
    session_timeout_ms: int = Field(
        45_000, ge=1000, description="A consumer silent for this long loses its partitions."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.security_protocol.startswith("SASL") and not self.sasl_username:
            raise ValueError("security_protocol asks for SASL, but sasl_username is empty")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        if self.ca_file and not self.security_protocol.endswith("SSL"):
            raise ValueError(f"ca_file is set, but security_protocol is {self.security_protocol}")
        return self


class RegistrySettings(Group):
    """Avro schema registry with the Confluent API."""

    url: str = Field("", description="Address of the registry.")
    ca_file: OptionalPath = Field(None, description="PEM file of the authorities that sign the registry's certificate.")
    certificate_file: OptionalPath = Field(None, description="PEM file of our client certificate.")
    key_file: OptionalPath = Field(None, description="PEM file of its private key.")
    username: str = Field("", description="User of basic authentication.")
    password: SecretStr = Field(SecretStr(""), description="Password of basic authentication.")
    timeout_seconds: float = Field(10, gt=0, description="Longest wait for an answer.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        return self


class OidcSettings(Group):
    """Who may create maps."""

    issuer: str = Field("", description="Issuer, exactly as in the `iss` claim.")
    audience: str = Field("flow-maps", min_length=1, description="Must be among the `aud` claim.")
    role: str = Field("akvo_flow_maps_client", min_length=1, description="Role that may create maps.")
    role_claim: str = Field("realm_access.roles", min_length=1, description="Path of the claim that lists roles.")
    algorithms: Words = Field(("RS256", "ES256"), description="Signature algorithms that are accepted.")
    jwks_url: str = Field("", description="Address of the keys; default: from the issuer's discovery document.")
    ca_file: OptionalPath = Field(None, description="PEM file of the authorities that sign the issuer's certificate.")
    leeway_seconds: int = Field(10, ge=0, le=300, description="Tolerated difference between clocks.")
    keys_lifetime_seconds: float = Field(3600, gt=0, description="Keys are fetched anew after this.")
    refresh_interval_seconds: float = Field(30, gt=0, description="Least time between two fetches of keys.")
    timeout_seconds: float = Field(5, gt=0, description="Longest wait for the issuer.")

    @field_validator("algorithms")
    @classmethod
    def _asymmetric(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        allowed = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
        if not value or not set(value) <= allowed:
            raise ValueError(f"algorithms must be among {', '.join(sorted(allowed))}")
        return value


class IngestSettings(Group):
    """The ingest process."""

    metrics_host: str = Field("127.0.0.1", description="Address of the metrics and health endpoint.")
    metrics_port: int = Field(
        9101, ge=0, le=65535, description="Port of `/metrics`, `/healthz`, `/readyz`; 0: any free."
    )
    die_on_uncaught_exception: bool = Field(
        True, description="Exit with status 1 on a defect, rather than stop silently."
    )
    client_id: str = Field(
        "", description="Kafka client id; default from `POD_NAMESPACE` and `POD_NAME`, else the host."
    )
    retry_seconds: Annotated[tuple[float, ...], BeforeValidator(_words)] = Field(
        (0.1, 1, 10), description="Waits between tries of a failed database action; then the tenant is paused."
    )
    on_gap: Literal["stop", "continue"] = Field(
        "stop",
        description="What a partition does whose next records Kafka no longer has: wait for `accept-gap`, or go on.",
    )
    rejected_bytes: int = Field(
        1_048_576, ge=1024, description="A rejected record's raw bytes are kept up to this size."
    )


class RenderSettings(Group):
    """Drawing of tiles in worker processes."""

    workers: int = Field(2, ge=1, description="Render worker processes.")
    queue: int = Field(64, ge=1, description="Most tiles waiting or being drawn; beyond: 503.")
    deadline_seconds: float = Field(
        10, gt=0, description="A tile not drawn by then is given up and its worker replaced."
    )
    cached_maps: int = Field(
        16, ge=1, description="Map objects a worker keeps; those of one tenant share a database connection."
    )
    cached_map_seconds: float = Field(60, gt=0, description="A map object unused for this long is dropped.")
    metatile: Literal[1, 2, 4, 8] = Field(2, description="Tiles drawn together, per side.")
    buffer_size_px: int = Field(64, ge=0, le=1024, description="Buffer around a raster or grid tile, in tile pixels.")
    mvt_buffer_size_px: int = Field(64, ge=0, le=1024, description="Buffer around a vector tile, in tile pixels.")
    scale_factors: Numbers = Field((1, 2), description="Scale factors of `@2x` and the like.")
    png_options: str = Field(
        "png:z=3",
        description="Mapnik's name of the default PNG encoding; `z` is zlib's level, where 3 costs half of 6.",
    )
    raster_formats: Words = Field(
        ("png", "png32", "png8", "jpg", "jpeg", "webp"), description="Image formats that tiles are offered in."
    )
    static_deadline_seconds: float = Field(
        50, gt=0, description="A static map not drawn by then is given up; its tiles have their own deadline."
    )
    static_at_once: int = Field(2, ge=1, description="Static maps drawn at the same time, per process; others wait.")
    font_directories: Words = Field((), description="More directories of fonts.")
    fallback_font: str = Field(
        "DejaVu Sans Book", min_length=1, description="Face drawn for the fonts of a style that are not installed."
    )
    asset_directory: OptionalPath = Field(
        None, description="Directory of the pictures that styles may use as markers, shields and patterns."
    )
    picture_directory: OptionalPath = Field(
        None,
        description="Where pictures that styles name by address are kept, each process in a folder of its own; "
        "default: the directory for temporary files.",
    )
    pictures: int = Field(1024, ge=1, description="Most such pictures kept; the one unused for longest goes first.")
    picture_bytes: int = Field(67_108_864, ge=1024, description="Most bytes of such pictures kept.")
    picture_seconds: float = Field(3600, gt=0, description="Such a picture is fetched anew after this.")
    picture_px: int = Field(1024, ge=1, le=2048, description="Longest side of such a picture, in pixels.")
    memory_mib: int = Field(1024, ge=128, description="Address space limit of a worker above its start, in MiB.")
    geojson_buffer_size_px: int = Field(16, ge=0, le=256, description="Buffer around a GeoJSON tile, in tile pixels.")
    variables: dict[str, str | bool | int | float] = Field(
        default_factory=dict,
        description='Render variables, JSON `{"NAME": value}` of texts, numbers and booleans: `!@NAME!` in SQL, '
        "`'@NAME'` in CartoCSS.",
    )

    @field_validator("variables")
    @classmethod
    def _usable_variables(cls, value: dict[str, str | bool | int | float]) -> dict[str, str | bool | int | float]:
        for name, content in value.items():
            if not _VARIABLE_NAME.fullmatch(name):
                raise ValueError(f"{name[:80]!r} is no name of a variable: letters, digits and _, at most 63 of them")
            if name in BUILT_IN_VARIABLES:
                raise ValueError(f"the variable {name} is set while drawing and cannot be set here")
            if isinstance(content, float) and not math.isfinite(content):
                raise ValueError(f"the variable {name} is no finite number")
            if _NO_TEXT.search(str(content)) or len(str(content)) > _MOST_VARIABLE_CHARS:
                text = f"characters that are no text, or more than {_MOST_VARIABLE_CHARS} of them"
                raise ValueError(f"the variable {name} holds {text}")
        return value


class ServeSettings(Group):
    """The HTTP server."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(3000, ge=0, le=65535, description="Port to listen on.")
    metrics_host: str = Field("127.0.0.1", description="Address of the metrics endpoint.")
    metrics_port: int = Field(9102, ge=0, le=65535, description="Port of `/metrics`; 0: any free.")
    public_url: str = Field("", description="Address as clients see it, for TileJSON; default: from the request.")
    layer_url_hosts: Words = Field(
        (),
        description="Hosts that layers and styles may fetch images from: `host`, `host:port`, `*.domain`, `*` for any.",
    )
    layer_url_networks: Words = Field(
        (), description="Private networks, as `10.0.0.0/8`, that such a host may lie in; by default none."
    )
    layer_url_timeout_seconds: float = Field(2, gt=0, description="Longest wait for such an image.")
    layer_url_bytes: int = Field(2_097_152, ge=1024, description="Largest such image.")
    layer_url_fallback_image: OptionalPath = Field(
        None, description="Image file for `http` layers of hosts that are not listed; without one they are an error."
    )
    enforce_map_zoom: bool = Field(True, description="Answer 404 outside the map's own `minzoom`/`maxzoom`.")
    viewer: bool = Field(True, description="Serve the viewer page.")


class ViewerSettings(Group):
    """What the viewer page offers its user; all of it is public."""

    token_url: str = Field("", description="Token endpoint that the page asks with client id and secret.")
    client_id: str = Field("", description="Client id that the page proposes.")
    topics: Words = Field((), description="Topics that the page offers to pick from.")


class LimitSettings(Group):
    """What a caller may ask for."""

    body_bytes: int = Field(1_048_576, ge=1024, description="Largest request body.")
    layers: int = Field(32, ge=1, description="Most layers of a map.")
    sql_bytes: int = Field(65_536, ge=256, description="Longest SQL of a layer.")
    cartocss_bytes: int = Field(262_144, ge=256, description="Longest CartoCSS of a layer.")
    maps_per_tenant: int = Field(10_000, ge=1, description="Most live maps of a tenant.")
    named_maps_per_tenant: int = Field(4096, ge=1, description="Most named maps of a tenant.")
    template_bytes: int = Field(262_144, ge=1024, description="Largest template of a named map, as JSON.")
    named_map_share: float = Field(
        0.5, gt=0, le=1, description="Part of `maps_per_tenant` up to which anybody may make instances of named maps."
    )
    map_lifetime_seconds: int = Field(2_592_000, ge=60, description="A map unused for this long expires.")
    static_image_px: int = Field(8192, ge=16, description="Largest side of a static image, in pixels.")
    pictures: int = Field(32, ge=0, description="Most pictures that the styles of a map name by address.")
    max_zoom: int = Field(30, ge=0, le=30, description="Deepest zoom of a tile address.")
    cluster_rows: int = Field(1000, ge=1, description="Most rows of one cell of aggregated points.")
    features_per_tile: int = Field(200_000, ge=1, description="Most features a layer may read for one tile.")


class LogSettings(Group):
    """Logs, one event a line on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level to write.")
    format: Literal["json", "console"] = Field("json", description="One JSON object a line, or text for people.")
    full_token: bool = Field(False, description="Write layergroup tokens in full instead of masking them.")


class Settings(Group):
    """All settings of one process."""

    secret_key: SecretStr = Field(
        min_length=16, description="Encrypts tenant credentials at rest and makes map tokens unguessable."
    )
    secret_key_previous: SecretStr | None = Field(
        None, description="The secret key before the current one, to read what it encrypted."
    )
    map_store: SecretStr = Field(SecretStr(""), description="`redis://…` or `rediss://…`; empty: the master database.")
    database: DatabaseSettings
    tenant: TenantSettings = TenantSettings()
    kafka: KafkaSettings = KafkaSettings()
    registry: RegistrySettings = RegistrySettings()
    oidc: OidcSettings = OidcSettings()
    ingest: IngestSettings = IngestSettings()
    render: RenderSettings = RenderSettings()
    serve: ServeSettings = ServeSettings()
    viewer: ViewerSettings = ViewerSettings()
    limit: LimitSettings = LimitSettings()
    log: LogSettings = LogSettings()

    @field_validator("map_store")
    @classmethod
    def _known_store(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if text and not text.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("map_store must be empty or start with redis://, rediss:// or unix://")
        return value

    @model_validator(mode="after")
    def _placed(self) -> Self:
        known = {"master", *self.tenant.servers}
        for name in (self.tenant.placement, *self.tenant.readers):
            if name not in known:
                raise ValueError(f"tenant server {name!r} is not among {', '.join(sorted(known))}")
        return self


ALIASES: dict[str, str] = {
    "DATABASE_URL": "FLOWMAPS_DATABASE_URL",
    "KAFKA_SERVERS": "FLOWMAPS_KAFKA_SERVERS",
    "KAFKA_SCHEMA_REGISTRY": "FLOWMAPS_REGISTRY_URL",
    "KEYCLOAK_URL": "FLOWMAPS_OIDC_ISSUER",
    "MAX_POLL_RECORDS": "FLOWMAPS_KAFKA_MAX_POLL_RECORDS",
    "METADATA_MAX_AGE_MS": "FLOWMAPS_KAFKA_METADATA_MAX_AGE_MS",
    "DIE_ON_UNCAUGHT_EXCEPTION": "FLOWMAPS_INGEST_DIE_ON_UNCAUGHT_EXCEPTION",
    "ENCRYPTION_KEY": "FLOWMAPS_SECRET_KEY",
}
"""Names of the replaced system; `POD_NAME` and `POD_NAMESPACE` together make the Kafka client id."""

JSON_SETTINGS = frozenset({"FLOWMAPS_TENANT_SERVERS", "FLOWMAPS_TENANT_READERS", "FLOWMAPS_RENDER_VARIABLES"})


def setting_names() -> dict[str, tuple[str, str]]:
    """Return every setting's environment name with its (group, field); the group is empty at the top level."""
    names: dict[str, tuple[str, str]] = {}
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Group):
            names |= {f"{PREFIX}{name}_{part}".upper(): (name, part) for part in kind.model_fields}
        else:
            names[f"{PREFIX}{name}".upper()] = ("", name)
    return names


def conninfo_from_jdbc(url: str) -> str:
    """Return a libpq URL for *url*, which may be in the form ``jdbc:postgresql://host/db?user=…&password=…&ssl=true``."""
    if not url.startswith("jdbc:"):
        return url
    parts = urlsplit(url.removeprefix("jdbc:"))
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if query.pop("ssl", "false").lower() == "true":
        query.setdefault("sslmode", "verify-full")
    return urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(query), ""))


def parse_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings that *environ* describes; raise `ConfigurationError` naming every wrong setting."""
    known = setting_names()
    given = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    if unknown := sorted(set(given) - set(known)):
        raise ConfigurationError(f"unknown setting {', '.join(unknown)}", names=tuple(unknown))
    for alias, name in ALIASES.items():
        if alias in environ:
            value = _from_alias(alias, environ[alias])
            if given.setdefault(name, value) != value:
                raise ConfigurationError(f"{name} and its alias {alias} contradict each other", names=(name, alias))
    if "POD_NAME" in environ:
        pod = "_".join(filter(None, (environ.get("POD_NAMESPACE"), environ["POD_NAME"])))
        given.setdefault("FLOWMAPS_INGEST_CLIENT_ID", pod)
    return _validate(given, known)


def _from_alias(alias: str, value: str) -> str:
    if alias == "KEYCLOAK_URL" and "/realms/" not in value:
        return f"{value.rstrip('/')}/realms/akvo"
    return value


def _validate(given: Mapping[str, str], known: Mapping[str, tuple[str, str]]) -> Settings:
    tree: dict[str, Any] = {"database": {}}
    for name, text in given.items():
        group, field = known[name]
        value: Any = _parse_json(name, text) if name in JSON_SETTINGS else text
        if group:
            tree.setdefault(group, {})[field] = value
        else:
            tree[field] = value
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        problems = {_name_of(problem["loc"]): problem["msg"] for problem in error.errors()}
        text = "; ".join(f"{name}: {message}" for name, message in problems.items())
        raise ConfigurationError(text, names=tuple(problems)) from None


def _parse_json(name: str, text: str) -> object:
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{name} is not JSON: {error}", names=(name,)) from None


def _name_of(location: tuple[int | str, ...]) -> str:
    return PREFIX + "_".join(str(part) for part in location[:2]).upper()


def load_settings(env_file: Path | None = None) -> Settings:
    """Return the settings of this process: its environment over *env_file* (default ``.env`` where it exists)."""
    path = env_file or Path(".env")
    if env_file is not None and not path.is_file():
        raise ConfigurationError(f"no such file: {path}")
    stored = {name: value for name, value in dotenv_values(path).items() if value is not None}
    return parse_settings(stored | dict(os.environ))
