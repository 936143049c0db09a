"""Pairing: devices that show each other's IDs, and two people who say yes.

For as long as its window is open, a device announces itself by mDNS and serves, over TLS with its
own certificate, one line: the IDs to which its person has said yes, a semicolon, and the IDs that
it has paired with since. Everybody may read that. Whoever reads it has seen the certificate, and so
the ID that a person must compare with the other screen; nothing that mDNS says is believed. A
device is paired when both have said yes: ours is known, theirs stands in the line that their own
certificate vouches for. A device that has nobody left to pair stays until the others know that.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import structlog

from tallynode.edge.admission import client_context
from tallynode.edge.discovery import Discovery
from tallynode.edge.door import Door
from tallynode.edge.identity import Identity, device_of

POLL_S = 0.5  # seconds between two looks at a device
LOOK_WITHIN_S = 5.0  # seconds for one look
LINE_BYTES_MAX = 32 << 10  # bytes; the IDs of the largest mesh fit
QUESTIONS_MAX = 3  # about one name; whoever announces himself again and again is not shown for ever

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device that announces itself under a peer's name, and may be anybody."""

    name: str
    id: str
    certificate: bytes
    says_yes: bool  # its person has said yes to our ID
    knows: bool  # it has paired with us


Ask = Callable[[Candidate], Awaitable[bool]]
OnCandidate = Callable[[Candidate], None]


@dataclass(slots=True)
class Pairing:
    """One device's half.

    Args:
        identity: this device's.
        ask: shows a candidate to the person; True is a yes.
        on_paired: called once for each device that both sides have said yes to.
        on_stranger: called once for each device that shows itself under a name pinned otherwise.
        wanted: names of the peers that are to be paired.
        pinned: device IDs by name to which the answer is yes already.
    """

    identity: Identity
    ask: Ask
    on_paired: OnCandidate
    on_stranger: OnCandidate
    wanted: set[str]
    pinned: Mapping[str, str]
    _addresses: dict[str, tuple[str, int]] = field(default_factory=dict)
    _accepted: dict[str, str] = field(default_factory=dict)  # name: device ID
    _shown: dict[str, set[str]] = field(default_factory=dict)  # name: device IDs
    _news: set[str] = field(default_factory=set)  # pinned and not wanted, found since looked at
    _paired: list[str] = field(default_factory=list)  # device IDs
    _unaware: set[str] = field(default_factory=set)  # paired, but may not know it yet

    def __post_init__(self) -> None:
        self._accepted.update(self.pinned)
        self._paired.extend(self.pinned.values())

    async def run(self, name: str, realm: str, host: str) -> None:
        """Pair until everybody who is wanted is paired; cancel it to end earlier.

        Args:
            name: this peer's.
            realm: the name under which the mesh's peers find each other.
            host: address to listen on.
        """
        door = Door(lambda: _Teller(self._line()), _log_refusal, self._server_context)
        port = door.open(host, 0)
        discovery = Discovery(name, f"{realm}+pair", host, port, self._found)
        await discovery.start()
        try:
            while self.wanted or self._unaware:
                looked_at = self.wanted | self._unaware | self._news
                for other in sorted(looked_at & set(self._addresses)):
                    await self._look(other)
                await asyncio.sleep(POLL_S)
        finally:
            await discovery.stop()
            await door.close()

    def _found(self, name: str, host: str, port: int) -> None:
        if name in self.wanted:
            self._addresses[name] = (host, port)
        elif name in self.pinned:
            self._addresses[name] = (host, port)
            self._news.add(name)

    async def _look(self, name: str) -> None:
        self._news.discard(name)
        try:
            async with asyncio.timeout(LOOK_WITHIN_S):
                candidate = await self._visit(name)
        except (OSError, ValueError) as error:  # TimeoutError among them
            log.debug("cannot be looked at", name=name, why=str(error))
            self._unaware.discard(name)  # it has ended, and had no reason to before it knew
            return
        if self.pinned.get(name, candidate.id) != candidate.id:
            if self._is_new(candidate):
                self.on_stranger(candidate)
        elif name in self._unaware:
            if candidate.knows:
                self._unaware.discard(name)
        elif name in self.wanted and await self._accepts(candidate) and candidate.says_yes:
            self.wanted.discard(name)
            self._unaware.add(name)
            self._paired.append(candidate.id)
            self.on_paired(candidate)

    async def _accepts(self, candidate: Candidate) -> bool:
        """Whether our person says yes, or has done so before."""
        if candidate.name in self._accepted:
            return self._accepted[candidate.name] == candidate.id
        if not self._is_new(candidate) or not await self.ask(candidate):
            return False
        self._accepted[candidate.name] = candidate.id
        return True

    def _is_new(self, candidate: Candidate) -> bool:
        """Whether our person has seen neither this device nor too many others of its name."""
        shown = self._shown.setdefault(candidate.name, set())
        if candidate.id in shown or len(shown) >= QUESTIONS_MAX:
            return False
        shown.add(candidate.id)
        return True

    async def _visit(self, name: str) -> Candidate:
        host, port = self._addresses[name]
        reader, writer = await asyncio.open_connection(
            host, port, ssl=client_context(self.identity), limit=LINE_BYTES_MAX
        )
        try:
            certificate = writer.get_extra_info("ssl_object").getpeercert(True) or b""
            said = (await reader.readline()).decode("ascii")
        finally:
            writer.close()
        yes, _, paired = said.partition(";")
        me = self.identity.id
        return Candidate(
            name=name,
            id=device_of(certificate),
            certificate=certificate,
            says_yes=me in yes.split(),
            knows=me in paired.split(),
        )

    def _line(self) -> bytes:
        return f"{' '.join(self._accepted.values())};{' '.join(self._paired)}\n".encode()

    def _server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        context.load_cert_chain(self.identity.pem)
        return context


class _Teller(asyncio.Protocol):
    """Says one line to whoever connects, and hangs up."""

    def __init__(self, line: bytes) -> None:
        self._line = line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writing = cast(asyncio.WriteTransport, transport)
        writing.write(self._line)
        writing.close()


def _log_refusal(client: str, why: str) -> None:
    log.debug("client refused", client=client, why=why)
