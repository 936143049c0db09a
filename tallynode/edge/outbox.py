"""The embedded broker: one writer, this process, and readers who subscribe over MQTT.

A general broker is not needed to hand out one's own ballots, so this is a small asyncio server.
Clients are strangers until proven otherwise and may only read; everything that one of them can make
us hold is bounded below, and one that breaks the protocol, floods us, or reads too slowly is
disconnected, counted in `refused`, and hurts nobody else. Messages go out at QoS 0: TCP delivers
in order while a link lives, and retained messages repair what a broken link lost.
"""

import asyncio
import errno
import os
from collections import Counter
from collections.abc import Iterator

import structlog

from tallynode.edge.meter import Meter, Traffic
from tallynode.edge.mqtt_codec import Codec
from tallynode.edge.session import Session
from tallynode.edge.topics import matches
from tallynode.errors import IoError, LocalError
from tallynode.protocol.limits import MESSAGE_BYTES_MAX

CONNECTIONS_MAX = 256  # connections; bounds the sockets that a LAN full of strangers can open
QUEUE_OUT_TOTAL_MAX = 64 << 20  # bytes unsent to all subscribers; many stalled ones at once
STOP_WITHIN_S = 1.0  # seconds for farewells to be sent; a stalled reader cannot hold us up
BACKLOG = 64  # connections the kernel queues for us

log = structlog.get_logger(__name__)


class Outbox:
    """MQTT server in this process that only this process writes to."""

    def __init__(self, host: str, port: int) -> None:
        self.refused: Counter[str] = Counter()
        self.meter = Meter()
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._retained: dict[str, bytes] = {}
        self._sessions: set[Session] = set()
        self._by_client_id: dict[str, Session] = {}
        self._emptied = asyncio.Event()

    async def start(self) -> tuple[str, int]:
        """Listen; the (host, port) at which neighbours connect. Raises IoError."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Session(self), self._host, self._port, backlog=BACKLOG
            )
        except OSError as error:
            raise IoError(listen_failure(self._host, self._port, error)) from error
        self._port = int(self._server.sockets[0].getsockname()[1])
        return self._host, self._port

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Send to every subscriber now; a retained message also to each later one."""
        if self._server is None:
            raise LocalError("the outbox is not running")
        if len(payload) > MESSAGE_BYTES_MAX:
            raise LocalError(f"{topic}: {len(payload)} bytes are too many for one message")
        if retain and payload:
            self._retained[topic] = payload
        elif retain:
            self._retained.pop(topic, None)
        packets: dict[tuple[str, bool], bytes] = {}
        for session in list(self._sessions):
            options = session.subscription_to(topic)
            if options is None or session.codec is None:
                continue
            flag = retain and options.retain_as_published
            key = (session.codec.version, flag)
            if key not in packets:
                packets[key] = session.codec.publish(topic, payload, retain=flag)
            session.send(packets[key])

    async def stop(self) -> None:
        """Say goodbye to the subscribers and close every socket."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
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

    def traffic(self) -> Traffic:
        """Wire bytes of all subscribers' connections, open and closed."""
        return self.meter.traffic()

    # What a session asks of its outbox.

    def admit(self, session: Session) -> bool:
        """Take in a new connection; False when there is no room."""
        self._sessions.add(session)
        return len(self._sessions) <= CONNECTIONS_MAX and self._server is not None

    def name_session(self, session: Session, client_id: str) -> None:
        """Register a client ID; an older connection of that ID gives way (MQTT 5, 3.1.4)."""
        older = self._by_client_id.get(client_id)
        self._by_client_id[client_id] = session
        if older is not None and older is not session:
            older.taken_over()

    def forget(self, session: Session) -> None:
        """A connection is gone."""
        self._sessions.discard(session)
        if self._by_client_id.get(session.client_id) is session:
            del self._by_client_id[session.client_id]
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
