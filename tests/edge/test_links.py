"""Links to brokers that come, go, move, and lie."""

import asyncio
import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import mqtt5
import pytest
import structlog
import uvloop

from tallynode.edge.client import (
    CONNECTION_ERRORS,
    KEEPALIVE_S,
    connected,
    end_tasks,
)
from tallynode.edge.dial import ConnectionFailed, Endpoint
from tallynode.edge.links import ADDRESSES_MAX, Links
from tallynode.edge.meter import Meter
from tallynode.edge.outbox import Outbox
from tallynode.errors import LocalError

WAIT_S = 20.0
CONNACK = mqtt5.ConnAckPacket().write()
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[tuple[str, int]]:
    """A listening socket with a behaviour."""
    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield "127.0.0.1", listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


def liar(answer: bytes, *, early: bool = False) -> Serve:
    """A broker that greets, sends `answer` (early: in the same breath), and waits for the end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(CONNACK)
        if not early:
            await reader.read(1000)  # the SUBSCRIBE: now the link is up
        writer.write(answer)
        await reader.read(-1)
        writer.close()

    return serve


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A broker that accepts a connection and closes it at once."""
    writer.close()


async def test_a_link_comes_back_with_its_broker(new_ear: Any) -> None:
    """After a restart on the same port the link is up again and asks for its topics again."""
    box = Outbox("127.0.0.1", 0)
    address = await box.start()
    async with new_ear() as ear:
        ear.links.subscribe("n", ["b"])
        ear.links.set_address("n", *address)
        assert await ear.next() == ("up", "n")
        assert ear.links.linked() == {"n"}
        await box.stop()
        assert await ear.next() == ("down", "n")
        assert ear.links.linked() == frozenset()
        box = Outbox(*address)
        await box.start()
        await box.publish("b", b"back", retain=True)
        assert await ear.next() == ("up", "n")
        assert await ear.next() == ("n", "b", b"back")
    assert await ear.next() == ("down", "n")
    await box.stop()


async def test_a_neighbour_that_moves_is_found_at_its_new_address(new_ear: Any) -> None:
    """A new address is tried at once, whatever pause the old one's failures have earned."""
    box = Outbox("127.0.0.1", 0)
    old = await box.start()
    async with new_ear() as ear:
        ear.links.set_address("n", *old)
        assert await ear.next() == ("up", "n")
        await box.stop()
        assert await ear.next() == ("down", "n")
        box = Outbox("127.0.0.1", 0)
        ear.links.set_address("n", *(await box.start()))
        assert await ear.next() == ("up", "n")
    await box.stop()


async def test_addresses_are_tried_in_turn(new_ear: Any, free_port: int) -> None:
    """A refused port, and a server that hangs up do not hide the true address."""
    box = Outbox("127.0.0.1", 0)
    address = await box.start()
    async with server(hang_up) as rude, new_ear() as ear:
        ear.links.set_address("n", *address)  # told first, so tried last
        ear.links.set_address("n", *rude)
        ear.links.set_address("n", "127.0.0.1", free_port)
        assert await ear.next() == ("up", "n")
    await box.stop()


