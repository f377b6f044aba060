"""Verify the tokens of applications that create maps, against any OIDC issuer.

The issuer's keys are cached: fetched once for all who wait, kept while the issuer is away, and fetched anew for an
unknown key at a bounded rate. The algorithm is never taken from the token alone: it must be one that is configured.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx
import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import extract_compact
from prometheus_client import Counter

from flowmaps.errors import Forbidden, IssuerUnavailable, Unauthenticated
from flowmaps.settings import OidcSettings

MAX_TOKEN_CHARS = 16_384
_DISCOVERY = "/.well-known/openid-configuration"
_FETCHES = Counter("flowmaps_issuer_fetches", "Fetches of the issuer's keys.", ["result"])
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a valid token."""

    subject: str
    client: str


class TokenVerifier:
    """Checks bearer tokens; opened and closed as a context manager."""

    def __init__(
        self,
        settings: OidcSettings,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._client: httpx.AsyncClient | None = None
        self._keys: KeySet | None = None
        self._key_ids: frozenset[str] = frozenset()
        self._fetched = 0.0
        self._tried = -settings.refresh_interval_seconds
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=str(self._settings.ca_file) if self._settings.ca_file else None)
        self._client = httpx.AsyncClient(
            timeout=self._settings.timeout_seconds, verify=context, follow_redirects=False, trust_env=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def verify(self, authorization: str | None) -> Caller:
        """Return the caller that the header names.

        Raise `Unauthenticated` without a valid token, `Forbidden` without the role, and `IssuerUnavailable` where the
        issuer's keys cannot be had.
        """
        token = _bearer(authorization)
        claims = await self._claims(token)
        self._check_role(claims)
        return Caller(str(claims.get("sub", "")), str(claims.get("azp") or claims.get("client_id") or ""))

    async def ready(self) -> None:
        """Raise `IssuerUnavailable` where no keys are known and none can be fetched."""
        await self._key_set(None)

    async def _claims(self, token: str) -> Mapping[str, Any]:
        key_id = _key_id(token)
        keys = await self._key_set(key_id)
        settings = self._settings
        try:
            decoded = jwt.decode(token, keys, algorithms=list(settings.algorithms))
            registry = jwt.JWTClaimsRegistry(
                now=int(self._clock()),
                leeway=settings.leeway_seconds,
                iss={"essential": True, "value": settings.issuer},
                aud={"essential": True, "value": settings.audience},
                exp={"essential": True},
            )
            registry.validate(decoded.claims)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            # What exactly was wrong helps an operator and would help a forger: it goes to the log alone.
            _log.info("token refused", reason=type(error).__name__, detail=str(error)[:200])
            raise Unauthenticated("the token is not valid") from error
        return decoded.claims

    def _check_role(self, claims: Mapping[str, Any]) -> None:
        value: Any = claims
        for part in self._settings.role_claim.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        roles = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
        if self._settings.role not in roles:
            raise Forbidden(f"the token lacks the role {self._settings.role}")

    async def _key_set(self, key_id: str | None) -> KeySet:
        """Return the issuer's keys, fetched anew when they are old or lack *key_id*, at a bounded rate."""
        if self._keys is not None and not self._wants_refresh(key_id):
            return self._keys
        async with self._lock:
            if self._keys is not None and not self._wants_refresh(key_id):
                return self._keys
            waited = self._monotonic() - self._tried
            if self._keys is None and waited < 1:
                raise IssuerUnavailable("the issuer's keys cannot be fetched", retry_after_seconds=5)
            self._tried = self._monotonic()
            try:
                await self._fetch()
            except (httpx.HTTPError, ValueError, JoseError, KeyError, TypeError) as error:
                _FETCHES.labels(result="failed").inc()
                _log.warning("the issuer's keys cannot be fetched", error=repr(error)[:300])
                if self._keys is None:
                    raise IssuerUnavailable("the issuer's keys cannot be fetched", retry_after_seconds=5) from error
            else:
                _FETCHES.labels(result="ok").inc()
        if self._keys is None:
            raise IssuerUnavailable("the issuer's keys cannot be fetched", retry_after_seconds=5)
        return self._keys

    def _wants_refresh(self, key_id: str | None) -> bool:
        now = self._monotonic()
        if now - self._tried < self._settings.refresh_interval_seconds:
            return False
        is_old = now - self._fetched > self._settings.keys_lifetime_seconds
        return is_old or (key_id is not None and key_id not in self._key_ids)

    async def _fetch(self) -> None:
        if self._client is None:
            raise RuntimeError("the verifier was not entered")
        settings = self._settings
        url = settings.jwks_url
        if not url:
            document = await self._json(settings.issuer.rstrip("/") + _DISCOVERY)
            if document.get("issuer") != settings.issuer:
                raise ValueError(f"the discovery document names another issuer: {document.get('issuer')!r}")
            url = str(document["jwks_uri"])
        raw = await self._json(url)
        usable = [key for key in raw["keys"] if key.get("use", "sig") == "sig" and key.get("kty") != "oct"]
        self._keys = KeySet.import_key_set({"keys": usable})
        self._key_ids = frozenset(str(key.get("kid")) for key in usable)
        self._fetched = self._monotonic()

    async def _json(self, url: str) -> dict[str, Any]:
        if self._client is None:
            raise RuntimeError("the verifier was not entered")
        answer = await self._client.get(url)
        answer.raise_for_status()
        document = answer.json()
        if not isinstance(document, dict):
            raise TypeError(f"{url} does not answer with an object")
        return document


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("a bearer token is needed")
    if len(token) > MAX_TOKEN_CHARS or not token.isascii():
        raise Unauthenticated("the token is not valid")
    return token


def _key_id(token: str) -> str | None:
    """Return the key that the token says it is signed with; a hint for the cache and nothing more."""
    try:
        value = extract_compact(token.encode()).headers().get("kid")
    except (JoseError, ValueError, TypeError) as error:
        raise Unauthenticated("the token is not valid") from error
    return value if isinstance(value, str) else None
