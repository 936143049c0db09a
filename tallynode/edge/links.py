"""Links: our subscriptions at our neighbours' brokers, kept alive.

A link is one client connection per neighbour. It tries every address it has been told, the one that
worked last first, then the newest; a random, growing pause separates failed rounds so that a mesh
that starts at once does not knock in step. What is subscribed is remembered and asked for again
after a reconnection; retained messages then bring the link up to date.

On the neighbour's own broker the connection is the sign of life. On a shared broker it only says
that the broker lives; there the sign is the neighbour's retained status topic, which its last will
clears.
"""

import asyncio
from collections.abc import Callable, Sequence

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
from tallynode.edge.dial import ConnectionFailed, Endpoint, Tls
from tallynode.edge.meter import Meter, Traffic
from tallynode.edge.publisher import STATUS_TOPIC
from tallynode.errors import LocalError

ADDRESSES_MAX = 8  # per neighbour; false announcements must not crowd out or delay the true one
TOPICS_PER_PACKET = 200  # topics; keeps a SUBSCRIBE below every broker's packet limit

OnLink = Callable[[str], None]
OnMessage = Callable[[str, str, bytes], None]

log = structlog.get_logger(__name__)


class Links:
    """All links of one peer; callbacks run in the event loop's thread."""

    def __init__(
        self,
        me: str,
        *,
        on_up: OnLink,
        on_down: OnLink,
        on_message: OnMessage,
        tls: Callable[[str], Tls] | None = None,
        backoff: tuple[float, float] = BACKOFF_S,
    ) -> None:
        """Prepare; `run` connects.

        Args:
            me: this peer's name, from which the client IDs are made.
            on_up: called with a neighbour's name when its link comes up.
            on_down: called with a neighbour's name when its link is lost.
            on_message: called with neighbour, topic (without prefix) and payload.
            tls: how to greet a neighbour's broker with TLS; None: no TLS.
            backoff: first and longest window of the random pause between attempts, in seconds.
        """
        self.me = me
        self.on_up = on_up
        self.on_down = on_down
        self.on_message = on_message
        self.tls = tls
        self.backoff = backoff
        self.meter = Meter()
        self._links: dict[str, _Link] = {}
        self._allowed: frozenset[str] | None = None  # None: everybody
        self._tasks: asyncio.TaskGroup | None = None
        self._stop = asyncio.Event()
        self._stopped = asyncio.Event()

    def set_address(
        self,
        neighbour: str,
        host: str,
        port: int,
        *,
        prefix: str = "",
        username: str | None = None,
        password: str | None = None,
    ) -> None:
        """Tell where a neighbour's broker may be; several addresses are tried in turn.

        Args:
            neighbour: the neighbour's name.
            host: name or address of its broker.
            port: TCP port of its broker.
            prefix: what its topics stand under on a shared broker.
            username: for a shared broker that asks for one.
            password: for a shared broker that asks for one.
        """
        link = self._link(neighbour)
        link.prefix = prefix
        link.add(Endpoint(host, port, username, password))
        self._launch(link)

    def subscribe(self, neighbour: str, topics: Sequence[str]) -> None:
        """Ask for topics, now and after every reconnection."""
        link = self._link(neighbour)
        link.wanted.update(dict.fromkeys(topics))
        link.changed.set()

    def unsubscribe(self, neighbour: str, topics: Sequence[str]) -> None:
        """Ask for topics no more."""
        link = self._link(neighbour)
        for topic in topics:
            link.wanted.pop(topic, None)
        link.changed.set()

    async def allow(self, neighbours: frozenset[str]) -> None:
        """From now on link to these and to nobody else."""
        self._allowed = neighbours
        gone = [link for name, link in self._links.items() if name not in neighbours and link.task]
        tasks = {link.task for link in gone if link.task}
        for link in gone:
            link.task = None
        await end_tasks(tasks)
        for link in self._links.values():
            self._launch(link)

    async def run(self) -> None:
        """Keep all links alive until `stop`."""
        if self._tasks is not None:
            raise LocalError("links are running already")
        try:
            async with asyncio.TaskGroup() as self._tasks:
                for link in self._links.values():
                    self._launch(link)
                await self._stop.wait()
                await end_tasks({link.task for link in self._links.values() if link.task})
        finally:
            self._tasks = None
            self._stopped.set()

    async def stop(self) -> None:
        """Close all links; returns when their sockets are closed."""
        self._stop.set()
        if self._tasks is not None:
            await self._stopped.wait()

    def traffic(self) -> Traffic:
        """Wire bytes of all links, open and closed."""
        return self.meter.traffic()

    def reached_at(self, neighbour: str) -> Endpoint | None:
        """Where a neighbour's broker answered last."""
        return self._link(neighbour).worked

    def linked(self) -> frozenset[str]:
        """Names of the neighbours whose links are up."""
        return frozenset(name for name, link in self._links.items() if link.up)

    def _link(self, neighbour: str) -> "_Link":
        if neighbour not in self._links:
            self._links[neighbour] = _Link(self, neighbour)
        return self._links[neighbour]

    def _launch(self, link: "_Link") -> None:
        allowed = self._allowed is None or link.neighbour in self._allowed
        if self._tasks is not None and link.task is None and link.addresses and allowed:
            link.task = self._tasks.create_task(link.run(), name=f"link to {link.neighbour}")


