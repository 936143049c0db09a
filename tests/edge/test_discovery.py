"""Discovery over real multicast on loopback, and the book of last-known addresses."""

import asyncio
import stat
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from zeroconf import DNSOutgoing, DNSPointer, IPVersion
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf
from zeroconf.const import _CLASS_IN, _FLAGS_AA, _FLAGS_QR_RESPONSE, _TYPE_PTR

from tallynode.edge.discovery import ADDRESSES_MAX, HOSTS_MAX, SERVICE, AddressBook, Discovery
from tallynode.errors import IoError

WAIT_S = 20.0  # seconds; far beyond what discovery takes, so that only a failure reaches it


class Sightings:
    """Collects what peers report and lets a test wait for it."""

    def __init__(self) -> None:
        self.seen: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.started: list[Discovery] = []

    async def start(self, me: str, port: int, mesh: str = "m") -> Discovery:
        """Start a peer's discovery on loopback."""

        def found(peer: str, host: str, at: int) -> None:
            self.seen[me].append((peer, host, at))
            task = asyncio.ensure_future(self._notify())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        discovery = Discovery(me, mesh, "127.0.0.1", port, found)
        self.started.append(discovery)
        assert await discovery.start()
        return discovery

    async def until(self, me: str, *sightings: tuple[str, str, int]) -> None:
        """Wait until a peer has reported all of these."""
        async with asyncio.timeout(WAIT_S), self._changed:
            await self._changed.wait_for(lambda: set(sightings) <= set(self.seen[me]))

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@pytest.fixture
async def sightings() -> AsyncIterator[Sightings]:
    """Collect sightings, and stop what the test started."""
    collected = Sightings()
    yield collected
    await asyncio.gather(*(discovery.stop() for discovery in collected.started))


async def test_three_peers_find_each_other(sightings: Sightings) -> None:
    """Three peers on loopback each report the two others, with the ports of their outboxes."""
    ports = {"a": 1001, "b": 1002, "c": 1003}
    for me, port in ports.items():
        await sightings.start(me, port)
    for me in ports:
        others = [(peer, "127.0.0.1", port) for peer, port in ports.items() if peer != me]
        await sightings.until(me, *others)


async def test_other_meshes_and_oneself_are_not_reported(sightings: Sightings) -> None:
    """A peer of another mesh is ignored even if it announces first, and so is one's own."""
    await sightings.start("x", 1009, mesh="other")
    await sightings.start("a", 1001)
    await sightings.start("b", 1002)
    await sightings.until("a", ("b", "127.0.0.1", 1002))
    await sightings.until("b", ("a", "127.0.0.1", 1001))
    assert {peer for peer, _, _ in sightings.seen["a"]} == {"b"}
    assert {peer for peer, _, _ in sightings.seen["b"]} == {"a"}
    assert sightings.seen["x"] == []


async def test_a_peer_that_returns_on_another_port_is_reported_again(sightings: Sightings) -> None:
    """A restart under the same name neither clashes nor keeps the old port."""
    await sightings.start("a", 1001)
    before = await sightings.start("b", 1002)
    await sightings.until("a", ("b", "127.0.0.1", 1002))
    again = await sightings.start("b", 2002)  # while the network still remembers the old one
    await sightings.until("a", ("b", "127.0.0.1", 2002))
    await before.stop()
    await again.stop()
    assert sightings.seen["a"][-1] == ("b", "127.0.0.1", 2002)


FOREIGN: list[dict[str | bytes, str | bytes | None]] = [
    {},
    {"mesh": "m"},
    {"mesh": "m", "peer": None},
    {"mesh": "m", "peer": "Not A Name\x1b[2J"},
    {"mesh": b"\xff\xfe", "peer": b"\xff"},
]


async def test_foreign_announcements_are_ignored(sightings: Sightings) -> None:
    """Whatever else is announced under our service type is not reported and breaks nothing."""
    stranger = AsyncZeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
    try:
        await stranger.zeroconf.async_wait_for_start()
        for i, properties in enumerate(FOREIGN):
            info = AsyncServiceInfo(
                SERVICE,
                f"stranger-{i}.{SERVICE}",
                port=5,
                parsed_addresses=["127.0.0.1"],
                server=f"stranger-{i}.local.",
                properties=properties,
            )
            await stranger.async_register_service(info, cooperating_responders=True)
        await sightings.start("a", 1001)
        await sightings.start("b", 1002)
        await sightings.until("a", ("b", "127.0.0.1", 1002))
        assert {peer for peer, _, _ in sightings.seen["a"]} == {"b"}
    finally:
        await stranger.async_close()


@pytest.mark.parametrize("name", ["printer._http._tcp.local.", SERVICE, "x.y." + SERVICE])
async def test_a_malformed_record_ends_nothing(sightings: Sightings, name: str) -> None:
    """One pointer to a name that is none of our service leaves all later ones to be found."""
    await sightings.start("a", 1001)
    stranger = AsyncZeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
    try:
        await stranger.zeroconf.async_wait_for_start()
        answer = DNSOutgoing(_FLAGS_QR_RESPONSE | _FLAGS_AA)
        answer.add_answer_at_time(DNSPointer(SERVICE, _TYPE_PTR, _CLASS_IN, 120, name), 0)
        stranger.zeroconf.async_send(answer)
        await sightings.start("b", 1002)
        await sightings.until("a", ("b", "127.0.0.1", 1002))
    finally:
        await stranger.async_close()


