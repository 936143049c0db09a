"""Several peers on one stock broker that anybody may write to."""

import asyncio
import sys
from typing import Any

import aiomqtt
import pytest

from tallynode.edge import publisher
from tallynode.edge.dial import Endpoint
from tallynode.edge.shared_broker import SharedBroker, shared_prefix
from tallynode.errors import IoError, LocalError
from tallynode.protocol.limits import MESSAGE_BYTES_MAX

pytestmark = pytest.mark.privileged

PEER = """
import asyncio, sys
from tallynode.edge.dial import Endpoint
from tallynode.edge.shared_broker import SharedBroker

async def main():
    broker = SharedBroker(mesh="m", name="pi-1", endpoint=Endpoint("127.0.0.1", int(sys.argv[1])))
    await broker.start()
    await broker.publish("b", b"last words", retain=True)
    print("there", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def peer(address: tuple[str, int], name: str = "pi-1") -> SharedBroker:
    """A peer's place on the broker."""
    return SharedBroker(mesh="m", name=name, endpoint=Endpoint(*address))


async def test_peers_are_told_apart_by_prefix(
    stock_mosquitto: tuple[str, int], new_ear: Any
) -> None:
    """Two peers write the same topic, and a link hears each under its own name."""
    one, two = peer(stock_mosquitto), peer(stock_mosquitto, "pi-2")
    assert await one.start() == stock_mosquitto
    await two.start()
    await one.publish("b", b"1", retain=True)
    await two.publish("b", b"2", retain=True)
    async with new_ear() as ear:
        for name in ("pi-1", "pi-2"):
            ear.links.subscribe(name, ["b"])
            ear.links.set_address(name, *stock_mosquitto, prefix=shared_prefix("m", name))
        heard = {await ear.next() for _ in range(4)}
        assert heard == {("up", "pi-1"), ("up", "pi-2"), ("pi-1", "b", b"1"), ("pi-2", "b", b"2")}
        await one.publish("b", b"3", retain=False)
        assert await ear.next() == ("pi-1", "b", b"3")
    assert one.traffic().sent > 200
    await one.stop()
    await two.stop()


async def test_a_link_is_up_while_its_peer_is_there(
    stock_mosquitto: tuple[str, int], new_ear: Any
) -> None:
    """The broker's own life says nothing: a peer is there from its start to its stop."""
    async with new_ear() as ear:
        ear.links.set_address("pi-1", *stock_mosquitto, prefix=shared_prefix("m", "pi-1"))
        for _ in range(2):
            broker = peer(stock_mosquitto)
            await broker.start()
            assert await ear.next() == ("up", "pi-1")
            assert ear.links.linked() == {"pi-1"}
            await broker.stop()
            assert await ear.next() == ("down", "pi-1")


async def test_a_killed_peers_last_will_takes_its_link_down(
    stock_mosquitto: tuple[str, int], new_ear: Any
) -> None:
    """SIGKILL is noticed, and its next life clears what the former left behind."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PEER, str(stock_mosquitto[1])), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 20) == b"there\n"
    async with new_ear() as ear:
        ear.links.subscribe("pi-1", ["b"])
        ear.links.set_address("pi-1", *stock_mosquitto, prefix=shared_prefix("m", "pi-1"))
        assert {await ear.next(), await ear.next()} == {
            ("up", "pi-1"),
            ("pi-1", "b", b"last words"),
        }
        process.kill()
        await process.communicate()
        assert await ear.next() == ("down", "pi-1")
        broker = peer(stock_mosquitto)
        await broker.start()
        assert {await ear.next(), await ear.next()} == {("up", "pi-1"), ("pi-1", "b", b"")}
        await broker.stop()


async def test_a_peer_leaves_nothing_behind(stock_mosquitto: tuple[str, int]) -> None:
    """After a stop the broker retains none of our messages."""
    broker = peer(stock_mosquitto)
    await broker.start()
    for i in range(20):
        await broker.publish(f"v/{i}", b"x", retain=True)
    await broker.stop()
    async with aiomqtt.Client(*stock_mosquitto) as client:
        await client.subscribe("m/#")
        await client.subscribe("end")
        await client.publish("end", b"")
        first = await asyncio.wait_for(anext(client.messages), 20)
        assert first.topic.value == "end"


async def test_a_restarted_broker_is_told_everything_again(
    stock_mosquitto: tuple[str, int], new_ear: Any
) -> None:
    """Our connection is cut, as by a restart: the retained messages stand there again."""
    broker = peer(stock_mosquitto)
    await broker.start()
    await broker.publish("b", b"kept", retain=True)
    async with new_ear() as ear:
        ear.links.subscribe("pi-1", ["b"])
        ear.links.set_address("pi-1", *stock_mosquitto, prefix=shared_prefix("m", "pi-1"))
        assert {await ear.next(), await ear.next()} == {("up", "pi-1"), ("pi-1", "b", b"kept")}
        async with aiomqtt.Client(*stock_mosquitto) as stranger:
            await stranger.publish("m/pi-1/b", b"", retain=True)
        assert await ear.next() == ("pi-1", "b", b"")
        usurper = aiomqtt.Client(*stock_mosquitto, identifier=shared_prefix("m", "pi-1"))
        async with usurper:  # the broker drops the older connection of the same name
            pass
        heard = {await ear.next() for _ in range(3)}
        assert heard == {("down", "pi-1"), ("up", "pi-1"), ("pi-1", "b", b"kept")}
    await broker.stop()


async def test_a_slow_broker_gets_the_newest_state(
    stock_mosquitto: tuple[str, int], new_ear: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the queue overflows, old messages are dropped and the latest of each topic arrives."""
    monkeypatch.setattr(publisher, "QUEUE_MAX", 10_000)
    broker = peer(stock_mosquitto)
    await broker.start()
    async with new_ear() as ear:
        ear.links.subscribe("pi-1", ["b"])
        ear.links.set_address("pi-1", *stock_mosquitto, prefix=shared_prefix("m", "pi-1"))
        assert await ear.next() == ("up", "pi-1")
        for i in range(100):
            await broker.publish("b", bytes([i]) * 1000, retain=True)
        messages = 1
        while await ear.next() != ("pi-1", "b", bytes([99]) * 1000):
            messages += 1
        assert messages < 30
    with pytest.raises(LocalError, match="too many"):
        await broker.publish("b", bytes(MESSAGE_BYTES_MAX + 1), retain=True)
    await broker.stop()


async def test_an_unreachable_broker_is_a_clear_error(
    free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some attempts the error names the broker and the cause."""
    monkeypatch.setattr(publisher, "START_WITHIN_S", 0.2)
    with pytest.raises(IoError, match=f"mqtt://127.0.0.1:{free_port}: .*connection refused"):
        await peer(("127.0.0.1", free_port)).start()
    assert len(asyncio.all_tasks()) == 1
