"""Who is let in: real TLS over real sockets, by pinned keys and by all sorts of others."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mqtt5
import pytest

from tallynode.edge import door as door_module
from tallynode.edge.admission import Admission, keep_certificate
from tallynode.edge.broker import Broker, make_broker
from tallynode.edge.identity import load_or_make
from tallynode.edge.links import Links
from tallynode.edge.outbox import CONNECTIONS_PER_READER_MAX, Outbox
from tallynode.lab.forgeries import child_of, second_of

WAIT_S = 20.0
CONNECT = mqtt5.ConnectPacket(client_id="c", clean_start=True).write()
MOSQUITTO = [
    pytest.mark.privileged,
    pytest.mark.skipif(
        not shutil.which("mosquitto", path="/usr/sbin:/usr/bin"),
        reason="mosquitto is not installed",
    ),
]
KINDS = ["embedded", pytest.param("mosquitto", marks=MOSQUITTO)]


class Party:
    """A few devices, each with a key and, at first, all the others pinned."""

    def __init__(self, folder: Path, names: str) -> None:
        self.folder = folder
        self.devices = {name: load_or_make(folder / name) for name in names}

    def admission(self, name: str, *others: str) -> Admission:
        """What one device knows of these others."""
        pins = {other: self.devices[other].id for other in others}
        return Admission(self.devices[name], pins, self.folder / name)

    def knows(self, name: str, *others: str) -> None:
        """Let one device have met others before."""
        for other in others:
            keep_certificate(self.folder / name, other, self.devices[other].certificate)

    def client(self, name: str, pem: Path | None = None) -> ssl.SSLContext:
        """TLS as a client that shows a device's certificate, or another file's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if name:
            context.load_cert_chain(pem or self.devices[name].pem)
        return context


@pytest.fixture
def party(tmp_path: Path) -> Party:
    """Devices a, b and c, and x, whom nobody has pinned."""
    return Party(tmp_path, "abcx")


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[tuple[Broker, int]]]]:
    """Starts brokers, and stops them after the test."""
    started: list[Broker] = []

    async def start(admission: Admission, kind: str = "embedded") -> tuple[Broker, int]:
        folder = tmp_path / f"broker-{len(started)}"
        broker = make_broker(
            kind,
            name="p",
            mesh="m",
            address=("127.0.0.1", 0),
            run_dir=folder,
            admission=admission,
        )
        admission.on_learnt = lambda: asyncio.ensure_future(broker.pins_changed())
        _, port = await broker.start()
        started.append(broker)
        return broker, port

    yield start
    for broker in started:
        await broker.stop()


@asynccontextmanager
async def linked(
    admission: Admission, **ports: int
) -> AsyncIterator[tuple[Links, asyncio.Queue[tuple[object, ...]]]]:
    """Links to neighbours at these ports, and what they report."""
    heard: asyncio.Queue[tuple[object, ...]] = asyncio.Queue()
    links = Links(
        "reader",
        on_up=lambda name: heard.put_nowait(("up", name)),
        on_down=lambda name: heard.put_nowait(("down", name)),
        on_message=lambda *message: heard.put_nowait(message),
        tls=admission.link_to,
        backoff=(0.02, 0.2),
    )
    await links.allow(admission.pinned)
    running = asyncio.create_task(links.run())
    for name, port in ports.items():
        links.set_address(name, "127.0.0.1", port)
        links.subscribe(name, ["t"])
    try:
        yield links, heard
    finally:
        await links.stop()
        await running


async def hears(heard: asyncio.Queue[tuple[object, ...]], *wanted: tuple[object, ...]) -> None:
    """Wait until all of these have been reported, whatever else was."""
    missing = set(wanted)
    async with asyncio.timeout(WAIT_S):
        while missing:
            missing.discard(await heard.get())


@pytest.mark.parametrize("kind", KINDS)
async def test_neighbours_that_know_only_ids_meet(kind: str, party: Party, serve: Any) -> None:
    """From two pins and nothing else, each learns the other's certificate and reads its outbox."""
    a, b = party.admission("a", "b"), party.admission("b", "a")
    (at_a, port_a), (at_b, port_b) = await serve(a, kind), await serve(b, kind)
    await at_a.publish("t", b"from a", retain=True)
    await at_b.publish("t", b"from b", retain=True)
    async with linked(a, b=port_b) as (_, heard_by_a), linked(b, a=port_a) as (_, heard_by_b):
        await hears(heard_by_a, ("b", "t", b"from b"))
        await hears(heard_by_b, ("a", "t", b"from a"))


async def test_who_has_met_before_is_let_in_at_once(party: Party, serve: Any) -> None:
    """Certificates are kept for the next start, so that it takes one attempt."""
    party.knows("a", "b")
    broker, port = await serve(party.admission("a", "b"))
    async with linked(party.admission("b", "a"), a=port) as (_, heard):
        await hears(heard, ("up", "a"))
    assert not broker.refused


