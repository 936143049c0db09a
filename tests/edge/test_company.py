"""Whom a peer has to do with: all follows from the pins, less those that it shuns.

The outbox and the links are stand-ins that note what they are told; the pins are real.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tallynode.edge.admission import Admission, keep_certificate
from tallynode.edge.broker import Broker
from tallynode.edge.company import Company
from tallynode.edge.identity import Identity, load_or_make
from tallynode.edge.inbox import Inbox
from tallynode.edge.links import Links
from tallynode.protocol import events as ev

SHORT_S, LONG_S = 0.05, 600.0


class Noted(Links, Broker):
    """Links and an outbox in one, that note what they are told."""

    def __init__(self) -> None:
        self._told: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        self.changes = 0  # that the outbox was told of

    async def allow(self, neighbours: frozenset[str]) -> None:
        """Note whom to link to."""
        self._told.put_nowait(neighbours)

    async def pins_changed(self) -> None:
        """Note that who may read has changed."""
        self.changes += 1

    async def allowed(self) -> frozenset[str]:
        """Whom to link to, as told next."""
        return await asyncio.wait_for(self._told.get(), 20)

    def silent(self) -> bool:
        """Whether nothing was told since."""
        return self._told.empty()


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    """Keys of a few devices."""
    folder = tmp_path_factory.mktemp("devices")
    return {name: load_or_make(folder / name) for name in "abcd"}


@pytest.fixture
def admission(devices: dict[str, Identity], tmp_path: Path) -> Admission:
    """What a knows: b and c are pinned, and it has met them."""
    for name in "bc":
        keep_certificate(tmp_path, name, devices[name].certificate)
    pins = {name: devices[name].id for name in "bc"}
    return Admission(devices["a"], pins, tmp_path, me="a")


@pytest.fixture
def noted() -> Noted:
    """What is told to links and outbox."""
    return Noted()


@pytest.fixture
def inbox() -> Inbox:
    """What is told to the protocol."""
    return Inbox()


Start = Callable[[Admission | None], Awaitable[Company]]


@pytest.fixture
async def start(noted: Noted, inbox: Inbox) -> AsyncIterator[Start]:
    """Starts the company of a among b and c, and stops it after the test."""
    started: list[Company] = []

    async def company(admission: Admission | None) -> Company:
        made = Company(admission, "bc", noted, inbox)
        started.append(made)
        await made.start(noted, frozenset("bcd"))
        return made

    yield company
    for made in started:
        await made.stop()


async def events(inbox: Inbox) -> list[ev.Event]:
    """All that waits in an inbox."""
    inbox.put(ev.Tick())
    found: list[ev.Event] = []
    while (event := await inbox.get()) != ev.Tick():
        found.append(event)
    return found


async def test_it_begins_with_the_pins(
    start: Start, admission: Admission, noted: Noted, inbox: Inbox
) -> None:
    """Only the pinned are linked to, and a voter without a pin has no say."""
    await start(admission)
    assert await noted.allowed() == {"b", "c"}
    assert await events(inbox) == [ev.Expelled(origin="d")]


async def test_without_pins_everybody_is_heard(start: Start, noted: Noted, inbox: Inbox) -> None:
    """Nobody is expelled, the links stay as they are, and pins that come later change nothing."""
    company = await start(None)
    company.set_pins({"b": "TALLY-…"})
    assert noted.silent()
    assert await events(inbox) == []


async def test_new_pins_reach_links_outbox_and_protocol(
    start: Start, admission: Admission, devices: dict[str, Identity], noted: Noted, inbox: Inbox
) -> None:
    """Who lost its pin is expelled, who got one trusted; both without a restart."""
    company = await start(admission)
    assert await noted.allowed() == {"b", "c"}
    await events(inbox)
    company.set_pins({name: devices[name].id for name in "cd"})
    assert await events(inbox) == [ev.Expelled(origin="b"), ev.Trusted(origin="d")]
    assert await noted.allowed() == {"c", "d"}
    assert noted.changes == 1
    assert admission.who(devices["b"].certificate) is None
    assert admission.who(devices["c"].certificate) == "c"


async def test_a_replaced_device_loses_its_link_and_its_votes(
    start: Start, admission: Admission, devices: dict[str, Identity], noted: Noted, inbox: Inbox
) -> None:
    """Another ID for a name: the old device is parted from before the new one has a say."""
    company = await start(admission)
    assert await noted.allowed() == {"b", "c"}
    await events(inbox)
    company.set_pins({"b": devices["d"].id, "c": devices["c"].id})
    assert await events(inbox) == [ev.Expelled(origin="b")]
    assert await noted.allowed() == {"c"}
    assert await noted.allowed() == {"b", "c"}
    assert await events(inbox) == [ev.Trusted(origin="b")]
    assert noted.silent()


async def test_pins_that_change_before_the_start_are_those_it_begins_with(
    admission: Admission, devices: dict[str, Identity], noted: Noted, inbox: Inbox
) -> None:
    """A reload while the daemon starts is not lost, and nobody is told twice."""
    company = Company(admission, "bc", noted, inbox)
    company.set_pins({"d": devices["d"].id})
    await company.start(noted, frozenset("bcd"))
    assert await events(inbox) == [ev.Expelled(origin="b"), ev.Expelled(origin="c")]
    assert await noted.allowed() == {"d"}
    assert noted.silent()
    await company.stop()


async def test_a_shunned_neighbour_is_let_in_again_in_time(
    start: Start, admission: Admission, devices: dict[str, Identity], noted: Noted, inbox: Inbox
) -> None:
    """Meanwhile it is neither linked to nor let in; it keeps its pin, and its say by relays."""
    company = await start(admission)
    assert await noted.allowed() == {"b", "c"}
    await events(inbox)
    company.shun("b", SHORT_S)
    assert await noted.allowed() == {"c"}
    assert admission.who(devices["b"].certificate) is None
    assert admission.pinned == {"b", "c"}
    assert await noted.allowed() == {"b", "c"}
    assert admission.who(devices["b"].certificate) == "b"
    assert noted.changes == 2
    assert await events(inbox) == []


async def test_shunned_again_counts_from_then_on(
    start: Start, admission: Admission, noted: Noted
) -> None:
    """The end of the first time does not end the second."""
    company = await start(admission)
    assert await noted.allowed() == {"b", "c"}
    for name, for_s in (("b", SHORT_S), ("b", LONG_S), ("c", SHORT_S)):
        company.shun(name, for_s)
        assert await noted.allowed() <= {"c"}
    assert await noted.allowed() == {"c"}  # it is forgiven; the first end of b's time was before


async def test_without_pins_a_shunned_neighbour_is_not_linked_to(
    start: Start, noted: Noted
) -> None:
    """The links part from it; the outbox, which knows nobody's name, is left alone."""
    company = await start(None)
    company.shun("b", SHORT_S)
    assert [await noted.allowed() for _ in range(2)] == [{"c"}, {"b", "c"}]
    assert noted.changes == 0


async def test_nothing_is_changed_after_the_end(
    start: Start, admission: Admission, noted: Noted
) -> None:
    """A shunned neighbour is not forgiven by a company that has ended."""
    company = await start(admission)
    company.shun("b", SHORT_S)
    assert [await noted.allowed() for _ in range(2)] == [{"b", "c"}, {"c"}]
    await company.stop()
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(SHORT_S, later.set)  # behind what was to forgive b
    await later.wait()
    assert noted.silent()