class _Link:
    """The link to one neighbour."""

    def __init__(self, links: Links, neighbour: str) -> None:
        self.neighbour = neighbour
        self.prefix = ""
        self.addresses: list[Endpoint] = []  # newest first
        self.wanted: dict[str, None] = {}  # topics, in the order of asking
        self.changed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.up = False
        self.worked: Endpoint | None = None  # the last that answered
        self._links = links
        self._unreachable = False
        self._news = asyncio.Event()  # an address that has not been tried yet

    def add(self, endpoint: Endpoint) -> None:
        """Remember an address; the first one told, often the static one, is never crowded out."""
        if endpoint in self.addresses:
            return
        self.addresses.insert(0, endpoint)
        if len(self.addresses) > ADDRESSES_MAX:
            del self.addresses[-2]
        self._news.set()

    async def run(self) -> None:
        """Connect, serve, reconnect, until cancelled."""
        await keep_trying(self._live, backoff=self._links.backoff, pause=self._pause)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _live(self) -> None:
        """Serve at the first address that answers; ConnectionFailed where none does."""
        self._news.clear()
        failures: list[str] = []
        for endpoint in self._candidates():
            was_connected = False
            identifier = f"{self.prefix}{self._links.me}"
            try:
                async with connected(
                    endpoint,
                    identifier,
                    self._links.meter,
                    receive=self._receive,
                    tls=self._links.tls(self.neighbour) if self._links.tls else None,
                ) as client:
                    was_connected = True
                    self._unreachable = False
                    self.worked = endpoint
                    if not self.prefix:
                        self._set_up(True)
                    await serve(client, self._keep_subscribed(client))
                    return
            except CONNECTION_ERRORS as failure:
                if was_connected:
                    log.debug("link lost", neighbour=self.neighbour, why=str(failure))
                    raise
                failures.append(str(failure))
            finally:
                self._set_up(False)
        said = log.debug if self._unreachable else log.warning  # once for each time out of reach
        self._unreachable = True
        said("neighbour unreachable", neighbour=self.neighbour, why="; ".join(failures))
        raise ConnectionFailed("; ".join(failures))

    def _candidates(self) -> list[Endpoint]:
        """What to try in turn; what is told meanwhile must wait, or false ones keep the turn."""
        return list(dict.fromkeys([*([self.worked] if self.worked else []), *self.addresses]))

    async def _keep_subscribed(self, client: aiomqtt.Client) -> None:
        """Bring the broker's idea of our subscriptions in line with ours, again and again."""
        asked: set[str] = set()
        while True:
            self.changed.clear()
            wanted = [self.prefix + topic for topic in self.wanted]
            if self.prefix and STATUS_TOPIC not in self.wanted:
                wanted.insert(0, self.prefix + STATUS_TOPIC)
            fresh = [topic for topic in wanted if topic not in asked]
            stale = sorted(asked.difference(wanted))
            for batch in _batches(fresh):
                answers = await client.subscribe([(topic, SubscribeOptions()) for topic in batch])
                if len(answers) != len(batch):
                    raise ConnectionFailed(f"{len(answers)} answers to {len(batch)} subscriptions")
                refused = [t for t, a in zip(batch, answers, strict=True) if _is_failure(a)]
                if refused:
                    log.warning("subscription refused", neighbour=self.neighbour, topics=refused)
            for batch in _batches(stale):
                await client.unsubscribe(batch)
            asked = set(wanted)
            await self.changed.wait()

    def _receive(self, message: aiomqtt.Message) -> None:
        topic = message.topic.value
        payload = message.payload
        if not topic.startswith(self.prefix) or not isinstance(payload, bytes):
            return
        topic = topic.removeprefix(self.prefix)
        if self.prefix and topic == STATUS_TOPIC:
            self._set_up(bool(payload))
            if topic not in self.wanted:
                return
        self._links.on_message(self.neighbour, topic, payload)

    def _set_up(self, up: bool) -> None:
        if up == self.up:
            return
        self.up = up
        (self._links.on_up if up else self._links.on_down)(self.neighbour)


def _batches(topics: list[str]) -> list[list[str]]:
    return [topics[i : i + TOPICS_PER_PACKET] for i in range(0, len(topics), TOPICS_PER_PACKET)]


def _is_failure(answer: object) -> bool:
    code = answer if isinstance(answer, int) else getattr(answer, "value", 0)
    return int(code) >= 0x80