async def test_ever_new_false_addresses_do_not_hide_the_one_that_worked(new_ear: Any) -> None:
    """Whoever announces another one at each attempt cannot keep a link from its true broker."""
    box = Outbox("127.0.0.1", 0)
    address = await box.start()
    knocks = 0
    flooded = asyncio.Event()

    async def hang_up_and_announce(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal knocks
        writer.close()
        knocks += 1
        ear.links.set_address("n", f"127.9.{knocks >> 8}.{knocks & 255}", port)
        if knocks > ADDRESSES_MAX:
            flooded.set()

    listening = await asyncio.start_server(hang_up_and_announce, "0.0.0.0", 0)
    port = listening.sockets[0].getsockname()[1]
    async with new_ear() as ear:
        ear.links.set_address("n", *address)
        assert await ear.next() == ("up", "n")
        await box.stop()
        assert await ear.next() == ("down", "n")
        ear.links.set_address("n", "127.0.0.1", port)
        await asyncio.wait_for(flooded.wait(), WAIT_S)
        box = Outbox(*address)
        await box.start()
        assert await ear.next() == ("up", "n")
    await box.stop()
    listening.close()


async def test_the_first_address_is_never_crowded_out() -> None:
    """Any number of false announcements leaves the address of the configuration in place."""
    links = Links("me", on_up=print, on_down=print, on_message=print)
    for port in range(1, 100):
        links.set_address("n", "127.0.0.1", port)
    kept = [endpoint.port for endpoint in links._link("n").addresses]
    assert len(kept) == ADDRESSES_MAX
    assert (kept[0], kept[-1]) == (99, 1)


async def test_topics_come_and_go_while_linked(new_ear: Any) -> None:
    """Subscriptions can be changed at any time, and many topics go out in one packet."""
    box = Outbox("127.0.0.1", 0)
    address = await box.start()
    async with new_ear() as ear:
        ear.links.set_address("n", *address)
        assert await ear.next() == ("up", "n")
        topics = [f"v/{i}" for i in range(450)]
        for topic in topics:
            await box.publish(topic, topic.encode(), retain=True)
        ear.links.subscribe("n", topics)
        assert {(await ear.next())[1] for _ in topics} == set(topics)
        ear.links.unsubscribe("n", topics)
        ear.links.subscribe("n", ["last"])
        await box.publish("last", b"1", retain=True)
        assert await ear.next() == ("n", "last", b"1")
        ear.links.subscribe("n", ["after that"])
        await box.publish("after that", b"1", retain=True)
        assert await ear.next() == ("n", "after that", b"1")
        await box.publish("v/0", b"unheard", retain=False)
        await box.publish("last", b"2", retain=True)
        assert await ear.next() == ("n", "last", b"2")
    await box.stop()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_reset_behind_messages_is_noticed_at_once(
    run: Callable[[Any], Any], new_ear: Any
) -> None:
    """What came before the reset is heard, and the link is down without waiting for a keepalive."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            async with new_ear() as ear:
                ear.links.subscribe("n", ["b"])
                ear.links.set_address("n", *listening.getsockname())
                near, _ = await loop.sock_accept(listening)
                await loop.sock_recv(near, 1000)
                await loop.sock_sendall(near, CONNACK)
                await loop.sock_recv(near, 1000)
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                near.send(mqtt5.PublishPacket("b", b"1").write() * 3)
                near.close()  # with no turn of the loop in between
                assert await ear.next() == ("up", "n")
                for _ in range(3):
                    assert await ear.next() == ("n", "b", b"1")
                async with asyncio.timeout(KEEPALIVE_S / 3):
                    assert await ear.next() == ("down", "n")

    run(main())


async def test_an_oversized_packet_is_not_received(new_ear: Any) -> None:
    """A broker that announces 250 MB loses the link, and we never hold a part of it."""
    announcement = b"\x30\xff\xff\xff\x7f" + b"\x00\x01b" + bytes(100_000)
    async with server(liar(announcement)) as address, new_ear() as ear:
        tracemalloc.start()
        ear.links.subscribe("n", ["b"])
        ear.links.set_address("n", *address)
        assert await ear.next() == ("up", "n")
        assert await ear.next() == ("down", "n")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 20 << 20


GARBAGE = {
    "endless length": b"\x30\xff\xff\xff\xff\xff",
    "topic beyond the end": b"\x30\x05\x00\x09b\x00x",
    "wildcard as topic": b"\x30\x05\x00\x01+\x00x",
    "topic not UTF-8": b"\x30\x05\x00\x02\xff\xffx",
    "farewell": b"\xe0\x01\x8b",
    "zeros": bytes(50),
    "more answers than subscriptions": b"\x90\x05\x00\x01\x00\x00\x00",
    "fewer answers than subscriptions": b"\x90\x03\x00\x01\x00",
    "an answer that there is not": b"\x90\x04\x00\x01\x00\x55",
}


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("garbage", GARBAGE)
async def test_a_brokers_garbage_ends_its_link_only(
    new_ear: Any, garbage: str, early: bool
) -> None:
    """A broker that sends rubbish, at any time, loses its link and disturbs no other."""
    box = Outbox("127.0.0.1", 0)
    honest = await box.start()
    async with server(liar(GARBAGE[garbage], early=early)) as address, new_ear() as ear:
        ear.links.subscribe("n", ["b"])
        ear.links.subscribe("liar", ["b"])
        ear.links.set_address("liar", *address)
        if not early:
            assert await ear.next() == ("up", "liar")
            assert await ear.next() == ("down", "liar")
        ear.links.set_address("n", *honest)
        await box.publish("b", b"fine", retain=True)
        while await ear.next() != ("n", "b", b"fine"):
            pass
    await box.stop()


async def test_answers_to_nothing_are_harmless(new_ear: Any) -> None:
    """An acknowledgement that nobody asked for and a second greeting leave the link as it is."""
    odd = b"\x90\x04\x00\x63\x00\x00" + CONNACK
    suback = mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE]).write()
    async with (
        server(liar(odd + suback + mqtt5.PublishPacket("b", b"x").write())) as address,
        new_ear() as ear,
    ):
        ear.links.subscribe("n", ["b"])
        ear.links.set_address("n", *address)
        assert await ear.next() == ("up", "n")
        assert await ear.next() == ("n", "b", b"x")


async def test_a_hang_up_during_the_greeting_is_known_at_once() -> None:
    """A broker that closes instead of answering is not waited for."""
    async with server(hang_up) as address:
        with pytest.raises(CONNECTION_ERRORS, match=r"during the greeting|reset|[Pp]ipe"):
            async with connected(Endpoint(*address), "me", Meter()):
                pass


async def test_failures_name_the_address(free_port: int) -> None:
    """An unreachable or unknown host is one clear line."""
    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{free_port}: connection refused"):
        async with connected(Endpoint("127.0.0.1", free_port), "me", Meter()):
            pass
    with pytest.raises(ConnectionFailed, match=r"no\.such\.host\.invalid:1883: "):
        async with connected(Endpoint("no.such.host.invalid", 1883), "me", Meter()):
            pass


async def test_our_own_bug_is_not_taken_for_a_lost_link() -> None:
    """What the message callback raises ends `run` and is not swallowed by a reconnection."""

    def broken(neighbour: str, topic: str, payload: bytes) -> None:
        raise LocalError("broken contract")

    box = Outbox("127.0.0.1", 0)
    address = await box.start()
    await box.publish("b", b"x", retain=True)
    links = Links("me", on_up=lambda n: None, on_down=lambda n: None, on_message=broken)
    links.subscribe("n", ["b"])
    links.set_address("n", *address)
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(links.run(), WAIT_S)
    assert isinstance(raised.value.exceptions[0], LocalError)
    await box.stop()


async def test_stop_leaves_nothing_running(new_ear: Any, free_port: int) -> None:
    """Stopping ends connected and searching links, their tasks and sockets; twice is once."""
    box = Outbox("127.0.0.1", 0)
    address = await box.start()
    async with new_ear() as ear:
        ear.links.set_address("n", *address)
        ear.links.set_address("gone", "127.0.0.1", free_port)
        assert await ear.next() == ("up", "n")
        await ear.links.stop()
        assert await ear.next() == ("down", "n")
    await box.stop()
    assert not ear.links.meter._open
    assert len(asyncio.all_tasks()) == 1


async def test_links_run_once_at_a_time(new_ear: Any) -> None:
    """A second `run` beside the first is our bug."""
    async with new_ear() as ear:
        await asyncio.sleep(0)  # one turn of the loop: the first `run` begins
        with pytest.raises(LocalError, match="running already"):
            await ear.links.run()


async def test_a_neighbour_out_of_reach_is_said_once() -> None:
    """The first failure is a warning that names neighbour and address, the next ones are debug."""
    outbox = Outbox("127.0.0.1", 0)
    host, port = await outbox.start()
    await outbox.stop()  # now nobody listens there
    links = Links(
        "a", on_up=_ignore, on_down=_ignore, on_message=lambda *_: None, backoff=(0.01, 0.02)
    )
    links.set_address("b", host, port)
    with structlog.testing.capture_logs() as lines:
        running = asyncio.create_task(links.run())
        async with asyncio.timeout(WAIT_S):
            while len(lines) < 3:  # noqa: ASYNC110  structlog has no event to wait for
                await asyncio.sleep(0.01)
        await links.stop()
        await running
    said = [line for line in lines if line["event"] == "neighbour unreachable"]
    assert [line["log_level"] for line in said[:3]] == ["warning", "debug", "debug"]
    assert said[0]["neighbour"] == "b"
    assert f"{host}:{port}" in said[0]["why"]


async def test_links_stop_even_as_their_broker_closes() -> None:
    """Both ends closing in the same instant, again and again, leave no link behind."""
    for turn in range(150):
        outbox, up = Outbox("127.0.0.1", 0), asyncio.Event()
        address = await outbox.start()
        links = Links(
            "a", on_up=lambda _, up=up: up.set(), on_down=_ignore, on_message=lambda *_: None
        )
        links.subscribe("n", ["t"])
        links.set_address("n", *address)
        running = asyncio.create_task(links.run())
        await up.wait()
        stops = [outbox.stop(), links.stop()]
        async with asyncio.timeout(20):
            await asyncio.gather(*(stops if turn % 2 else reversed(stops)))
            await running


async def test_a_task_that_swallows_its_cancellation_is_ended() -> None:
    """What Python 3.11's wait_for does to a cancellation cannot keep a peer from ending."""
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 2:
                    raise

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await end_tasks({task})
    assert task.cancelled()
    assert swallowed == 2


def _ignore(_: str) -> None:
    pass
