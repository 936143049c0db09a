"""Publishing to a broker in another process, as if it were our own memory.

The publisher keeps every retained message that should stand on the broker, and queues no more of
it than its topic, once: what is retained when its turn comes goes out, so the newest state always
arrives, and a delta of eighty pieces takes no memory twice. Whenever the connection comes back, or
the broker takes so little that the queue of all other messages overflows, the queue is thrown away
and all retained messages go out anew. Publishing itself never waits and never fails.
"""

import asyncio
from collections import deque

import aiomqtt
import structlog
from paho.mqtt.subscribeoptions import SubscribeOptions

from tallynode.edge.client import (
    BACKOFF_S,
    CONNECTION_ERRORS,
    connected,
    end_tasks,
    keep_trying,
    serve,
)
from tallynode.edge.dial import Endpoint, Tls
from tallynode.edge.meter import Meter
from tallynode.errors import IoError, LocalError
from tallynode.protocol.limits import MESSAGE_BYTES_MAX

STATUS_TOPIC = "s"  # retained on a shared broker while its peer is there
PRESENT, GONE = b"1", b""

QUEUE_MAX = 8 << 20  # bytes that are not retained; a broker that stops reading fills memory
START_WITHIN_S = 10.0  # seconds for the first connection
FLUSH_WITHIN_S = 1.0  # seconds for what is queued when we stop

log = structlog.get_logger(__name__)


class Publisher:
    """Our writing connection to one broker."""

    def __init__(
        self,
        endpoint: Endpoint,
        identifier: str,
        *,
        meter: Meter,
        shared_prefix: str = "",
        tls: Tls | None = None,
    ) -> None:
        """Prepare; `start` connects.

        Args:
            endpoint: the broker.
            identifier: MQTT client ID.
            meter: counts this connection's bytes.
            shared_prefix: what our topics stand under on a shared broker; "" on a broker of our
                own. With a prefix, a status topic says that we are there, a last will that we are
                gone, and what an earlier run of ours left behind is cleared.
            tls: how to greet the broker with TLS; None: no TLS.
        """
        self._endpoint = endpoint
        self._identifier = identifier
        self._meter = meter
        self._prefix = shared_prefix
        self._tls = tls
        self._retained: dict[str, bytes] = {}  # b"": to be cleared on the broker
        self._queue: deque[tuple[str, bytes | None]] = deque()  # None: what is retained then
        self._queued = 0
        self._standing: set[str] = set()  # topics whose retained message is in the queue
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._ready = asyncio.Event()
        self._failure = ""
        self._task: asyncio.Task[None] | None = None
        if shared_prefix:
            self._retained[STATUS_TOPIC] = PRESENT

    async def start(self) -> None:
        """Connect for the first time; afterwards reconnection is automatic. Raises IoError."""
        self._task = asyncio.create_task(self._run(), name=f"publisher {self._identifier}")
        try:
            await asyncio.wait_for(self._ready.wait(), START_WITHIN_S)
        except TimeoutError:
            await self._cancel()
            why = self._failure or f"no answer within {START_WITHIN_S:g} s"
            raise IoError(f"broker unreachable: {why}") from None

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Queue a message; a message that is not retained is lost while there is no connection."""
        if len(payload) > MESSAGE_BYTES_MAX:
            raise LocalError(f"{topic}: {len(payload)} bytes are too many for one message")
        if retain:
            self._retained[topic] = payload
        if not self._ready.is_set():
            return
        if retain:
            self._enqueue(topic, None)
        elif self._queued + len(payload) <= QUEUE_MAX:
            self._enqueue(topic, payload)
        else:
            log.warning("broker too slow, starting over from the retained messages")
            self._start_over()

    async def stop(self) -> None:
        """Leave: a shared broker keeps nothing of ours."""
        if self._prefix:
            for topic in list(self._retained):
                self.publish(topic, GONE, retain=True)
        if self._ready.is_set():
            try:
                await asyncio.wait_for(self._idle.wait(), FLUSH_WITHIN_S)
            except TimeoutError:
                log.warning("broker did not take the last messages")
        await self._cancel()

    async def _cancel(self) -> None:
        if self._task is not None:
            await end_tasks({self._task})
            self._task = None

    async def _run(self) -> None:
        await keep_trying(self._live, backoff=BACKOFF_S, pause=asyncio.sleep)

    async def _live(self) -> None:
        will = None
        if self._prefix:
            will = aiomqtt.Will(self._prefix + STATUS_TOPIC, GONE, retain=True)
        try:
            async with connected(
                self._endpoint,
                self._identifier,
                self._meter,
                receive=self._receive,
                will=will,
                tls=self._tls,
            ) as client:
                self._start_over()
                self._ready.set()
                await serve(client, self._pump(client))
        except CONNECTION_ERRORS as failure:
            self._failure = str(failure)
            raise
        finally:
            self._ready.clear()

    async def _pump(self, client: aiomqtt.Client) -> None:
        if self._prefix:
            options = SubscribeOptions(noLocal=True)
            await client.subscribe([(f"{self._prefix}#", options)])
        while True:
            while self._queue:
                topic, payload = self._queue.popleft()
                if payload is not None:
                    self._queued -= len(payload)
                    await client.publish(self._prefix + topic, payload, retain=False)
                    continue
                self._standing.discard(topic)
                kept = self._retained.get(topic, GONE)
                await client.publish(self._prefix + topic, kept, retain=True)
                if not kept and not self._retained.get(topic):
                    self._retained.pop(topic, None)
            self._idle.set()
            self._work.clear()
            await self._work.wait()

    def _receive(self, message: aiomqtt.Message) -> None:
        """Clear what stands under our prefix and is not ours: left by an earlier run."""
        topic = message.topic.value.removeprefix(self._prefix)
        if message.payload and topic not in self._retained:
            self.publish(topic, GONE, retain=True)

    def _start_over(self) -> None:
        self._queue.clear()
        self._queued = 0
        self._standing.clear()
        for topic in self._retained:
            self._enqueue(topic, None)

    def _enqueue(self, topic: str, payload: bytes | None) -> None:
        if payload is None and topic in self._standing:
            return
        self._queue.append((topic, payload))
        if payload is None:
            self._standing.add(topic)
        else:
            self._queued += len(payload)
        self._idle.clear()
        self._work.set()
