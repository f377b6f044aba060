"""Fetch images that a map's layers name, from the hosts that the operator lists, and from nowhere else.

The rules against misuse as a way into a private network: only listed hosts; the address that a name stands for is
resolved here, checked, and then connected to, so that a second answer of the name server changes nothing; private
addresses only inside listed networks; no redirects, no proxy of the environment, a deadline and a largest size.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

import httpx
import structlog

from flowmaps.errors import ConfigurationError, InvalidMapConfig, RemoteRefused, RemoteTimeout, RemoteUnavailable
from flowmaps.settings import ServeSettings

MOST_AT_ONCE = 32
MOST_KEPT = 32
KEPT_SECONDS = 60.0
_PORTS = {"http": 80, "https": 443}
_PASSING = frozenset((httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY, httpx.codes.TOO_MANY_REQUESTS))
"""Statuses below 500 that time heals."""
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port → addresses; a test may put another name server there."""
_log = structlog.get_logger()


class NotListed(InvalidMapConfig):
    """The operator does not list the host that a layer names."""


class RemoteImages:
    """Fetches bodies over HTTP; opened and closed as a context manager."""

    def __init__(self, settings: ServeSettings, *, resolve: Resolve | None = None) -> None:
        self._resolver = resolve or _addresses_of
        self._hosts = frozenset(host.lower() for host in settings.layer_url_hosts)
        self._networks = _networks(settings.layer_url_networks)
        self._timeout = settings.layer_url_timeout_seconds
        self._most_bytes = settings.layer_url_bytes
        self._slots = asyncio.Semaphore(MOST_AT_ONCE)
        self._client: httpx.AsyncClient | None = None
        self._kept: dict[str, tuple[float, asyncio.Task[bytes]]] = {}
        self.fallback = _fallback(settings)

    async def __aenter__(self) -> Self:
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            timeout=self._timeout,
            limits=httpx.Limits(max_connections=MOST_AT_ONCE, max_keepalive_connections=8),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for _until, task in self._kept.values():
            task.cancel()
        if self._client is not None:
            await self._client.aclose()

    def check_listed(self, url: str) -> httpx.URL:
        """Return *url* parsed; raise `NotListed` unless its host is listed."""
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, ValueError) as error:
            raise NotListed(f"not an address: {url[:200]}") from error
        host = parsed.host.lower()
        if parsed.scheme not in _PORTS or not host or parsed.userinfo:
            raise NotListed(f"not an address that is fetched: {url[:200]}")
        port = parsed.port or _PORTS[parsed.scheme]
        with_port = f"{host}:{port}"
        is_usual = port == _PORTS[parsed.scheme]
        parents = [host.partition(".")[2]] if "." in host else []
        names = [host, "*", *(f"*.{parent}" for parent in _parents(parents))] if is_usual else []
        if with_port not in self._hosts and not self._hosts.intersection(names):
            raise NotListed(f"the host {host} is not among those that layers may be fetched from")
        return parsed

    async def fetch(self, url: str) -> bytes:
        """Return the body at *url*; raise `NotListed`, `RemoteTimeout`, `RemoteRefused` or `RemoteUnavailable`."""
        parsed = self.check_listed(url)
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                return await self._get(parsed, url)
        except (TimeoutError, httpx.TimeoutException) as error:
            text = f"Unable to fetch http tile: {url} [ETIMEDOUT]"
            raise RemoteTimeout(text, reason="the server took too long") from error
        except httpx.DecodingError as error:
            text = f"Unable to fetch http tile: {url}"
            raise RemoteRefused(text, reason="the answer cannot be decompressed") from error
        except (httpx.HTTPError, OSError) as error:
            _log.info("a remote image cannot be fetched", url=url, error=repr(error))
            text = f"Unable to fetch http tile: {url}"
            raise RemoteUnavailable(text, reason="the server cannot be reached") from error

    async def fetch_kept(self, url: str) -> bytes:
        """Return the body at *url* as `fetch` does, for all who ask within a minute."""
        now = time.monotonic()
        known = self._kept.get(url)
        if known is None or known[0] <= now:
            while len(self._kept) >= MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
            known = (now + KEPT_SECONDS, asyncio.create_task(self.fetch(url)))
            self._kept[url] = known
            known[1].add_done_callback(lambda task: self._forget_failure(url, task))
        # One who goes away must not take the image from the others.
        return await asyncio.shield(known[1])

    def _forget_failure(self, url: str, task: asyncio.Task[bytes]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._kept.pop(url, None)

    async def _get(self, parsed: httpx.URL, url: str) -> bytes:
        if self._client is None:
            raise RuntimeError("the client was not entered")
        address = await self._resolve(parsed, url)
        host = parsed.netloc.decode("ascii")
        request = self._client.build_request(
            "GET",
            parsed.copy_with(host=str(address)),
            headers={"Host": host, "Accept": "image/*", "User-Agent": "flow-maps"},
            # The certificate must be the name's, although the connection goes to the address.
            extensions={"sni_hostname": parsed.host},
        )
        answer = await self._client.send(request, stream=True)
        try:
            if answer.status_code != httpx.codes.OK:
                is_passing = answer.is_server_error or answer.status_code in _PASSING
                text = f"Unable to fetch http tile: {url} [{answer.status_code}]"
                reason = f"server returned {answer.status_code}"
                raise (RemoteUnavailable if is_passing else RemoteRefused)(text, reason=reason)
            body = bytearray()
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > self._most_bytes:
                    reason = f"more than {self._most_bytes} bytes"
                    raise RemoteRefused(f"Unable to fetch http tile: {url} [{reason}]", reason=reason)
            return bytes(body)
        finally:
            await answer.aclose()

    async def _resolve(self, parsed: httpx.URL, url: str) -> _Address:
        """Return the address to connect to; every address that the name stands for must be one that is allowed."""
        port = parsed.port or _PORTS[parsed.scheme]
        addresses = [ipaddress.ip_address(text) for text in await self._resolver(parsed.host, port)]
        if not addresses or not all(self._is_allowed(address) for address in addresses):
            _log.warning("a layer names a private address", url=url)
            text = f"Unable to fetch http tile: {url}"
            raise RemoteRefused(text, reason="its host has an address that nothing is fetched from")
        return addresses[0]

    def _is_allowed(self, address: _Address) -> bool:
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address.version == network.version and address in network for network in self._networks):
            return True
        return address.is_global and not address.is_multicast


async def _addresses_of(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def _fallback(settings: ServeSettings) -> bytes | None:
    """Return the image that stands for http layers of hosts that are not listed."""
    path = settings.layer_url_fallback_image
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        name = "FLOWMAPS_SERVE_LAYER_URL_FALLBACK_IMAGE"
        raise ConfigurationError(f"{name}: {error}", names=(name,)) from error


def _parents(names: Sequence[str]) -> list[str]:
    """Return a name's parent domains, the nearest first: ``a.b.c`` gives ``b.c`` and ``c``."""
    found = list(names)
    while found and "." in found[-1]:
        found.append(found[-1].partition(".")[2])
    return found


def _networks(texts: Sequence[str]) -> tuple[_Network, ...]:
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError as error:
        name = "FLOWMAPS_SERVE_LAYER_URL_NETWORKS"
        raise ConfigurationError(f"{name}: {error}", names=(name,)) from error
