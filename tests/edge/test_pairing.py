"""Pairing between devices on loopback, and what a hostile one can make it do."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tallynode.edge import pair
from tallynode.edge.identity import Identity, load_or_make
from tallynode.edge.pairing import LINE_BYTES_MAX, QUESTIONS_MAX, Candidate, Pairing
from tallynode.errors import DataError
from tallynode.lab.forgeries import second_of

WAIT_S = 20.0


@asynccontextmanager
async def device_that_says(line: bytes, pem: Path) -> AsyncIterator[int]:
    """A pairing device of somebody else's making; its port."""

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(line)
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = await asyncio.start_server(tell, "127.0.0.1", 0, ssl=context)
    yield int(server.sockets[0].getsockname()[1])
    server.close()


class Person:
    """Sits in front of a device, and answers what it asks."""

    def __init__(self, identity: Identity, *, yes: bool, pin: str = "", wanted: str = "b") -> None:
        self.asked: list[Candidate] = []
        self.paired: list[Candidate] = []
        self.told: list[str] = []  # IDs of strangers
        self._yes = yes
        self.pairing = Pairing(
            identity,
            self._answer,
            self.paired.append,
            lambda stranger: self.told.append(stranger.id),
            {wanted},
            {"b": pin} if pin else {},
        )

    async def _answer(self, candidate: Candidate) -> bool:
        self.asked.append(candidate)
        return self._yes

    async def looks_at(self, port: int) -> None:
        """One look at a device that calls itself b."""
        self.pairing._found("b", "127.0.0.1", port)
        await asyncio.wait_for(self.pairing._look("b"), WAIT_S)


@pytest.fixture
def own(tmp_path: Path) -> Identity:
    """This device."""
    return load_or_make(tmp_path / "a")


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"\xff\xfe\n", b";" * 9, b"[" * 9000 + b"\n", b"x" * (2 * LINE_BYTES_MAX) + b"\n"],
)
async def test_garbage_pairs_nobody(line: bytes, own: Identity, tmp_path: Path) -> None:
    """Whatever a device says, it is no yes, and no error of ours."""
    person = Person(own, yes=True)
    async with device_that_says(line, load_or_make(tmp_path / "b").pem) as port:
        await person.looks_at(port)
        await person.looks_at(port)
    assert person.paired == []
    assert len(person.asked) <= 1


async def test_a_device_without_a_peers_certificate_is_not_shown(
    own: Identity, tmp_path: Path
) -> None:
    """Nobody is asked about an ID that its certificate does not stand for."""
    person = Person(own, yes=True)
    pem = second_of(load_or_make(tmp_path / "b").pem, tmp_path / "second.pem")
    async with device_that_says(f"{own.id};\n".encode(), pem) as port:
        await person.looks_at(port)
    assert person.asked == person.paired == []


async def test_another_key_under_the_accepted_name_is_not_paired(
    own: Identity, tmp_path: Path
) -> None:
    """A yes holds for one ID: who takes the name over afterwards gets nothing."""
    person = Person(own, yes=True)
    true, false = (load_or_make(tmp_path / name) for name in ("b", "mallory"))
    async with device_that_says(b";\n", true.pem) as port:
        await person.looks_at(port)
    async with device_that_says(f"{own.id};\n".encode(), false.pem) as port:
        await person.looks_at(port)
    assert [candidate.id for candidate in person.asked] == [true.id]
    assert person.paired == []


@pytest.mark.parametrize("wanted", ["b", "c"])
async def test_a_replaced_device_is_told_once(own: Identity, tmp_path: Path, wanted: str) -> None:
    """A pinned name with another ID is named, also while others are paired, and not paired."""
    old, new = (load_or_make(tmp_path / name) for name in ("old", "new"))
    person = Person(own, yes=True, pin=old.id, wanted=wanted)
    for device in (new, new, old):
        async with device_that_says(f"{own.id};\n".encode(), device.pem) as port:
            await person.looks_at(port)
    assert person.told == [new.id]
    assert person.asked == []
    assert [each.id for each in person.paired] == ([old.id] if wanted == "b" else [])


async def test_a_person_is_not_asked_for_ever(own: Identity, tmp_path: Path) -> None:
    """Who announces key after key under one name is shown a few times."""
    person = Person(own, yes=False)
    for i in range(QUESTIONS_MAX + 2):
        async with device_that_says(b";\n", load_or_make(tmp_path / f"b{i}").pem) as port:
            await person.looks_at(port)
            await person.looks_at(port)
    assert len(person.asked) == QUESTIONS_MAX


async def test_the_window_closes_on_whatever_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one cancellation is lost; what fails within it is raised."""
    lost = 0

    async def stubborn() -> None:
        nonlocal lost
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            lost += 1
            await asyncio.sleep(60)

    async def broken() -> None:
        raise DataError("no pins")

    monkeypatch.setattr(pair, "WINDOW_S", 0.05)
    assert not await pair._within_window(stubborn())
    assert lost == 1
    assert await pair._within_window(asyncio.sleep(0))
    with pytest.raises(DataError):
        await pair._within_window(broken())