async def test_every_address_of_a_neighbour_is_reported(sightings: Sightings) -> None:
    """A device with two networks may be reachable on one of them only: the likeliest comes last."""
    stranger = AsyncZeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
    hosts = ["127.0.0.1", *(f"203.0.113.{i}" for i in range(HOSTS_MAX + 2))]
    try:
        await stranger.zeroconf.async_wait_for_start()
        info = AsyncServiceInfo(
            SERVICE,
            f"two-networks.{SERVICE}",
            port=5,
            parsed_addresses=hosts,
            server="two-networks.local.",
            properties={"mesh": "m", "peer": "b"},
        )
        await stranger.async_register_service(info, cooperating_responders=True)
        await sightings.start("a", 1001)
        await sightings.until("a", ("b", "127.0.0.1", 5))
    finally:
        await stranger.async_close()
    found = [host for _, host, _ in sightings.seen["a"]]
    assert len(found) == len(set(found)) == HOSTS_MAX
    assert found[-1] == "127.0.0.1"


async def test_two_long_names_that_begin_alike_stay_apart(sightings: Sightings) -> None:
    """Names as long as allowed fit a DNS label and are still told apart."""
    long = "p" * 31
    await sightings.start(f"{long}1", 1001, mesh="m" * 32)
    await sightings.start(f"{long}2", 1002, mesh="m" * 32)
    await sightings.until(f"{long}1", (f"{long}2", "127.0.0.1", 1002))
    await sightings.until(f"{long}2", (f"{long}1", "127.0.0.1", 1001))


@pytest.mark.parametrize("host", ["203.0.113.9", "::1"])
async def test_no_multicast_is_a_warning(host: str) -> None:
    """Where mDNS cannot work, the peer goes on with static addresses and says so once."""
    discovery = Discovery("a", "m", host, 1001, lambda *_: None)
    with capture_logs() as logs:
        assert not await discovery.start()
        assert not await discovery.refresh()
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert logs[0]["event"].startswith("discovery off: ")
    await discovery.stop()


async def test_refresh_leaves_a_working_discovery_alone(sightings: Sightings) -> None:
    """With the same addresses as before, a refresh announces nothing again."""
    await sightings.start("a", 1001)
    discovery = await sightings.start("b", 1002)
    await sightings.until("a", ("b", "127.0.0.1", 1002))
    assert await discovery.refresh()
    assert sightings.seen["a"] == [("b", "127.0.0.1", 1002)]


def test_address_book_remembers_across_restarts(tmp_path: Path) -> None:
    """What was saved is found again, readable by this user only."""
    path = tmp_path / "addresses.json"
    book = AddressBook(path)
    assert book.get("a") is None
    book.remember("a", "10.0.0.1", 1883)
    book.remember("a", "10.0.0.2", 1884)
    book.save()
    assert AddressBook(path).get("a") == ("10.0.0.2", 1884)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_address_book_writes_only_changes(tmp_path: Path) -> None:
    """An address that is known already costs no write to the disk."""
    path = tmp_path / "addresses.json"
    book = AddressBook(path)
    book.remember("a", "10.0.0.1", 1883)
    book.save()
    path.unlink()
    book.remember("a", "10.0.0.1", 1883)
    book.save()
    assert not path.exists()


def test_address_book_is_bounded(tmp_path: Path) -> None:
    """A network of strangers cannot fill the book; known peers still move."""
    book = AddressBook(tmp_path / "addresses.json")
    for i in range(ADDRESSES_MAX):
        book.remember(f"p{i}", "10.0.0.1", 1883)
    book.remember("one-more", "10.0.0.1", 1883)
    book.remember("p0", "10.0.0.2", 1883)
    assert book.get("one-more") is None
    assert book.get("p0") == ("10.0.0.2", 1883)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": ["h", "x"]}', b"\xff"])
def test_damaged_address_book_starts_empty(content: bytes, tmp_path: Path) -> None:
    """Last-known addresses are a hint: a damaged file is dropped with a warning."""
    path = tmp_path / "addresses.json"
    path.write_bytes(content)
    with capture_logs() as logs:
        assert AddressBook(path).get("a") is None
    assert [entry["log_level"] for entry in logs] == ["warning"]


def test_address_book_that_cannot_be_written_names_the_file(tmp_path: Path) -> None:
    """A folder that is gone is an error that names the file, and a later save tries again."""
    book = AddressBook(tmp_path / "gone" / "addresses.json")
    book.remember("a", "10.0.0.1", 1883)
    for _ in range(2):
        with pytest.raises(IoError, match=r"gone/addresses\.json: cannot write: No such file"):
            book.save()
