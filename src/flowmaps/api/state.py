"""What requests share: opened at the start of the application, closed at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from starlette.requests import Request

from flowmaps.api.auth import TokenVerifier
from flowmaps.maps import Services


@dataclass(frozen=True, slots=True)
class State:
    """The services of the use cases, and who checks tokens."""

    services: Services
    verifier: TokenVerifier


def state_of(request: Request) -> State:
    return cast("State", request.state.flowmaps)
