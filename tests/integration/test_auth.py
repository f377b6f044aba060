"""Who may create maps: tokens of a real Keycloak, and forgeries of them."""

import base64
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from prometheus_client import REGISTRY

from flowmaps.api.auth import TokenVerifier
from flowmaps.errors import Forbidden, IssuerUnavailable, Unauthenticated
from flowmaps.settings import OidcSettings
from flowstack.keycloak import AUDIENCE, OTHER_AUDIENCE, ROLE, WITH_ROLE, WITHOUT_ROLE, Keycloak
from flowstack.processes import free_port


def settings_for(keycloak: Keycloak, **more: Any) -> OidcSettings:
    return OidcSettings(**({"issuer": keycloak.issuer, "audience": AUDIENCE, "role": ROLE} | more))


@pytest.fixture
async def verifier(keycloak: Keycloak) -> AsyncIterator[TokenVerifier]:
    async with TokenVerifier(settings_for(keycloak)) as opened:
        yield opened


def bearer(token: str) -> str:
    return f"Bearer {token}"


def fetches() -> float:
    return sum(REGISTRY.get_sample_value("flowmaps_issuer_fetches_total", {"result": r}) or 0 for r in ("ok", "failed"))


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = token.split(".")
    return decoded(header), decoded(claims)


def decoded(part: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return value


def encoded(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


async def test_a_token_with_the_role_is_let_in(verifier: TokenVerifier, keycloak: Keycloak) -> None:
    caller = await verifier.verify(bearer(keycloak.token()))
    assert caller.client == WITH_ROLE
    assert caller.subject


async def test_a_token_without_the_role_is_forbidden(verifier: TokenVerifier, keycloak: Keycloak) -> None:
    with pytest.raises(Forbidden, match=ROLE):
        await verifier.verify(bearer(keycloak.token(WITHOUT_ROLE)))


async def test_a_token_for_another_audience_is_refused(verifier: TokenVerifier, keycloak: Keycloak) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.verify(bearer(keycloak.token(OTHER_AUDIENCE)))


async def test_a_token_of_another_issuer_is_refused(keycloak: Keycloak) -> None:
    certificates = f"{keycloak.issuer}/protocol/openid-connect/certs"
    settings = settings_for(keycloak, issuer=keycloak.issuer + "-not", jwks_url=certificates)
    async with TokenVerifier(settings) as verifier:
        with pytest.raises(Unauthenticated):
            await verifier.verify(bearer(keycloak.token()))


async def test_an_expired_token_is_refused(keycloak: Keycloak) -> None:
    token = keycloak.token()
    expires = parts_of(token)[1]["exp"]
    settings = settings_for(keycloak, leeway_seconds=0)
    async with TokenVerifier(settings, clock=lambda: expires - 1) as verifier:
        await verifier.verify(bearer(token))
    async with TokenVerifier(settings, clock=lambda: expires + 1) as verifier:
        with pytest.raises(Unauthenticated):
            await verifier.verify(bearer(token))


async def test_a_token_of_the_future_is_refused(keycloak: Keycloak) -> None:
    token = keycloak.token()
    issued = parts_of(token)[1]["iat"]
    async with TokenVerifier(settings_for(keycloak, leeway_seconds=5), clock=lambda: issued - 3600) as verifier:
        with pytest.raises(Unauthenticated):
            await verifier.verify(bearer(token))


async def test_a_token_signed_by_another_key_is_refused(verifier: TokenVerifier, keycloak: Keycloak) -> None:
    header, claims = parts_of(keycloak.token())
    forged = jwt.encode({"alg": "RS256", "kid": header["kid"]}, claims, RSAKey.generate_key(2048))
    with pytest.raises(Unauthenticated):
        await verifier.verify(bearer(forged))


async def test_a_changed_claim_breaks_the_signature(verifier: TokenVerifier, keycloak: Keycloak) -> None:
    token = keycloak.token(WITHOUT_ROLE)
    header, claims = parts_of(token)
    claims["realm_access"] = {"roles": [ROLE]}
    with pytest.raises(Unauthenticated):
        await verifier.verify(bearer(f"{encoded(header)}.{encoded(claims)}.{token.split('.')[2]}"))


async def test_a_token_without_signature_is_refused(verifier: TokenVerifier, keycloak: Keycloak) -> None:
    header, claims = parts_of(keycloak.token())
    for algorithm in ("none", "None", "NONE"):
        token = f"{encoded(header | {'alg': algorithm})}.{encoded(claims)}."
        with pytest.raises(Unauthenticated):
            await verifier.verify(bearer(token))


async def test_the_public_key_is_no_shared_secret(verifier: TokenVerifier, keycloak: Keycloak) -> None:
    """The classic confusion of algorithms: HS256 with the public key as its secret."""
    header, claims = parts_of(keycloak.token())
    async with httpx.AsyncClient() as client:
        keys = (await client.get(f"{keycloak.issuer}/protocol/openid-connect/certs")).json()["keys"]
    public = RSAKey.import_key(next(key for key in keys if key["kid"] == header["kid"])).as_pem(private=False)
    secret = OctKey.import_key(base64.urlsafe_b64encode(public).decode())
    forged = jwt.encode({"alg": "HS256", "kid": header["kid"]}, claims, secret)
    with pytest.raises(Unauthenticated):
        await verifier.verify(bearer(forged))


async def test_an_algorithm_that_is_not_configured_is_refused(keycloak: Keycloak) -> None:
    async with TokenVerifier(settings_for(keycloak, algorithms=("ES256",))) as verifier:
        with pytest.raises(Unauthenticated):
            await verifier.verify(bearer(keycloak.token()))


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer x.y.z", "Bearer ..", "Bearer " + "a" * 20_000, "Bearer é.é.é"],
)
async def test_what_is_no_token_is_refused(verifier: TokenVerifier, header: str | None) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.verify(header)


@pytest.fixture(scope="module")
def own_issuer() -> Iterator[tuple[str, ECKey]]:
    """An issuer whose key the test has: Keycloak makes no token with claims of an odd shape."""
    key = ECKey.generate_key("P-256", {"kid": "own", "use": "sig"})
    body = json.dumps({"keys": [key.as_dict(private=False)]}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/keys", key
        server.shutdown()
        thread.join()


async def verify_own(own_issuer: tuple[str, ECKey], claims: dict[str, Any]) -> None:
    url, key = own_issuer
    whole = {"iss": "own", "aud": AUDIENCE, "exp": int(time.time()) + 60, "sub": "s"} | claims
    token = jwt.encode({"alg": "ES256", "kid": "own"}, {k: v for k, v in whole.items() if v is not ...}, key)
    async with TokenVerifier(OidcSettings(issuer="own", jwks_url=url)) as verifier:
        await verifier.verify(bearer(token))


@pytest.mark.parametrize("audience", [AUDIENCE, ["account", AUDIENCE]])
async def test_elliptic_curves_and_lists_of_audiences_are_taken(
    own_issuer: tuple[str, ECKey], audience: str | list[str]
) -> None:
    await verify_own(own_issuer, {"realm_access": {"roles": [ROLE]}, "aud": audience})


@pytest.mark.parametrize("claims", [{"realm_access": None}, {"realm_access": {"roles": "x"}}, {"realm_access": []}, {}])
async def test_claims_of_an_odd_shape_are_no_role(own_issuer: tuple[str, ECKey], claims: dict[str, Any]) -> None:
    with pytest.raises(Forbidden):
        await verify_own(own_issuer, claims)


@pytest.mark.parametrize(
    "claims", [{"exp": ...}, {"iss": ...}, {"aud": ...}, {"exp": "soon"}, {"nbf": 4_000_000_000}, {"aud": "flow"}]
)
async def test_a_token_must_say_for_whom_by_whom_and_until_when(
    own_issuer: tuple[str, ECKey], claims: dict[str, Any]
) -> None:
    with pytest.raises(Unauthenticated):
        await verify_own(own_issuer, {"realm_access": {"roles": [ROLE]}} | claims)


async def test_another_claim_may_list_the_roles(keycloak: Keycloak) -> None:
    settings = settings_for(keycloak, role_claim="scope", role="email")
    async with TokenVerifier(settings) as verifier:
        claims = parts_of(keycloak.token())[1]
        assert "email" in claims["scope"].split()
        await verifier.verify(bearer(keycloak.token()))


async def test_an_issuer_that_stops_is_not_missed_while_its_keys_are_known(keycloak: Keycloak) -> None:
    token = keycloak.token()
    known = TokenVerifier(settings_for(keycloak, keys_lifetime_seconds=1, refresh_interval_seconds=1))
    async with known, TokenVerifier(settings_for(keycloak)) as unknown:
        await known.verify(bearer(token))
        keycloak.stop()
        try:
            await known.verify(bearer(token))
            with pytest.raises(IssuerUnavailable) as raised:
                await unknown.verify(bearer(token))
        finally:
            keycloak.start()
        assert raised.value.retry_after_seconds > 0
        await known.verify(bearer(keycloak.token()))


async def test_an_issuer_that_never_answers_is_unavailable() -> None:
    settings = OidcSettings(issuer=f"http://127.0.0.1:{free_port()}/realms/none")
    token = f"{encoded({'alg': 'RS256', 'kid': 'k'})}.{encoded({})}.AAAA"
    async with TokenVerifier(settings) as verifier:
        with pytest.raises(IssuerUnavailable):
            await verifier.verify(bearer(token))
        with pytest.raises(IssuerUnavailable):
            await verifier.ready()


async def test_unknown_key_ids_do_not_make_the_issuer_busy(keycloak: Keycloak) -> None:
    """Each forged key id could mean that the issuer has new keys; asking is bounded all the same."""
    async with TokenVerifier(settings_for(keycloak)) as verifier:
        token = keycloak.token()
        await verifier.verify(bearer(token))
        before = fetches()
        _, claims = parts_of(token)
        for number in range(50):
            forged = f"{encoded({'alg': 'RS256', 'kid': f'forged{number}'})}.{encoded(claims)}.AAAA"
            with pytest.raises(Unauthenticated):
                await verifier.verify(bearer(forged))
        assert fetches() == before
