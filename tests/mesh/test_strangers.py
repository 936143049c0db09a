"""Votes that must not count: of peers with other probes, and of whoever stands in for a peer."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import Any

import mqtt5
import psutil
import pytest

from tallynode import assemble
from tallynode.config import load_mesh
from tallynode.edge.outbox import Outbox
from tallynode.protocol import wire
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.messages import Ballot

pytestmark = pytest.mark.slow


def two_peers(ports: list[int]) -> list[dict[str, Any]]:
    """Two peers at fixed addresses on this host."""
    return [
        {"name": name, "address": "127.0.0.1", "port": port}
        for name, port in zip("ab", ports, strict=False)
    ]


@pytest.mark.parametrize(
    ("what", "sections"),
    [
        ("probe set or class list", {"task": {"partition": {"seed": 2, "per_peer": 60}}}),
        ("mesh", {"epoch": 1}),
    ],
)
def test_peers_that_differ_do_not_count_each_other(
    lab: Any, home: Any, free_ports: list[int], what: str, sections: dict[str, Any]
) -> None:
    """Each refuses the other's votes and says what differs; both train alone to the end."""
    daemons = {}
    for name, other in {"a": {}, "b": sections}.items():
        file = lab.file(f"{name}.yaml", peers=two_peers(free_ports), discovery=False, **other)
        daemons[name] = lab.daemon(file, name)
    for name, daemon in daemons.items():
        assert daemon.end() == 0
        assert daemon.says(f"votes do not count here, it differs in {what}")
        at = home(lab.folder / name)
        assert at.rounds == [1, 2, 3, 4]
        assert {(record["voters"], record["closed_by"]) for record in at.records} == {(1, "alone")}
        assert at.outcome["refused"] > 0


async def test_garbage_is_refused_and_counted(lab: Any, home: Any, free_ports: list[int]) -> None:
    """Garbage, torn, foreign and forged ballots are each refused, counted, and hold nobody up."""
    file = lab.file(peers=two_peers(free_ports), discovery=False, rounds={"count": 2})
    probes = assemble.parts(load_mesh(file), "a").settings.probe_digest

    def ballot(*, origin: str = "b", mesh: str = lab.mesh, digest: bytes = probes) -> bytes:
        cast = Ballot(origin=origin, round=1, hops_left=0, coding=Coding.PACKED, body=b"\0")
        return wire.encode_ballot(cast, mesh, digest)

    bad = {
        "sent bytes that are not a message": ballot()[:9],
        "belongs to another mesh": ballot(mesh="elsewhere"),
        "on another probe set": ballot(digest=bytes(8)),
        "sent a ballot on topic 'v/b'": ballot(origin="mallory"),
        "sent a ballot of b that is damaged": ballot(),
    }
    rogue = Outbox("127.0.0.1", free_ports[1])
    await rogue.start()
    await rogue.publish("h", b"\x91", retain=True)
    daemon = lab.daemon(file, "a")
    # What is retained comes first: where it has been refused, the rogue is being read.
    await asyncio.to_thread(daemon.until, lambda: daemon.says("refused"))
    for data in bad.values():
        await rogue.publish("v/b", data, retain=False)
    await asyncio.to_thread(daemon.until, lambda: all(daemon.says(why) for why in bad))
    await rogue.stop()
    assert await asyncio.to_thread(daemon.end) == 0
    at = home(lab.folder / "a")
    assert at.rounds == [1, 2]
    assert {record["voters"] for record in at.records} == {1}
    assert at.records[-1]["refused"] == at.outcome["refused"] == 1 + len(bad)


# -- neighbours and strangers that mean harm ------------------------------------------------------

GROWTH_MAX = 16 << 20  # bytes of resident memory
UNDER_FIRE = 20  # rounds
LANDED_WITHIN_S = 60.0  # seconds; peers look for a neighbour that is away every few seconds


