"""Where a peer's neighbours are: by the file, by the book of last addresses, and by mDNS."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import structlog

from tallynode.config import Mesh
from tallynode.edge.broker import MQTT_PORT, shared_endpoint
from tallynode.edge.client import end_tasks
from tallynode.edge.discovery import AddressBook, Discovery
from tallynode.edge.links import Links
from tallynode.edge.shared_broker import shared_prefix
from tallynode.errors import IoError

REFRESH_S = 10.0  # seconds between two looks at this device's own addresses

log = structlog.get_logger(__name__)


class Neighbourhood:
    """Tells the links where to try.

    Args:
        mesh: the whole configuration.
        name: this peer's.
        neighbours: names of the peers to look for.
        links: is told every address.
        book: the file of last-known addresses.
    """

    def __init__(
        self, mesh: Mesh, name: str, neighbours: Iterable[str], links: Links, book: Path
    ) -> None:
        self._mesh = mesh
        self._name = name
        self._neighbours = set(neighbours)
        self._links = links
        self._book = AddressBook(book)
        self._discovery: Discovery | None = None
        self._following: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> None:
        """Tell what is known, and look for more; neighbours reach this peer at host:port."""
        shared = shared_endpoint(self._mesh.broker) if self._mesh.shared_broker else None
        for name in self._neighbours:
            peer = self._mesh.peer(name)
            if shared:
                self._links.set_address(
                    name,
                    shared.host,
                    shared.port,
                    prefix=shared_prefix(self._mesh.mesh, name),
                    username=shared.username,
                    password=shared.password,
                )
            elif peer.address:
                self._links.set_address(name, peer.address, peer.port or MQTT_PORT)
            elif known := self._book.get(name):
                self._links.set_address(name, *known)
        realm = self._mesh.realm
        if shared is None and realm is not None:
            self._discovery = Discovery(self._name, realm, host, port, self._found)
            await self._discovery.start()
            self._following = asyncio.create_task(_follow(self._discovery), name="discovery")

    async def stop(self) -> None:
        """Look no more."""
        if self._following is not None:
            await end_tasks({self._following})
        if self._saving is not None:
            await self._saving
        if self._discovery is not None:
            await self._discovery.stop()
            self._discovery = None

    def reached(self, name: str) -> None:
        """Note where a neighbour has answered, on the disk too: a power cut is no clean end."""
        at = self._links.reached_at(name)
        if at is None or self._discovery is None:  # all addresses are in the topology
            return
        self._book.remember(name, at.host, at.port)
        if self._book.changed and (self._saving is None or self._saving.done()):
            self._saving = asyncio.create_task(self._save_book(), name="addresses")

    def save(self) -> None:
        """Write the book of addresses. Raises IoError."""
        self._book.save()

    async def _save_book(self) -> None:
        while self._book.changed:
            try:
                await asyncio.to_thread(self._book.save)
            except IoError as error:  # the end of the daemon tries again, and says so
                log.debug("addresses not saved", why=str(error))
                return

    def _found(self, name: str, host: str, port: int) -> None:
        if name in self._neighbours:
            log.debug("found", neighbour=name, host=host, port=port)
            self._links.set_address(name, host, port)


async def _follow(discovery: Discovery) -> None:
    """Announce this device's addresses of now: it may boot before its network, or be moved."""
    while True:
        await asyncio.sleep(REFRESH_S)
        try:
            await discovery.refresh()
        except OSError as error:  # the kernel would not list them: the next look may do
            log.debug("own addresses unknown", why=str(error))
