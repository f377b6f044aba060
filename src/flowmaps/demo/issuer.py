"""Issue tokens for the demo: an OIDC issuer with one client, for one machine, for one run.

It speaks the three endpoints that Flow Maps and its viewer use: discovery, keys, and the client credentials grant. Its
key lives in memory only, so its tokens end with the process.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote

from joserfc import jwt
from joserfc.jwk import ECKey

_TOKEN_SECONDS = 300
_BODY_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Issuer:
    """A running development issuer."""

    url: str
    client_id: str
    client_secret: str

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"


class _Realm:
    """One client, one signing key, and what the endpoints answer."""

    def __init__(self, client_id: str, client_secret: str, audience: str, role: str) -> None:
        self._key = ECKey.generate_key("P-256", parameters={"kid": uuid.uuid4().hex, "use": "sig", "alg": "ES256"})
        self._client = (client_id, client_secret)
        self._audience = audience
        self._role = role

    def token(self, url: str, form: dict[str, str], given: tuple[str, str]) -> tuple[HTTPStatus, dict[str, object]]:
        """Return the token endpoint's answer to client credentials *given*. Source: RFC 6749, 4.4."""
        if form.get("grant_type") != "client_credentials":
            return HTTPStatus.BAD_REQUEST, {"error": "unsupported_grant_type"}
        if not all(hmac.compare_digest(a.encode(), b.encode()) for a, b in zip(given, self._client, strict=True)):
            return HTTPStatus.UNAUTHORIZED, {"error": "invalid_client", "error_description": "wrong id or secret"}
        now = int(time.time())
        claims = {
            "iss": url,
            "aud": self._audience,
            "sub": given[0],
            "azp": given[0],
            "iat": now,
            "exp": now + _TOKEN_SECONDS,
            "jti": uuid.uuid4().hex,
            "realm_access": {"roles": [self._role]},
        }
        token = jwt.encode({"alg": "ES256", "kid": self._key.kid}, claims, self._key)
        return HTTPStatus.OK, {"access_token": token, "token_type": "Bearer", "expires_in": _TOKEN_SECONDS}

    def document(self, url: str, path: str) -> dict[str, object] | None:
        """Return the discovery document or the public keys, or None where *path* is neither."""
        if path == "/jwks":
            return {"keys": [self._key.as_dict(private=False)]}
        if path == "/.well-known/openid-configuration":
            return {
                "issuer": url,
                "jwks_uri": f"{url}/jwks",
                "token_endpoint": f"{url}/token",
                "grant_types_supported": ["client_credentials"],
            }
        return None


@contextmanager
def development_issuer(client_id: str, client_secret: str, *, audience: str, role: str) -> Iterator[Issuer]:
    """Yield an issuer on a free loopback port whose tokens carry *role* at ``realm_access.roles``."""
    with _Server(_Realm(client_id, client_secret, audience, role)) as server:
        thread = Thread(target=server.serve_forever, name="issuer", daemon=True)
        thread.start()
        try:
            yield Issuer(server.url, client_id, client_secret)
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    def __init__(self, realm: _Realm) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.realm = realm
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    """HTTP around the realm; any origin may ask, since the page's port differs from the issuer's."""

    server: _Server

    def _credentials(self, form: dict[str, str]) -> tuple[str, str]:
        """Return client id and secret from HTTP basic authentication or the form. Source: RFC 6749, 2.3.1."""
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                name, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
            except ValueError:
                return "", ""
            return unquote(name), unquote(secret)
        return form.get("client_id", ""), form.get("client_secret", "")

    def do_GET(self) -> None:
        body = self.server.realm.document(self.server.url, self.path)
        self._send(HTTPStatus.OK, body) if body else self._send(HTTPStatus.NOT_FOUND, {"error": "not_found"})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != "/token" or not length.isdecimal() or int(length) > _BODY_BYTES:
            self._send(HTTPStatus.BAD_REQUEST, {"error": "invalid_request"})
            return
        body = self.rfile.read(int(length)).decode(errors="replace")
        form = {name: values[0] for name, values in parse_qs(body).items()}
        self._send(*self.server.realm.token(self.server.url, form, self._credentials(form)))

    def do_OPTIONS(self) -> None:
        self._send(HTTPStatus.NO_CONTENT, None)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Write nothing: the demo's own progress is what its user reads."""

    def _send(self, status: HTTPStatus, body: dict[str, object] | None) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Allow-Headers", "Authorization, Content-Type")
        self.end_headers()
        self.wfile.write(content)
