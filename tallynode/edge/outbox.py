"""The embedded broker: one writer, this process, and readers who subscribe over MQTT.

A general broker is not needed to hand out one's own ballots, so this is a small asyncio server.
Clients may only read, and where there are pins only pinned neighbours may (admission.py). They are
strangers all the same: everything that one of them can make us hold is bounded below, and one that
breaks the protocol, floods us, or reads too slowly is disconnected, counted in `refused`, and hurts
nobody else. Messages go out at QoS 0: TCP delivers
in order while a link lives, and retained messages repair what a broken link lost.
"""

import asyncio
import errno
import os
from collections import Counter
from collections.abc import Iterator

import structlog

from tallynode.edge.admission import Admission
from tallynode.edge.door import Door
from tallynode.edge.meter import Meter, Traffic
from tallynode.edge.mqtt_codec import Codec
from tallynode.edge.session import Session
from tallynode.edge.topics import matches
from tallynode.errors import IoError, LocalError
from tallynode.protocol.limits import MESSAGE_BYTES_MAX

CONNECTIONS_MAX = 256  # connections; bounds the sockets that a LAN full of strangers can open
CONNECTIONS_PER_READER_MAX = 8  # so that one pinned neighbour cannot keep the others out
QUEUE_OUT_TOTAL_MAX = 64 << 20  # bytes unsent to all subscribers; many stalled ones at once
STOP_WITHIN_S = 1.0  # seconds for farewells to be sent; a stalled reader cannot hold us up

log = structlog.get_logger(__name__)


class Outbox:
    """MQTT server in this process that only this process writes to."""

    def __init__(self, host: str, port: int, admission: Admission | None = None) -> None:
        """Prepare; `start` listens.

        Args:
            host: IP address to listen on.
            port: port to listen on; 0 lets the system choose.
            admission: who may read; None: everybody.
        """
        self.refused: Counter[str] = Counter()
        self.meter = Meter()
        self._host = host
        self._port = port
        self._admission = admission
        tls = admission.server_context if admission else None
        self._door = Door(lambda: Session(self), self.refuse, tls)
        self._running = False
        self._retained: dict[str, bytes] = {}
        self._sessions: set[Session] = set()
        self._by_client_id: dict[tuple[str, str], Session] = {}
        self._emptied = asyncio.Event()

    async def start(self) -> tuple[str, int]:
        """Listen; the (host, port) at which neighbours connect. Raises IoError."""
        try:
            self._port = self._door.open(self._host, self._port)
        except OSError as error:
            raise IoError(listen_failure(self._host, self._port, error)) from error
        self._running = True
        return self._host, self._port

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Send to every subscriber now; a retained message also to each later one."""
        if not self._running:
            raise LocalError("the outbox is not running")
        if len(payload) > MESSAGE_BYTES_MAX:
            raise LocalError(f"{topic}: {len(payload)} bytes are too many for one message")
        if retain and payload:
            self._retained[topic] = payload
        elif retain:
            self._retained.pop(topic, None)
        packets: dict[tuple[str, bool], bytes] = {}
        for session in list(self._sessions):
            options = session.subscriptions.to(topic)
            if options is None or session.codec is None:
                continue
            flag = retain and options.retain_as_published
            key = (session.codec.version, flag)
            if key not in packets:
                packets[key] = session.codec.publish(topic, payload, retain=flag)
            session.send(packets[key])

    async def stop(self) -> None:
        """Say goodbye to the subscribers and close every socket."""
        if not self._running:
            return
        self._running = False
        await self._door.close()
        for session in list(self._sessions):
            session.farewell()
        if self._sessions:
            self._emptied.clear()
            try:
                await asyncio.wait_for(self._emptied.wait(), STOP_WITHIN_S)
            except TimeoutError:
                for session in list(self._sessions):
                    session.abort()
                await asyncio.sleep(0)  # lets the aborted transports close their sockets

    async def pins_changed(self) -> None:
        """Part at once from whoever is not pinned any more."""
        for session in list(self._sessions):
            if self.identify(session.certificate) is None:
                self.refuse(session.peer, "not pinned any more")
                session.abort()

    def traffic(self) -> Traffic:
        """Wire bytes of all subscribers' connections, open and closed."""
        return self.meter.traffic()

    # What a session asks of its outbox.

    def identify(self, certificate: bytes | None) -> str | None:
        """The name of who presented this certificate; None: may not read here."""
        return "" if self._admission is None else self._admission.who(certificate)

    def admit(self, session: Session) -> str | None:
        """Take in a new connection; why not, where it may not stay."""
        self._sessions.add(session)
        reader = self.identify(session.certificate)
        if reader is None:
            return "certificate is not pinned"
        session.reader = reader
        own = sum(other.reader == reader for other in self._sessions)
        most = CONNECTIONS_MAX if self._admission is None else CONNECTIONS_PER_READER_MAX
        if own > most or len(self._sessions) > CONNECTIONS_MAX or not self._running:
            return "no room for another connection"
        return None

    def name_session(self, session: Session) -> None:
        """Register a client ID; an older connection of that ID gives way (MQTT 5, 3.1.4).

        A reader with a certificate can only take over its own connections.
        """
        key = (session.reader, session.client_id)
        older = self._by_client_id.get(key)
        self._by_client_id[key] = session
        if older is not None and older is not session:
            older.taken_over()

    def forget(self, session: Session) -> None:
        """A connection is gone."""
        self._sessions.discard(session)
        key = (session.reader, session.client_id)
        if self._by_client_id.get(key) is session:
            del self._by_client_id[key]
        if not self._sessions:
            self._emptied.set()

    def refuse(self, peer: str, why: str) -> None:
        """Count a client's misbehaviour."""
        self.refused[why] += 1
        log.debug("client refused", client=peer, why=why)

    def retained_topics(self, pattern: str) -> Iterator[str]:
        """Topics with a retained message that a subscription matches."""
        return (topic for topic in self._retained if matches(pattern, topic))

    def retained_packet(self, topic: str, codec: Codec) -> bytes | None:
        """The retained message of a topic as a packet; None if it has been cleared since."""
        payload = self._retained.get(topic)
        return None if payload is None else codec.publish(topic, payload, retain=True)

    def has_room(self) -> bool:
        """Whether the unsent bytes of all subscribers together are within bounds."""
        return sum(session.unsent() for session in self._sessions) <= QUEUE_OUT_TOTAL_MAX


def listen_failure(host: str, port: int, error: OSError) -> str:
    """One line for a person: why we cannot listen at host:port."""
    if error.errno == errno.EADDRINUSE:
        return f"{host}:{port}: port in use by another program; choose another port or stop it"
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    return f"{host}:{port}: cannot listen here: {reason}"
