"""A network that misbehaves, between real processes on real TCP.

A proxy stands between every peer and every neighbour that it reads: each peer's own copy of the
mesh names the proxies where its neighbours' outboxes should be. What a proxy does is its mood; a
plan, drawn from a seed, changes moods as time goes by.

    FINE        bytes pass
    DELAY       bytes pass late
    TRICKLE     bytes pass a few at a time
    DROP        connections are reset at random
    BLACKHOLE   connections stand, new ones too, and nothing passes: a cable pulled beyond a switch
    HALF_OPEN   bytes pass one way only
    REFUSE      connections are closed, new ones at once
"""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum

from tallynode.config import Mesh
from tallynode.lab.bench import changed
from tallynode.lab.trial import LOOPBACK

DELAY_S = 0.2  # seconds, and as much again at random
TRICKLE_BYTES, TRICKLE_S = 64, 0.02  # a chunk, and seconds between two: 3 kB/s
DROP_AFTER_S = 0.5  # seconds on average until a connection is reset
CHUNK = 64 << 10  # bytes read at once
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST
MOOD_S = (0.5, 3.0)  # seconds that a mood lasts
CALM_SHARE = 0.4  # of the time that a proxy is FINE


class Mood(Enum):
    """What a proxy does to connections."""

    FINE = "fine"
    DELAY = "delay"
    TRICKLE = "trickle"
    DROP = "drop"
    BLACKHOLE = "blackhole"
    HALF_OPEN = "half-open"
    REFUSE = "refuse"


class Proxy:
    """Stands before one outbox for one reader.

    Args:
        port: of the outbox, on loopback.
        chance: draws delays and resets.
    """

    def __init__(self, port: int, chance: random.Random) -> None:
        self._port = port
        self._chance = chance
        self._mood = Mood.FINE
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.connections = 0  # that were made through it
        self.resets = 0

    async def start(self) -> int:
        """Listen; the port."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        return int(self._server.sockets[0].getsockname()[1])

    def become(self, mood: Mood) -> None:
        """Change the mood, for open connections too."""
        self._mood = mood
        self._changed.set()
        self._changed = asyncio.Event()
        if mood is Mood.REFUSE:
            self._hang_up()

    def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        self._hang_up()

    def _hang_up(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mood is Mood.REFUSE:
            writer.transport.abort()
            return
        self._open.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._port)
        except OSError:
            self._close(writer)
            return
        self.connections += 1
        self._open.add(far_writer)
        up = asyncio.create_task(self._pass(reader, far_writer, to_outbox=True))
        down = asyncio.create_task(self._pass(far_reader, writer, to_outbox=False))
        dropping = asyncio.create_task(self._drop(writer))
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        for task in (up, down, dropping):
            task.cancel()
        await asyncio.gather(up, down, dropping, return_exceptions=True)
        self._close(writer)
        self._close(far_writer)

    def _close(self, writer: asyncio.StreamWriter) -> None:
        self._open.discard(writer)
        writer.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_outbox: bool
    ) -> None:
        """Hand bytes on as the mood has it, until either end closes."""
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                await self._until_passing(to_outbox=to_outbox)
                if self._mood is Mood.DELAY:
                    await asyncio.sleep(DELAY_S * (1 + self._chance.random()))
                while self._mood is Mood.TRICKLE and data:
                    writer.write(data[:TRICKLE_BYTES])
                    data = data[TRICKLE_BYTES:]
                    await asyncio.sleep(TRICKLE_S)
                writer.write(data)
                await writer.drain()

    async def _until_passing(self, *, to_outbox: bool) -> None:
        """Wait while nothing passes this way; a half-open connection still passes to the outbox."""
        while self._mood is Mood.BLACKHOLE or (self._mood is Mood.HALF_OPEN and not to_outbox):
            await self._changed.wait()

    async def _drop(self, writer: asyncio.StreamWriter) -> None:
        """Reset the connection at random while the mood is so."""
        while True:
            await asyncio.sleep(self._chance.uniform(0, 2 * DROP_AFTER_S))
            if self._mood is Mood.DROP:
                self.resets += 1
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                writer.transport.abort()
                return


@dataclass(frozen=True, slots=True)
class Step:
    """At `t_s`, the proxy before `outbox` that `reader` uses changes its mood."""

    t_s: float
    reader: str
    outbox: str
    mood: Mood


def plan(mesh: Mesh, links: list[tuple[str, str]], seed: int, seconds: float) -> list[Step]:
    """Moods of every (reader, outbox) over so many seconds; the same seed, the same plan."""
    chance = random.Random(f"{seed} {len(mesh.names)}")
    moods = [mood for mood in Mood if mood is not Mood.FINE]
    steps = []
    for reader, outbox in links:
        t_s = chance.uniform(0, MOOD_S[1])
        while t_s < seconds:
            mood = Mood.FINE if chance.random() < CALM_SHARE else chance.choice(moods)
            steps.append(Step(t_s, reader, outbox, mood))
            t_s += chance.uniform(*MOOD_S)
        steps.append(Step(seconds, reader, outbox, Mood.FINE))
    return sorted(steps, key=lambda step: step.t_s)


class Chaos:
    """All proxies of a mesh.

    Args:
        mesh: with an address and port for every peer.
        links: (reader, outbox) pairs.
        seed: draws what the proxies draw.
    """

    def __init__(self, mesh: Mesh, links: list[tuple[str, str]], seed: int) -> None:
        self._mesh = mesh
        chance = random.Random(seed)
        self._proxies = {
            (reader, outbox): Proxy(mesh.peer(outbox).port or 0, chance) for reader, outbox in links
        }
        self._ports: dict[tuple[str, str], int] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Proxies listen while the context lasts."""
        try:
            for link, proxy in self._proxies.items():
                self._ports[link] = await proxy.start()
            yield
        finally:
            for proxy in self._proxies.values():
                proxy.stop()

    def as_seen_by(self, reader: str) -> Mesh:
        """The mesh with proxies where the reader's neighbours should be."""
        peers = []
        for peer in self._mesh.peers:
            port = self._ports.get((reader, peer.name), peer.port)
            peers.append({"name": peer.name, "address": peer.address, "port": port})
        return changed(self._mesh, {"peers": peers})

    async def follow(self, steps: list[Step]) -> None:
        """Change moods as planned."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for step in steps:
            await asyncio.sleep(began + step.t_s - loop.time())
            self._proxies[step.reader, step.outbox].become(step.mood)

    @property
    def connections(self) -> int:
        """Made through all proxies; as many more than links as there were reconnections."""
        return sum(proxy.connections for proxy in self._proxies.values())

    @property
    def resets(self) -> int:
        """Connections that a DROP mood cut."""
        return sum(proxy.resets for proxy in self._proxies.values())


def links_of(neighbours: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    """Every (reader, outbox) of a graph."""
    for reader, outboxes in neighbours.items():
        for outbox in outboxes:
            yield reader, outbox
