"""The embedded broker against real clients, and against strangers who mean no good."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiomqtt
import mqtt5
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from tallynode.edge import outbox as outbox_module
from tallynode.edge import session, subscriptions
from tallynode.edge.mqtt_codec import V5, V311, codec_for, packet_length
from tallynode.edge.outbox import Outbox
from tallynode.edge.topics import is_valid, matches
from tallynode.errors import IoError, LocalError
from tallynode.protocol.limits import MESSAGE_BYTES_MAX

WAIT_S = 20.0
LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Run = Callable[[Any], Any]

HELLO = mqtt5.ConnectPacket("raw", keep_alive=60, clean_start=True).write()
HELLO_311 = b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03raw"


def subscription(*patterns: str, **options: Any) -> bytes:
    """A SUBSCRIBE packet."""
    return mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(p, **options) for p in patterns]).write()


@pytest.fixture
async def outbox() -> AsyncIterator[Outbox]:
    """An outbox that listens on a port of loopback."""
    box = Outbox("127.0.0.1", 0)
    await box.start()
    yield box
    await box.stop()


@pytest.fixture
def address(outbox: Outbox) -> tuple[str, int]:
    """Where the outbox listens."""
    return "127.0.0.1", outbox._port


@LOOPS
def test_retained_and_live_messages_reach_a_link(run: Run, new_ear: Any) -> None:
    """A subscriber gets what stands on a topic, then what comes, on both event loops."""

    async def scenario() -> None:
        box = Outbox("127.0.0.1", 0)
        host, port = await box.start()
        await box.publish("b", b"old", retain=True)
        async with new_ear() as ear:
            ear.links.subscribe("n", ["b", "c"])
            ear.links.set_address("n", host, port)
            assert await ear.next() == ("up", "n")
            assert await ear.next() == ("n", "b", b"old")
            await box.publish("elsewhere", b"unheard", retain=False)
            await box.publish("c", b"new", retain=False)
            assert await ear.next() == ("n", "c", b"new")
        await box.stop()
        assert len(asyncio.all_tasks()) == 1

    run(scenario())


@LOOPS
def test_a_store_larger_than_the_queue_is_replayed(run: Run, new_ear: Any) -> None:
    """Retained messages go out as fast as they are read: their sum may exceed a queue's bound."""

    async def scenario() -> None:
        box = Outbox("127.0.0.1", 0)
        host, port = await box.start()
        size, count = 200_000, 2 * session.QUEUE_OUT_MAX // 200_000
        for i in range(count):
            await box.publish(f"t/{i}", i.to_bytes(2, "big") * (size // 2), retain=True)
        async with new_ear() as ear:
            ear.links.subscribe("n", ["t/#"])
            ear.links.set_address("n", host, port)
            assert await ear.next() == ("up", "n")
            for i in range(count):
                assert await ear.next() == ("n", f"t/{i}", i.to_bytes(2, "big") * (size // 2))
        await box.stop()
        assert not box.refused

    run(scenario())


@pytest.mark.skipif(shutil.which("mosquitto_sub") is None, reason="mosquitto_sub not installed")
@pytest.mark.parametrize("version", [[], ["-V", "5"]], ids=["3.1.1", "5"])
async def test_stock_mosquitto_sub_sees_the_topics(
    outbox: Outbox, address: tuple[str, int], version: list[str]
) -> None:
    """Plain `mosquitto_sub` of Debian reads retained and live messages, in both versions."""
    await outbox.publish("v/pi-1", b"ballot", retain=True)
    process = await asyncio.create_subprocess_exec(
        *("mosquitto_sub", "-p", str(address[1]), "-t", "#", "-v", "-C", "2", *version),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_S):
        assert await process.stdout.readline() == b"v/pi-1 ballot\n"
        await outbox.publish("h", b"x" * 200, retain=False)
        assert await process.stdout.readline() == b"h " + b"x" * 200 + b"\n"
        assert await process.wait() == 0
    assert not outbox.refused


@pytest.mark.parametrize("version", [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5])
async def test_a_foreign_client_subscribes_and_unsubscribes(
    outbox: Outbox, address: tuple[str, int], version: aiomqtt.ProtocolVersion
) -> None:
    """aiomqtt, which is not our link, gets what it subscribes to and nothing after it stops."""
    await outbox.publish("a/b", b"1", retain=True)
    async with asyncio.timeout(WAIT_S), aiomqtt.Client(*address, protocol=version) as client:
        await client.subscribe([("a/+", 1), ("c", 2)] if version == 4 else "a/+")
        first = await anext(client.messages)
        assert (first.topic.value, first.payload, first.retain) == ("a/b", b"1", True)
        await outbox.publish("a/b", b"2", retain=True)
        second = await anext(client.messages)
        assert (second.payload, bool(second.retain)) == (b"2", False)
        await client.unsubscribe("a/+")
        await client.subscribe("d")
        await outbox.publish("a/b", b"3", retain=True)
        await outbox.publish("d", b"4", retain=False)
        assert (await anext(client.messages)).payload == b"4"


MISDEEDS = {
    "garbage": (b"GET / HTTP/1.1\r\n\r\n", "not MQTT"),
    "other version": (b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01r", "malformed packet"),
    "no greeting": (subscription("#"), "not MQTT"),
    "huge packet": (b"\x10\xff\xff\xff\x7f", "packet too large"),
    "huge later": (HELLO + b"\x82\xff\xff\xff\x7f", "packet too large"),
    "endless length": (b"\x10\xff\xff\xff\xff\x01", "malformed packet"),
    "bad filter 3.1.1": (HELLO_311 + b"\x82\x07\x00\x01\x00\x02a#\x00", "malformed packet"),
    "second greeting": (HELLO + HELLO, "packet out of place"),
    "publish": (HELLO + mqtt5.PublishPacket("b", b"forged").write(), "publish by a stranger"),
    "publish 3.1.1": (HELLO_311 + b"\x31\x04\x00\x01bx", "publish by a stranger"),
    "odd 3.1.1": (HELLO_311 + b"\x82\x05\x00\x01\x00\x09b", "malformed packet"),
    "empty 3.1.1": (HELLO_311 + b"\x82\x02\x00\x01", "malformed packet"),
    "will": (
        mqtt5.ConnectPacket("raw", will=mqtt5.Will("b", payload=b"forged")).write(),
        "will of a stranger",
    ),
    "long name": (mqtt5.ConnectPacket("r" * 300).write(), "client ID too long"),
}


@pytest.mark.parametrize("misdeed", MISDEEDS)
async def test_a_misbehaving_client_is_refused_and_counted(
    outbox: Outbox, address: tuple[str, int], new_ear: Any, raw: Any, misdeed: str
) -> None:
    """Whoever breaks the rules is disconnected and counted, and the others go on reading."""
    sent, why = MISDEEDS[misdeed]
    async with new_ear() as ear:
        ear.links.subscribe("n", ["b"])
        ear.links.set_address("n", *address)
        assert await ear.next() == ("up", "n")
        client = await raw.open(address, sent)
        await client.rest()
        client.close()
        assert outbox.refused == {why: 1}
        await outbox.publish("b", b"mine", retain=True)
        assert await ear.next() == ("n", "b", b"mine")


async def test_a_remote_publish_is_answered_with_not_authorized(
    outbox: Outbox, address: tuple[str, int], raw: Any
) -> None:
    """MQTT 5 clients learn why they were disconnected: reason 0x87."""
    client = await raw.open(address, HELLO, mqtt5.PublishPacket("b", b"forged").write())
    assert isinstance(await client.packet(), mqtt5.ConnAckPacket)
    farewell = await client.packet()
    assert isinstance(farewell, mqtt5.DisconnectPacket)
    assert int(farewell.reason_code) == 0x87
    client.close()


async def test_a_truncated_packet_is_forgotten_with_its_connection(
    outbox: Outbox, address: tuple[str, int], raw: Any
) -> None:
    """Half a packet and a hang-up leave nothing behind."""
    client = await raw.open(address, HELLO[:7])
    client.close()
    await client.writer.wait_closed()
    other = await raw.open(address, HELLO)
    assert isinstance(await other.packet(), mqtt5.ConnAckPacket)
    assert len(outbox._sessions) == 1
    other.close()


async def test_a_packet_may_arrive_byte_by_byte(address: tuple[str, int], raw: Any) -> None:
    """Segments do not respect packets: every split of a greeting is understood."""
    client = await raw.open(address)
    for byte in HELLO + b"\xc0\x00":
        client.send(bytes([byte]))
        await client.writer.drain()
    assert isinstance(await client.packet(), mqtt5.ConnAckPacket)
    assert isinstance(await client.packet(), mqtt5.PingRespPacket)
    client.close()


async def test_a_flood_of_packets_does_not_hold_the_loop(
    outbox: Outbox, address: tuple[str, int], raw: Any
) -> None:
    """A client that pings without end is refused within a fraction of what it sent at once."""
    client = await raw.open(address, HELLO)
    await client.packet()
    client.send(b"\xc0\x00" * 100_000)
    answers = await client.rest()
    client.close()
    assert outbox.refused == {"too many packets": 1}
    assert len(answers) < 2 * session.PACKETS_A_SECOND_MAX + 10


async def test_a_client_that_stops_reading_is_dropped(
    outbox: Outbox, address: tuple[str, int], raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for one subscriber is bounded: beyond that it is disconnected."""
    monkeypatch.setattr(session, "QUEUE_OUT_MAX", 1 << 20)
    client = await raw.open(address, HELLO, subscription("b"))
    await client.packet()
    await client.packet()
    client.writer.transport.pause_reading()
    for _ in range(200):
        await outbox.publish("b", bytes(200_000), retain=False)
    assert outbox.refused["reads too slowly"] == 1
    client.close()


async def test_all_slow_clients_together_are_bounded(
    outbox: Outbox, address: tuple[str, int], raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many stalled subscribers cannot add up to more than the bound for all."""
    monkeypatch.setattr(outbox_module, "QUEUE_OUT_TOTAL_MAX", 1 << 20)
    clients = []
    for i in range(4):
        greeting = mqtt5.ConnectPacket(f"slow-{i}").write()
        clients.append(await raw.open(address, greeting, subscription("b")))
        await clients[-1].packet()
        await clients[-1].packet()
        clients[-1].writer.transport.pause_reading()
    for _ in range(60):
        await outbox.publish("b", bytes(200_000), retain=False)
        assert sum(s.unsent() for s in outbox._sessions) <= (1 << 20) + 5 * 200_000
    assert outbox.refused["reads too slowly"] >= 3
    for client in clients:
        client.close()


async def test_a_client_that_never_greets_is_dropped(
    outbox: Outbox, address: tuple[str, int], raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection without a CONNECT does not hold its socket."""
    monkeypatch.setattr(session, "CONNECT_WITHIN_S", 0.05)
    client = await raw.open(address)
    assert await client.rest() == b""
    assert outbox.refused == {"no CONNECT in time": 1}
    client.close()


async def test_a_silent_client_is_dropped(
    outbox: Outbox, address: tuple[str, int], raw: Any
) -> None:
    """Beyond one and a half keepalives without a packet a client is taken for dead."""
    client = await raw.open(address, mqtt5.ConnectPacket("raw", keep_alive=1).write())
    await client.packet()
    farewell = await client.packet()
    assert isinstance(farewell, mqtt5.DisconnectPacket)
    assert farewell.reason_code == mqtt5.DisconnectReasonCode.KEEP_ALIVE_TIMEOUT
    assert outbox.refused == {"silent beyond its keepalive": 1}
    client.close()


async def test_the_newer_of_two_same_clients_stays(address: tuple[str, int], raw: Any) -> None:
    """A client that comes back replaces its half-open former self."""
    first = await raw.open(address, HELLO)
    await first.packet()
    second = await raw.open(address, HELLO)
    await second.packet()
    farewell = await first.packet()
    assert isinstance(farewell, mqtt5.DisconnectPacket)
    assert farewell.reason_code == mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER
    second.send(b"\xc0\x00")
    assert isinstance(await second.packet(), mqtt5.PingRespPacket)
    first.close()
    second.close()


async def test_nameless_clients_do_not_evict_each_other(address: tuple[str, int], raw: Any) -> None:
    """An empty client ID gets a name of its own, which the server tells."""
    names = set()
    clients = [await raw.open(address, mqtt5.ConnectPacket("").write()) for _ in range(2)]
    for client in clients:
        answer = await client.packet()
        assert isinstance(answer, mqtt5.ConnAckPacket)
        names.add(answer.assigned_client_id)
    for client in clients:
        client.send(b"\xc0\x00")
        assert isinstance(await client.packet(), mqtt5.PingRespPacket)
        client.close()
    assert len(names - {None, ""}) == 2


async def test_connections_are_bounded(
    outbox: Outbox, address: tuple[str, int], raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection too many is closed; those that are there stay."""
    monkeypatch.setattr(outbox_module, "CONNECTIONS_MAX", 1)
    first = await raw.open(address, HELLO)
    await first.packet()
    second = await raw.open(address)
    assert await second.rest() == b""
    assert outbox.refused == {"no room for another connection": 1}
    first.send(b"\xc0\x00")
    assert isinstance(await first.packet(), mqtt5.PingRespPacket)
    first.close()
    second.close()


async def test_subscriptions_are_bounded_and_odd_ones_refused(
    address: tuple[str, int], raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client gets a refusal for each subscription that is too many, shared or no filter."""
    monkeypatch.setattr(subscriptions, "SUBSCRIPTIONS_MAX", 2)
    client = await raw.open(address, HELLO, subscription("$share/g/a", "a", "b", "a", "c/#"))
    await client.packet()
    answer = await client.packet()
    assert isinstance(answer, mqtt5.SubAckPacket)
    assert [int(code) for code in answer.reason_codes] == [0x9E, 0, 0, 0, 0x97]
    client.send(b"\x82\x08\x00\x01\x00\x00\x02a#\x00")
    answer = await client.packet()
    assert isinstance(answer, mqtt5.SubAckPacket)
    assert [int(code) for code in answer.reason_codes] == [0x8F]
    client.close()


async def test_a_message_above_the_subscribers_limit_is_left_out(
    outbox: Outbox, address: tuple[str, int], raw: Any
) -> None:
    """A subscriber that takes small packets only is not sent a large one."""
    greeting = mqtt5.ConnectPacket("raw", max_packet_size=100).write()
    client = await raw.open(address, greeting, subscription("b"))
    await client.packet()
    await client.packet()
    await outbox.publish("b", bytes(200), retain=False)
    await outbox.publish("b", b"small", retain=False)
    message = await client.packet()
    assert isinstance(message, mqtt5.PublishPacket)
    assert message.payload == b"small"
    client.close()


async def test_an_empty_message_clears_what_was_retained(
    outbox: Outbox, address: tuple[str, int], raw: Any
) -> None:
    """A later subscriber finds nothing on a cleared topic, and the flags are MQTT's."""
    await outbox.publish("a", b"1", retain=True)
    await outbox.publish("b", b"2", retain=True)
    await outbox.publish("a", b"", retain=True)
    client = await raw.open(address, HELLO, subscription("#", retain_as_published=True))
    await client.packet()
    await client.packet()
    kept = await client.packet()
    assert isinstance(kept, mqtt5.PublishPacket)
    assert (kept.topic, kept.payload, kept.retain) == ("b", b"2", True)
    await outbox.publish("c", b"3", retain=True)
    live = await client.packet()
    assert isinstance(live, mqtt5.PublishPacket)
    assert (live.topic, live.retain) == ("c", True)
    client.close()


async def test_a_subscriber_says_when_it_wants_retained_messages(
    outbox: Outbox, address: tuple[str, int], raw: Any
) -> None:
    """Retain handling 1 and 2 of MQTT 5: only for a new subscription, and never."""
    await outbox.publish("a", b"1", retain=True)
    if_new = subscription("a", retain_handling=mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS)
    never = subscription("a", retain_handling=mqtt5.RetainHandling.SEND_NEVER)
    client = await raw.open(address, HELLO, never, if_new, if_new, b"\xc0\x00")
    kinds = [type(await client.packet()).__name__ for _ in range(5)]
    assert kinds == ["ConnAckPacket", *["SubAckPacket"] * 3, "PingRespPacket"]
    client.send(mqtt5.UnsubscribePacket(2, ["a", "x"]).write(), if_new)
    unsubscribed = await client.packet()
    assert isinstance(unsubscribed, mqtt5.UnsubAckPacket)
    assert [int(code) for code in unsubscribed.reason_codes] == [0, 17]
    await client.packet()
    assert isinstance(await client.packet(), mqtt5.PublishPacket)
    client.close()


async def test_port_in_use_is_a_clear_error(outbox: Outbox, address: tuple[str, int]) -> None:
    """A second outbox on the same port names host and port."""
    with pytest.raises(IoError, match=f"127.0.0.1:{address[1]}: port in use"):
        await Outbox(*address).start()


async def test_a_foreign_address_is_a_clear_error() -> None:
    """Listening on an address that this machine has not is refused in words."""
    with pytest.raises(IoError, match=r"192\.0\.2\.1:0: cannot listen here: .*[Aa]ssign"):
        await Outbox("192.0.2.1", 0).start()


async def test_misuse_by_our_own_code_crashes(outbox: Outbox) -> None:
    """Publishing too much, or before the start, is our bug and not the network's."""
    with pytest.raises(LocalError, match="too many"):
        await outbox.publish("b", bytes(MESSAGE_BYTES_MAX + 1), retain=False)
    with pytest.raises(LocalError, match="not running"):
        await Outbox("127.0.0.1", 0).publish("b", b"", retain=False)


async def test_stop_does_not_wait_for_a_stalled_reader(
    outbox: Outbox, address: tuple[str, int], raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopping closes every socket, also that of a reader who takes nothing."""
    monkeypatch.setattr(outbox_module, "STOP_WITHIN_S", 0.05)
    client = await raw.open(address, HELLO, subscription("b"))
    await client.packet()
    await client.packet()
    client.writer.transport.pause_reading()
    for _ in range(50):
        await outbox.publish("b", bytes(200_000), retain=False)
    await outbox.stop()
    assert not outbox._sessions
    client.close()


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a/b", "a", False),
        ("#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "ab", False),
        ("+", "a", True),
        ("+", "a/b", False),
        ("+/+", "/a", True),
        ("a/+/c", "a/b/c", True),
        ("a/+", "a", False),
        ("a/b/#", "a", False),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
    ],
)
def test_topic_filters_match_as_the_standard_says(pattern: str, topic: str, expected: bool) -> None:
    """The examples of MQTT 5, section 4.7."""
    assert matches(pattern, topic) is expected


@pytest.mark.parametrize("pattern", ["", "a#", "#/a", "a/#/b", "+a", "a/b+", "a\0"])
def test_what_is_no_topic_filter(pattern: str) -> None:
    """Wildcards stand alone in their level, and `#` at the end only."""
    assert not is_valid(pattern)


@given(st.binary(max_size=200), st.sampled_from([b"", HELLO[:9], HELLO_311[:9], b"\x82\x10"]))
def test_no_bytes_break_a_codec(junk: bytes, start: bytes) -> None:
    """Whatever a stranger sends, a codec returns a packet or raises ValueError or IndexError."""
    packet = start + junk
    try:
        length = packet_length(packet)
    except ValueError:
        return
    if length is None or length > len(packet):
        return
    for read in (lambda p: codec_for(p).read(p), V5().read, V311().read):
        try:
            read(packet[:length])
        except (ValueError, IndexError):
            continue


@given(st.text(min_size=1, max_size=50), st.binary(max_size=40_000), st.booleans())
def test_both_versions_frame_a_message_alike(topic: str, payload: bytes, retain: bool) -> None:
    """A PUBLISH of 3.1.1 is the one of MQTT 5 without its byte for properties."""
    if any(c in topic for c in "+#\0") or topic.encode(errors="replace") != topic.encode():
        return
    old = V311().publish(topic, payload, retain=retain)
    new = V5().publish(topic, payload, retain=retain)
    assert packet_length(old) == len(old)
    assert packet_length(new) == len(new)
    name = topic.encode()
    assert old.endswith(len(name).to_bytes(2, "big") + name + payload)
    assert new.endswith(len(name).to_bytes(2, "big") + name + b"\0" + payload)
    assert old[0] == new[0]