async def test_a_kept_certificate_of_an_older_pin_is_not_trusted(party: Party, serve: Any) -> None:
    """Pinning another key under the same name turns the old one away."""
    keep_certificate(party.folder / "a", "b", party.devices["x"].certificate)
    broker, port = await serve(party.admission("a", "b"))
    with pytest.raises(ConnectionError):
        await read_once(party, port, "x")
    assert broker.refused == {"TLS: certificate verify failed": 1}


def tls_1_2(party: Party) -> ssl.SSLContext:
    """The pinned neighbour with an old library."""
    context = party.client("b")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


STRANGERS: dict[str, tuple[Callable[[Party], ssl.SSLContext | None], str]] = {
    "no certificate": (lambda p: p.client(""), "TLS: peer did not return a certificate"),
    "not pinned": (lambda p: p.client("x"), "TLS: certificate verify failed"),
    "child of a pinned key": (
        lambda p: p.client("b", child_of(p.devices["b"].pem, p.folder / "x.pem")),
        "TLS: certificate verify failed",
    ),
    "second certificate of a pinned key": (
        lambda p: p.client("b", second_of(p.devices["b"].pem, p.folder / "x.pem")),
        "TLS: certificate verify failed",
    ),
    "plaintext": (lambda _: None, "TLS: wrong version number"),
    "TLS 1.2": (tls_1_2, "TLS: unsupported protocol"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", STRANGERS)
async def test_strangers_are_refused(case: str, kind: str, party: Party, serve: Any) -> None:
    """Within a second, with the reason counted, and without one byte of the outbox."""
    make, why = STRANGERS[case]
    party.knows("a", "b")
    broker, port = await serve(party.admission("a", "b"), kind)
    async with asyncio.timeout(1.0):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=make(party))
            writer.write(CONNECT)
            received = await reader.read(-1)
            writer.close()
        except OSError:  # ssl.SSLError among them
            received = b""
    assert received == b""
    if isinstance(broker, Outbox):
        assert broker.refused == {why: 1}


async def converse(raw: Any, party: Party, port: int, name: str, *packets: bytes) -> Any:
    """A client with the certificate of one device, greeted."""
    streams = await asyncio.open_connection("127.0.0.1", port, ssl=party.client(name))
    client = raw(*streams)
    client.send(*packets)
    assert (await client.packet()).reason_code == mqtt5.ConnAckReasonCode.SUCCESS
    return client


async def test_a_pinned_neighbour_may_read_and_nothing_else(
    party: Party, serve: Any, raw: Any
) -> None:
    """A publish on any topic ends its connection, a strange topic is refused; nothing arrives."""
    party.knows("a", "b", "c")
    broker, port = await serve(party.admission("a", "b", "c"))
    await broker.publish("v/a", b"true", retain=True)
    for topic in ("v/a", "v/b", "h", "anything"):
        b = await converse(raw, party, port, "b", CONNECT)
        b.send(mqtt5.PublishPacket(topic, b"forged", retain=True).write())
        answer = await b.packet()
        assert answer.reason_code == mqtt5.DisconnectReasonCode.NOT_AUTHORIZED
        b.close()
    assert broker.refused == {"publish by a stranger": 4}
    c = await converse(raw, party, port, "c", CONNECT)
    filters = [mqtt5.TopicFilter(topic) for topic in ("$share/g/v/#", "#")]
    c.send(mqtt5.SubscribePacket(1, filters).write())
    code = mqtt5.SubAckReasonCode
    assert (await c.packet()).reason_codes == [
        code.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
        code.GRANTED_QOS_AT_MOST_ONCE,
    ]
    assert (await c.packet()).payload == b"true"
    c.close()


async def test_a_neighbour_cannot_take_over_anothers_connection(
    party: Party, serve: Any, raw: Any
) -> None:
    """The same client ID under another key is another client; under its own it takes over."""
    party.knows("a", "b", "c")
    _, port = await serve(party.admission("a", "b", "c"))
    c = await converse(raw, party, port, "c", CONNECT)
    b = await converse(raw, party, port, "b", CONNECT)
    c.send(mqtt5.PingReqPacket().write())
    assert isinstance(await c.packet(), mqtt5.PingRespPacket)
    again = await converse(raw, party, port, "c", CONNECT)
    assert (await c.packet()).reason_code == mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER
    for client in (b, c, again):
        client.close()


async def test_a_neighbour_cannot_take_all_connections(party: Party, serve: Any, raw: Any) -> None:
    """Each key gets some connections; the next one's newcomers still come in."""
    party.knows("a", "b", "c")
    broker, port = await serve(party.admission("a", "b", "c"))
    hello = [mqtt5.ConnectPacket(client_id=f"c{i}", clean_start=True).write() for i in range(20)]
    clients = [
        await converse(raw, party, port, "b", hello[i]) for i in range(CONNECTIONS_PER_READER_MAX)
    ]
    streams = await asyncio.open_connection("127.0.0.1", port, ssl=party.client("b"))
    one_too_many = raw(*streams)
    assert await one_too_many.rest() == b""
    clients.append(await converse(raw, party, port, "c", hello[0]))
    assert broker.refused == {"no room for another connection": 1}
    for client in (*clients, one_too_many):
        client.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_removed_pin_ends_what_it_had_opened(kind: str, party: Party, serve: Any) -> None:
    """Reader and link are cut at once and stay out; pinned again, both come back."""
    party.knows("a", "b")
    party.knows("b", "a")
    a, b = party.admission("a", "b"), party.admission("b", "a")
    (at_a, port_a), (_, port_b) = await serve(a, kind), await serve(b, kind)
    pins = {"b": party.devices["b"].id}
    async with linked(a, b=port_b) as (links_a, heard_a), linked(b, a=port_a) as (_, heard_b):
        await hears(heard_a, ("up", "b"))
        await hears(heard_b, ("up", "a"))
        a.set_pins({})
        await links_a.allow(a.pinned)
        await at_a.pins_changed()
        await hears(heard_a, ("down", "b"))
        await hears(heard_b, ("down", "a"))
        await at_a.publish("t", b"not for b", retain=True)
        links_a.set_address("b", "127.0.0.1", port_b)
        with pytest.raises(ConnectionError):
            await read_once(party, port_a, "b")
        assert heard_a.empty()
        assert heard_b.empty()
        a.set_pins(pins)
        await links_a.allow(a.pinned)
        await at_a.pins_changed()
        await hears(heard_a, ("up", "b"))
        await hears(heard_b, ("up", "a"), ("a", "t", b"not for b"))


@pytest.mark.parametrize("kind", KINDS[1:])
async def test_pins_that_change_while_mosquitto_starts_are_those_that_count(
    kind: str, party: Party, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is being started with the certificates of before: it is started once more."""
    party.knows("a", "b")
    a = party.admission("a", "b")
    at_a, port = await serve(a, kind)
    await read_once(party, port, "b")
    launch = asyncio.create_subprocess_exec

    async def change_and_launch(*words: Any, **options: Any) -> Any:
        monkeypatch.undo()
        a.set_pins({"b": party.devices["b"].id})
        await at_a.pins_changed()
        return await launch(*words, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", change_and_launch)
    a.set_pins({})
    await at_a.pins_changed()
    async with asyncio.timeout(WAIT_S):
        while True:
            await asyncio.sleep(0.1)
            try:
                await read_once(party, port, "b")
            except ConnectionError:
                continue
            if asyncio.create_subprocess_exec is launch:
                break


async def read_once(party: Party, port: int, name: str) -> None:
    """One attempt of a device; ConnectionError where it is refused."""
    try:
        async with asyncio.timeout(WAIT_S):
            context = party.client(name)
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            writer.write(CONNECT)
            if not await reader.read(1):
                raise ConnectionError("hung up")
    except ssl.SSLError as error:
        raise ConnectionError(error.reason) from None


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something holds."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - counters tell nobody that they changed
            await asyncio.sleep(0)


async def test_a_link_goes_to_nobody_but_the_pinned_key(party: Party, serve: Any) -> None:
    """Whoever answers at a neighbour's address with another key gets not one byte of MQTT."""
    party.knows("x", "a")
    impostor, port = await serve(party.admission("x", "a"))
    async with linked(party.admission("a", "b"), b=port) as (links, heard):
        await until(lambda: impostor.traffic().received)
        assert links.linked() == frozenset()
        assert heard.empty()
    assert not impostor._by_client_id


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"])
async def test_a_handshake_that_never_ends_is_ended(
    sent: bytes, party: Party, serve: Any, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent or half-said, it holds its place for a bounded time."""
    monkeypatch.setattr(door_module, "HANDSHAKE_WITHIN_S", 0.05)
    broker, port = await serve(party.admission("a", "b"))
    client = await raw.open(("127.0.0.1", port), sent)
    assert await client.rest() == b""
    client.close()
    assert broker.refused == {"TLS: handshake broken off": 1}


async def test_handshakes_are_rationed(
    party: Party, serve: Any, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection too many is closed before TLS begins; other addresses are still served."""
    monkeypatch.setattr("tallynode.edge.throttle.OPEN_PER_SOURCE_MAX", 3)
    party.knows("a", "b")
    broker, port = await serve(party.admission("a", "b"))
    silent = [await raw.open(("127.0.0.1", port)) for _ in range(4)]
    assert await silent.pop().rest() == b""
    assert broker.refused == {"too many unfinished greetings": 1}
    elsewhere = await asyncio.open_connection(
        "127.0.0.1", port, ssl=party.client("b"), local_addr=("127.0.0.2", 0)
    )
    elsewhere[1].close()
    silent.pop().close()
    await until(lambda: broker.refused["TLS: handshake broken off"])
    (await converse(raw, party, port, "b", CONNECT)).close()
    for client in silent:
        client.close()
