"""Name every failure that Flow Maps reports, by who must act.

    FlowMapsError
    ├── CallerError                 the caller sent something wrong: do not repeat it unchanged
    │   ├── InvalidRequest
    │   ├── InvalidMapConfig
    │   │   ├── InvalidCartoCSS
    │   │   │   └── InvalidRamp
    │   │   └── InvalidSQL
    │   │       └── UnknownRelation
    │   ├── UnknownTenant
    │   ├── UnknownMap
    │   ├── UnknownFeature
    │   ├── TileOutOfRange
    │   ├── UnsupportedFormat
    │   ├── RequestTooLarge
    │   ├── Unauthenticated
    │   └── Forbidden
    ├── RecordError                 one Kafka record cannot be used: keep it and go on
    ├── TemporaryError              the operator, or time, must act: the same call may work later
    │   ├── DatabaseUnavailable
    │   ├── StoreUnavailable
    │   ├── IssuerUnavailable
    │   ├── RegistryUnavailable
    │   ├── BrokerUnavailable
    │   ├── RemoteUnavailable
    │   │   ├── RemoteRefused
    │   │   └── RemoteTimeout
    │   ├── TenantNotReady
    │   ├── RenderQueueFull
    │   ├── RenderTimeout
    │   ├── QueryTimeout
    │   └── RendererCrashed
    └── ConfigurationError          the operator must change a setting before the process can run

Anything else that is raised is a defect: it rises, and is logged once at the boundary.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple


class Position(NamedTuple):
    """A place in a text of the caller's; lines and columns count from 1."""

    line: int
    column: int


START = Position(1, 1)


class FlowMapsError(Exception):
    """A failure with a message fit to be shown to the one who must act."""

    retriable: ClassVar[bool] = False

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class CallerError(FlowMapsError):
    """The caller sent something wrong."""


class InvalidRequest(CallerError):
    """The request itself is malformed: body, content type, query or header; *member* names what."""

    def __init__(self, message: str, *, member: str | None = None) -> None:
        super().__init__(message)
        self.member = member


class InvalidMapConfig(CallerError):
    """The MapConfig breaks the contract; *member* is its JSON path, *layer* the zero-based layer index."""

    def __init__(
        self,
        message: str,
        *,
        member: str | None = None,
        layer: int | None = None,
        layer_id: str | None = None,
        layer_type: str | None = None,
        kind: str = "mapconfig",
        subtype: str | None = None,
    ) -> None:
        super().__init__(message)
        self.member = member
        self.layer = layer
        self.layer_id = layer_id
        self.layer_type = layer_type
        self.kind = kind
        self.subtype = subtype
        self.position: Position | None = None


class InvalidCartoCSS(InvalidMapConfig):
    """A layer's CartoCSS does not compile."""


class InvalidRamp(InvalidCartoCSS):
    """A TurboCARTO ramp cannot be resolved; *selector*, *start* and *end* say which one."""

    def __init__(self, message: str, *, selector: str = "", start: Position = START, end: Position = START) -> None:
        super().__init__(message, kind="layer", subtype="turbo-carto")
        self.selector = selector
        self.position = start
        self.start = start
        self.end = end


class InvalidSQL(InvalidMapConfig):
    """A layer's SQL is refused by the vetting or by PostgreSQL; *sqlstate* where the database spoke.

    *cursor* is PostgreSQL's own position in the statement that it was sent, which is not the caller's text.
    """

    def __init__(
        self,
        message: str,
        *,
        sqlstate: str | None = None,
        member: str | None = None,
        layer: int | None = None,
        layer_id: str | None = None,
        layer_type: str | None = None,
    ) -> None:
        super().__init__(
            message, member=member, layer=layer, layer_id=layer_id, layer_type=layer_type, kind="layer", subtype="query"
        )
        self.sqlstate = sqlstate
        self.cursor: int | None = None


class UnknownRelation(InvalidSQL):
    """A layer's SQL names a table, or its attributes name a column, that does not exist."""


class UnknownTenant(CallerError):
    """No datapoint of this topic ever arrived, so there is no tenant."""


class UnknownMap(CallerError):
    """The layergroup token names no stored map: never created, expired or revoked."""


class UnknownFeature(CallerError):
    """The attributes of a feature were asked for that the layer does not hold."""


class TileOutOfRange(CallerError):
    """The tile address lies outside the zoom's matrix, or the layer's zoom window."""


class UnsupportedFormat(CallerError):
    """No renderer makes this format for these layers; *status* 404 where the contract says so."""

    def __init__(self, message: str, *, not_found: bool = False) -> None:
        super().__init__(message)
        self.not_found = not_found


class RequestTooLarge(CallerError):
    """The request body is larger than the limit, in bytes."""


class Unauthenticated(CallerError):
    """No valid token came with the request."""


class Forbidden(CallerError):
    """The token is valid, but lacks the role; or the database denies the reader a privilege.

    *member* is the JSON path of the part of a MapConfig that is not for this caller.
    """

    def __init__(self, message: str, *, member: str | None = None) -> None:
        super().__init__(message)
        self.member = member


class RecordError(FlowMapsError):
    """One Kafka record cannot be decoded or stored; *reason* is a stable code for counting."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class TemporaryError(FlowMapsError):
    """Something outside is missing just now; *retry_after_seconds* says when to come back."""

    retriable = True

    def __init__(self, message: str, *, retry_after_seconds: int = 5) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class DatabaseUnavailable(TemporaryError):
    """PostgreSQL does not answer, or refuses more connections."""


class StoreUnavailable(TemporaryError):
    """The store of maps does not answer."""


class IssuerUnavailable(TemporaryError):
    """The OIDC issuer's keys cannot be fetched and none are cached."""


class RegistryUnavailable(TemporaryError):
    """The Avro schema registry does not answer."""


class BrokerUnavailable(TemporaryError):
    """Kafka does not answer."""


class RemoteUnavailable(TemporaryError):
    """A remote tile or image that a layer names cannot be fetched; *reason* says why, without the address."""

    def __init__(self, message: str, *, reason: str = "", retry_after_seconds: int = 5) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.reason = reason or message


class RemoteRefused(RemoteUnavailable):
    """The remote server works, but what it answers is no image for us: asking again soon changes nothing."""


class RemoteTimeout(RemoteUnavailable):
    """The remote server took longer than it may."""


class TenantNotReady(TemporaryError):
    """The tenant's database is still being created or migrated."""


class RenderQueueFull(TemporaryError):
    """The renderer queue is at its limit."""


class RenderTimeout(TemporaryError):
    """A tile was not drawn before its deadline."""


class QueryTimeout(TemporaryError):
    """A map's SQL ran into the statement timeout."""


class RendererCrashed(TemporaryError):
    """A render worker died while it drew this tile."""


class ConfigurationError(FlowMapsError):
    """A setting is missing, unknown or contradicts another; *names* are the settings' names."""

    def __init__(self, message: str, *, names: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.names = names
