"""Neighbours by mDNS, and the addresses that worked last.

Discovery is a hint, nothing more: whoever is on the network can announce anything, so what is found
here is only where to try to connect. Nor is it liveness: a killed peer stays listed for over an
hour. An instance name carries a random part, so that a restarted peer never clashes with what the
network remembers of it; who it is stands in the TXT record.
"""

import asyncio
import ipaddress
import json
import re
import secrets
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
import structlog
from zeroconf import Error, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from tallynode import __version__
from tallynode.edge.storage import atomic_write
from tallynode.errors import IoError

SERVICE = "_tallynode._tcp.local."
LOOKUPS_MAX = 256  # names being resolved at once; bounds what a noisy network can start
HOSTS_MAX = 4  # addresses of one announcement; the links keep a few for each neighbour
LOOKUP_MS = 3000  # milliseconds; a later announcement starts a new lookup
ADDRESSES_MAX = 256  # peers remembered; the most that a mesh has
_LABEL_PART = 24  # characters of peer and mesh; DNS labels end at 63 bytes

_NAME = re.compile(r"[a-z0-9-]{1,32}")

OnFound = Callable[[str, str, int], None]

log = structlog.get_logger(__name__)


class Discovery:
    """Announces one peer and reports the others of its mesh."""

    def __init__(
        self,
        me: str,
        mesh: str,
        host: str,
        port: int,
        on_found: OnFound,
        interfaces: list[str] | None = None,
    ) -> None:
        """Prepare, without touching the network.

        Args:
            me: this peer's name.
            mesh: the mesh's name, or its realm; others are ignored.
            host: where the outbox listens; 0.0.0.0 announces this host's addresses.
            port: the outbox's TCP port.
            on_found: called in the event loop with (peer, host, port), again at every change; where
                there are several hosts, for each, the likeliest last.
            interfaces: addresses to speak mDNS on; None: those that belong to `host`.
        """
        self._me = me
        self._mesh = mesh
        self._host = host
        self._port = port
        self._on_found = on_found
        self._interfaces = interfaces
        self._announced: list[str] = []
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._said: tuple[str, str] | None = None  # why it does not work, as said last

    async def start(self) -> bool:
        """Announce and browse; False, with a warning, where multicast does not work here."""
        self._announced = _own_addresses(self._host)
        if not self._announced:
            if _everywhere(self._host):
                return self._off("discovery off: no network yet", "this device has no address")
            return self._off("discovery off: it speaks IPv4 only", self._host)
        try:
            # zeroconf raises RuntimeError where there is no interface at all
            self._zeroconf = AsyncZeroconf(
                interfaces=self._interfaces or self._announced, ip_version=IPVersion.V4Only
            )
            await self._zeroconf.zeroconf.async_wait_for_start()
            self._browser = AsyncServiceBrowser(
                self._zeroconf.zeroconf, SERVICE, handlers=[self._on_change]
            )
            # The random name needs no probing for clashes, which would take most of a second.
            announcing = await self._zeroconf.async_register_service(
                self._service(), cooperating_responders=True
            )
        except (OSError, RuntimeError, Error) as error:
            await self.stop()
            return self._off("discovery off: static addresses only", str(error) or repr(error))
        self._tasks["announcing"] = asyncio.ensure_future(_finish(announcing))
        self._said = None
        if _everywhere(self._host) and _only_loopback(self._announced):
            log.warning("no network yet: found by peers on this device only")
        return True

    async def stop(self) -> None:
        """Say goodbye and close the sockets."""
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()
        if self._browser is not None:
            await self._browser.async_cancel()
            self._browser = None
        if self._zeroconf is not None:
            try:
                await self._zeroconf.async_close()
            except (OSError, Error) as error:
                log.debug("discovery closed badly", why=str(error) or repr(error))
            self._zeroconf = None

    async def refresh(self) -> bool:
        """Start again if this host's addresses changed (Wi-Fi came up) or it never worked."""
        if self._zeroconf is not None and _own_addresses(self._host) == self._announced:
            return True
        await self.stop()
        works = await self.start()
        if works:
            log.info("announced anew: this device's addresses changed", addresses=self._announced)
        return works

    def _off(self, event: str, why: str) -> bool:
        """Say why it does not work, once however often it is tried; always False."""
        if self._said != (event, why):
            log.warning(event, why=why)
            self._said = event, why
        return False

    def _service(self) -> AsyncServiceInfo:
        label = f"{self._me[:_LABEL_PART]}-{self._mesh[:_LABEL_PART]}-{secrets.token_hex(4)}"
        return AsyncServiceInfo(
            SERVICE,
            f"{label}.{SERVICE}",
            port=self._port,
            parsed_addresses=self._announced,
            server=f"{label}.local.",
            properties={"mesh": self._mesh, "peer": self._me, "version": __version__},
        )

    def _on_change(
        self,
        zeroconf: Zeroconf,
        service_type: str,
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        if state_change is ServiceStateChange.Removed:
            return
        try:
            info = AsyncServiceInfo(service_type, name)
            cached = info.load_from_cache(zeroconf)
        except Error as error:  # a name that is none; raised here, it would end all browsing
            log.debug("discovery: malformed record", name=name, why=str(error) or repr(error))
            return
        if cached:
            self._report(info)
        elif name not in self._tasks and len(self._tasks) < LOOKUPS_MAX:
            task = asyncio.ensure_future(self._look_up(zeroconf, info))
            self._tasks[name] = task
            task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def _look_up(self, zeroconf: Zeroconf, info: AsyncServiceInfo) -> None:
        try:
            found = await info.async_request(zeroconf, LOOKUP_MS)
        except (OSError, Error) as error:
            log.debug("discovery lookup failed", name=info.name, why=str(error) or repr(error))
            return
        if found:
            self._report(info)

    def _report(self, info: AsyncServiceInfo) -> None:
        text = info.decoded_properties
        peer = text.get("peer")
        if text.get("mesh") != self._mesh or peer == self._me or not info.port:
            return
        if peer is None or not _NAME.fullmatch(peer):  # anybody can announce anything
            return
        likeliest = _likeliest(info.parsed_addresses(IPVersion.V4Only))[:HOSTS_MAX]
        for host in reversed(likeliest):
            self._on_found(peer, host, info.port)


class AddressBook:
    """Where each peer was last reached, kept in a small JSON file.

    `remember` only notes. `save` writes if something changed; it may take the time of a slow disk:
    call it in a thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._addresses = _read_addresses(path)
        self._changed = False

    @property
    def changed(self) -> bool:
        """Whether there is something to save."""
        return self._changed

    def get(self, peer: str) -> tuple[str, int] | None:
        """Return the host and port that last worked for a peer."""
        return self._addresses.get(peer)

    def remember(self, peer: str, host: str, port: int) -> None:
        """Note an address that worked."""
        known = peer in self._addresses or len(self._addresses) < ADDRESSES_MAX
        if known and self._addresses.get(peer) != (host, port):
            self._addresses[peer] = (host, port)
            self._changed = True

    def save(self) -> None:
        """Write the file if an address changed; IoError where that cannot be."""
        if self._changed:
            self._changed = False  # first, so that an address noted from here on is a change again
            text = json.dumps(dict(self._addresses), indent=1, sort_keys=True)
            try:
                atomic_write(self._path, text.encode())
            except IoError:
                self._changed = True
                raise


def _read_addresses(path: Path) -> dict[str, tuple[str, int]]:
    # A hint that can be learnt again: what cannot be read is dropped with a warning.
    try:
        entries: Any = json.loads(path.read_bytes())
        return {
            str(peer): (str(host), int(port))
            for peer, (host, port) in list(entries.items())[:ADDRESSES_MAX]
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("last-known addresses dropped", file=str(path), why=str(error))
        return {}


async def _finish(announcing: Any) -> None:
    try:
        await announcing
    except (OSError, Error) as error:
        log.warning("discovery: announcement failed", why=str(error) or repr(error))


def _interface_networks() -> list[ipaddress.IPv4Interface]:
    return [
        ipaddress.IPv4Interface(f"{address.address}/{address.netmask or 32}")
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET
    ]


def _everywhere(host: str) -> bool:
    return ipaddress.ip_address(host).is_unspecified


def _only_loopback(addresses: Iterable[str]) -> bool:
    return all(ipaddress.ip_address(address).is_loopback for address in addresses)


def _own_addresses(host: str) -> list[str]:
    """Return the IPv4 addresses at which a listener bound to `host` can be reached."""
    if not _everywhere(host):
        return [host] if ipaddress.ip_address(host).version == 4 else []
    own = [interface.ip for interface in _interface_networks()]
    return [str(ip) for ip in own if not ip.is_loopback] or [str(ip) for ip in own]


def _likeliest(addresses: Iterable[str]) -> list[str]:
    """Return the addresses most likely to lead there first: on a network of ours, not our own."""
    own = _interface_networks()

    def rank(address: str) -> int:
        ip = ipaddress.IPv4Address(address)
        if any(ip == interface.ip for interface in own):
            return 1  # a peer on this host, or an address that every host has (a bridge)
        return 0 if any(ip in interface.network for interface in own) else 2

    return sorted(addresses, key=rank)
