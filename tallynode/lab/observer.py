"""A stranger who reads every outbox and remembers who voted what in which round.

It shares no code with the links that peers use: a stock MQTT client a peer, which comes back as
often as that peer does. What it reads is `packed`, the coding that needs no other ballot to decode.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

import aiomqtt

from tallynode.protocol import wire
from tallynode.protocol.coding import packed
from tallynode.protocol.messages import Ballot
from tallynode.protocol.settings import PeerSettings

AGAIN_S = 0.05  # seconds between two attempts at an outbox that is away
GREET_WITHIN_S = 2.0  # seconds


class Observer:
    """Everything that the outboxes of a mesh were seen to carry.

    Args:
        settings: of any peer of the mesh, which all agree on what a ballot is.
        outboxes: (host, port) of each peer's outbox.
    """

    def __init__(self, settings: PeerSettings, outboxes: Mapping[str, tuple[str, int]]) -> None:
        self._settings = settings
        self._outboxes = outboxes
        self._votes: dict[tuple[str, int], set[bytes]] = defaultdict(set)
        self._latest: dict[str, int] = defaultdict(int)
        self._at_home: dict[str, int] = defaultdict(int)  # the latest on the peer's own outbox
        self.backwards: list[str] = []  # rounds that a peer went back on its own outbox

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Read while the context lasts."""
        tasks = [
            asyncio.create_task(self._watch(name, *where)) for name, where in self._outboxes.items()
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, Exception):  # an observer that fell asleep has seen nothing
                    raise ended

    @property
    def seen(self) -> int:
        """How many different (origin, round) were seen."""
        return len(self._votes)

    def decoded(self, body: bytes) -> bytes:
        """A ballot's votes, as eight bytes each; DecodeError where it is none."""
        return packed.decode(body, self._settings.entries, self._settings.classes).tobytes()

    def votes(self, origin: str, round_: int) -> set[bytes]:
        """The different ballots that a peer cast in a round, decoded; more than one is fraud."""
        return self._votes.get((origin, round_), set())

    def latest(self, origin: str) -> int:
        """The highest round in which a peer was seen to vote; 0: none."""
        return self._latest[origin]

    def double(self) -> Iterator[str]:
        """A line for each peer and round with more than one ballot."""
        for (origin, round_), votes in self._votes.items():
            if len(votes) > 1:
                yield f"{origin} cast {len(votes)} different ballots in round {round_}"

    async def _watch(self, name: str, host: str, port: int) -> None:
        while True:
            client = aiomqtt.Client(
                host,
                port,
                identifier="observer",
                protocol=aiomqtt.ProtocolVersion.V5,
                timeout=GREET_WITHIN_S,
            )
            try:
                async with client:
                    await client.subscribe("v/+")
                    async for message in client.messages:
                        assert isinstance(message.payload, bytes)
                        self._take(name, message.payload)
            except aiomqtt.MqttError:
                await asyncio.sleep(AGAIN_S)

    def _take(self, outbox: str, data: bytes) -> None:
        mine = self._settings
        ballot = wire.decode(data, outbox, mine.mesh, mine.probe_digest, chosen=mine.chooses)
        assert isinstance(ballot, Ballot)
        origin, round_ = ballot.origin, ballot.round
        self._votes[origin, round_].add(self.decoded(ballot.body))
        if origin == outbox:
            if round_ < self._at_home[origin]:
                self.backwards.append(
                    f"{origin} went back to {round_} from {self._at_home[origin]}"
                )
            self._at_home[origin] = round_
        self._latest[origin] = max(self._latest[origin], round_)