async def flood(ports: list[int], landed: asyncio.Event) -> None:
    """A neighbour that publishes as much as its connection takes."""
    rogue = Outbox("127.0.0.1", ports[2])
    await rogue.start()
    try:
        while True:
            for _ in range(20):
                await rogue.publish("v/c", bytes(200_000), retain=False)
            await asyncio.sleep(0.001)
            if rogue.traffic().sent > 1 << 20:
                landed.set()
    finally:
        await rogue.stop()


async def announce(ports: list[int], landed: asyncio.Event) -> None:
    """A neighbour that announces a packet of 250 MB and sends what it can of it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(1000)
            writer.write(b"\x20\x03\x00\x00\x00")  # CONNACK
            await reader.read(1000)
            writer.write(b"\x30\xff\xff\xff\x7f\x00\x03v/c")
            landed.set()
            while True:
                writer.write(bytes(1 << 16))
                await writer.drain()

    async with await asyncio.start_server(serve, "127.0.0.1", ports[2]) as server:
        await server.serve_forever()


async def stall(ports: list[int], landed: asyncio.Event) -> None:
    """A neighbour that accepts a connection and never says a word."""
    server = await asyncio.start_server(lambda *_: landed.set(), "127.0.0.1", ports[2])
    async with server:
        await server.serve_forever()


async def pester(ports: list[int], landed: asyncio.Event) -> None:
    """Strangers: fifty who subscribe to everything and never read, and one who pings in a flood."""
    hello = mqtt5.ConnectPacket("", keep_alive=60, clean_start=True).write()
    subscribe = mqtt5.SubscribePacket(1, [mqtt5.TopicFilter("#")]).write()
    writers = []
    for _ in range(50):
        _, writer = await asyncio.open_connection("127.0.0.1", ports[0], limit=1)
        writer.write(hello + subscribe)
        writers.append(writer)
    try:
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", ports[0])
            with contextlib.suppress(ConnectionError):
                writer.write(hello + b"\xc0\x00" * 100_000)
                await writer.drain()
            writer.close()
            landed.set()
            await asyncio.sleep(0.01)
    finally:
        for writer in writers:
            writer.close()


def came_to(records: list[dict[str, Any]]) -> set[tuple[int, str]]:
    """How many voted in some rounds, and by what they closed."""
    return {(record["voters"], record["closed_by"]) for record in records}


@pytest.mark.parametrize("harm", [flood, announce, stall, pester])
async def test_harm_costs_bounded_memory_and_no_round(
    lab: Any, home: Any, free_ports: list[int], harm: Callable[..., Any]
) -> None:
    """Two peers go on beside it and wait for nobody else; the one attacked hardly grows."""
    peers = [
        {"name": name, "address": "127.0.0.1", "port": port}
        for name, port in zip("abc", free_ports, strict=False)
    ]
    deadline = {"min": "500ms", "max": "60s"}
    rounds = {"count": 100_000, "pace": "50ms", "start_within": "1s", "deadline": deadline}
    file = lab.file(peers=peers, discovery=False, rounds={**rounds, "local_steps": 2})
    daemons = {name: lab.daemon(file, name) for name in "ab"}
    at = home(lab.folder / "a")

    def settled() -> bool:  # on a busy machine a begins alone, and b comes later
        return len(at.rounds) > UNDER_FIRE and came_to(at.records[-UNDER_FIRE:]) == {(2, "all")}

    await asyncio.to_thread(daemons["a"].until, settled)
    calm, landed = psutil.Process(daemons["a"].pid).memory_info().rss, asyncio.Event()
    attack = asyncio.create_task(harm(free_ports, landed))
    await asyncio.wait_for(landed.wait(), LANDED_WITHIN_S)
    began = len(at.rounds)
    await asyncio.to_thread(daemons["a"].until, lambda: len(at.rounds) > began + UNDER_FIRE)
    grown = psutil.Process(daemons["a"].pid).memory_info().rss - calm
    assert not attack.done()
    attack.cancel()
    await asyncio.gather(attack, return_exceptions=True)
    for daemon in daemons.values():
        daemon.signal(signal.SIGTERM)
        assert await asyncio.to_thread(daemon.end) == 0
    assert grown < GROWTH_MAX
    assert came_to(at.records[began : began + UNDER_FIRE]) == {(2, "all")}
