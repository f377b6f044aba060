"""Keycloak with an imported realm: clients with and without the role."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import httpx

from flowstack.maven import keycloak_folder
from flowstack.processes import Server, free_port

REALM = "akvo"
ROLE = "akvo_flow_maps_client"
AUDIENCE = "flow-maps"
SECRET = "keycloak-secret"
WITH_ROLE, WITHOUT_ROLE, OTHER_AUDIENCE = "flow-maps-client", "without-role", "other-audience"


def _client(name: str, audience: str) -> dict[str, Any]:
    return {
        "clientId": name,
        "secret": SECRET,
        "serviceAccountsEnabled": True,
        "standardFlowEnabled": False,
        "publicClient": False,
        "webOrigins": ["*"],
        "protocolMappers": [
            {
                "name": "audience",
                "protocol": "openid-connect",
                "protocolMapper": "oidc-audience-mapper",
                "config": {"included.custom.audience": audience, "access.token.claim": "true"},
            }
        ],
    }


def realm() -> dict[str, Any]:
    """Return the realm that is imported."""
    roles = {WITH_ROLE: [ROLE], WITHOUT_ROLE: [], OTHER_AUDIENCE: [ROLE]}
    return {
        "realm": REALM,
        "enabled": True,
        "sslRequired": "none",
        "roles": {"realm": [{"name": ROLE}]},
        "clients": [
            _client(WITH_ROLE, AUDIENCE),
            _client(WITHOUT_ROLE, AUDIENCE),
            _client(OTHER_AUDIENCE, "somebody-else"),
        ],
        "users": [
            {
                "username": f"service-account-{name}",
                "enabled": True,
                "serviceAccountClientId": name,
                "realmRoles": names,
            }
            for name, names in roles.items()
        ],
    }


class Keycloak:
    """A server with the realm `akvo`."""

    def __init__(self, folder: Path) -> None:
        home = folder / "keycloak"
        shutil.copytree(keycloak_folder(), home, symlinks=True)
        imported = home / "data" / "import"
        imported.mkdir(parents=True)
        (imported / f"{REALM}.json").write_text(json.dumps(realm()))
        self._port = free_port()
        environment = {
            "JAVA_OPTS_KC_HEAP": "-Xms128m -Xmx384m",
            # It lives for minutes: what matters is how soon it answers.
            "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1",
            "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
            "KC_BOOTSTRAP_ADMIN_PASSWORD": SECRET,
            "PATH": os.environ.get("PATH", ""),
        }
        command: list[str | Path] = [
            home / "bin" / "kc.sh", "start", "--optimized", "--import-realm", "--http-enabled=true", "--cache=local",
            "--hostname-strict=false", "--http-host=127.0.0.1", f"--http-port={self._port}",
        ]  # fmt: skip
        self._server = Server(
            "keycloak", command, folder=home, ready=self._is_ready, environment=environment, seconds=300
        )

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.issuer}/protocol/openid-connect/certs", timeout=5).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self._port}/realms/{REALM}"

    @property
    def token_url(self) -> str:
        return f"{self.issuer}/protocol/openid-connect/token"

    def token(self, client: str = WITH_ROLE) -> str:
        """Return an access token of one of the clients."""
        answer = httpx.post(
            self.token_url, data={"grant_type": "client_credentials"}, auth=(client, SECRET), timeout=30
        )
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()
