"""A delta of twenty million parameters over real brokers: whole, and no queue grows with it."""

import asyncio
import shutil
import tracemalloc
from pathlib import Path

import pytest

from tallynode.edge.broker import make_broker
from tallynode.edge.inbox import Inbox
from tallynode.edge.links import Links
from tallynode.edge.mosquitto import SBIN
from tallynode.edge.outbox import Outbox
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import graph
from tallynode.protocol.deltas import WINDOW
from tallynode.protocol.hearing import Hearing
from tallynode.protocol.limits import MESSAGE_BYTES_MAX
from tallynode.protocol.settings import BridgeSettings, PeerSettings

SIZE = 20_000_000  # bytes: as many parameters at int8
WAIT_S = 60.0
NEIGHBOURS = {"a": ("b",), "b": ("a",)}


def hearing_of(name: str) -> Hearing:
    """The half of a peer that faces its neighbour, with which it merges."""
    (other,) = NEIGHBOURS[name]
    bridge = BridgeSettings(every=1, merges=(other,), model=7, bytes_max=SIZE)
    settings = PeerSettings(
        mesh="large",
        name=name,
        reach=graph.reach(name, NEIGHBOURS, 1),
        hops=1,
        classes=2,
        probes=10,
        per_round=None,
        probe_digest=bytes(8),
        method="tally",
        seed=1,
        bridge=bridge,
    )
    return Hearing(settings)


class Reader:
    """A peer's links, inbox and hearing, as the daemon joins them."""

    def __init__(self) -> None:
        self.hearing = hearing_of("b")
        self.inbox = Inbox()
        self.most = 0  # bytes that waited
        self.links = Links(
            "b",
            on_up=lambda name: self._put(ev.LinkUp(neighbour=name)),
            on_down=lambda name: None,
            on_message=lambda name, topic, data: self._put(
                ev.Received(neighbour=name, topic=topic, data=data)
            ),
        )

    def _put(self, event: ev.LinkUp | ev.Received) -> None:
        self.inbox.put(event)
        queues = self.inbox._queues.values()
        self.most = max(self.most, sum(queue.waiting for queue in queues))

    async def read(self, round_: int) -> bytes:
        """Work events off until the delta of a round is whole."""
        while True:
            event = await self.inbox.get()
            now = asyncio.get_running_loop().time()
            if isinstance(event, ev.LinkUp):
                effects = self.hearing.link_up("a")
            else:
                assert isinstance(event, ev.Received)
                effects = self.hearing.receive(event, now)
            for effect in effects:
                if isinstance(effect, ef.Subscribe):
                    self.links.subscribe(effect.neighbour, effect.topics)
                elif isinstance(effect, ef.Unsubscribe):
                    self.links.unsubscribe(effect.neighbour, effect.topics)
            for found, data in self.hearing.deltas.take(round_).get("a", ()):
                if found == round_:
                    return data


@pytest.mark.parametrize("kind", ["embedded", "mosquitto"])
async def test_twenty_million_parameters_pass(kind: str, tmp_path: Path) -> None:
    """Two deltas of eighty pieces, the second over the first: both whole, a window in memory."""
    if kind == "mosquitto" and not (shutil.which(kind) or shutil.which(kind, path=SBIN)):
        pytest.skip("mosquitto is not installed")
    broker = make_broker(kind, name="a", mesh="large", address=("127.0.0.1", 0), run_dir=tmp_path)
    address = await broker.start()
    speaking, reader = hearing_of("a").speaking, Reader()
    links = asyncio.create_task(reader.links.run())
    reader.links.set_address("a", *address)
    tracemalloc.start()
    for round_ in (1, 2):
        delta = bytes([round_]) * SIZE
        published = speaking.delta(round_, delta)
        assert len(published) == 77
        for effect in published:
            assert isinstance(effect, ef.Publish)
            await broker.publish(effect.topic, effect.data, retain=effect.retain)
        published.clear()
        assert await asyncio.wait_for(reader.read(round_), WAIT_S) == delta
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The delta, its pieces on the outbox (for a moment old and new), and what the reader has of it.
    assert peak < 6 * SIZE
    assert reader.most <= (2 * WINDOW + 1) * (MESSAGE_BYTES_MAX + 512)
    assert reader.inbox.dropped == 0
    assert reader.hearing.counters.refused == 0
    if isinstance(broker, Outbox):
        assert not broker.refused
    await reader.links.stop()
    await links
    await broker.stop()
