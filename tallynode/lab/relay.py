"""A pinned neighbour that relays what nobody has said: real sockets, real keys, one verdict each.

Peers a and b train; a also reads m's outbox, which is ours, and through which the ballots of c can
come. Nothing that m makes up may count; what c has signed does, which shows that the rest was
refused for its signature and not for something else.

Each attempt ends with a question about a voter that there is not: a says in its log that it refuses
it, and so has heard by then all that was said before.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from tallynode import assemble
from tallynode.config import load_mesh
from tallynode.edge.admission import Admission, keep_certificate
from tallynode.edge.identity import Identity, load_or_make
from tallynode.edge.outbox import Outbox
from tallynode.edge.signer import DeviceSigner
from tallynode.lab.siege import Watched, start_peer
from tallynode.lab.trial import free_ports
from tallynode.protocol import wire
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.messages import Ask, Ballot, Key
from tallynode.protocol.peer import Peer
from tallynode.protocol.settings import PeerSettings

NAMES = ("a", "b", "c", "m")
MESH = "relayed"  # and so it was called in the epoch before
WARM_ROUNDS = 5
ROUNDS_AFTER = 3  # that begin and close after each attempt was heard
AHEAD = range(1, 5)  # rounds beyond a's last that ballots are for: usable where a is, or comes
TRUE = "what c has signed"
GARBAGE = 40  # messages; more than anybody forgives


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One attempt, and what a made of it."""

    name: str
    sent: int  # messages
    refused: int
    ms: float  # until a had heard them all
    grown_mib: float  # most resident memory of a meanwhile, above that before
    voters: list[int]  # in each round that closed since it began
    closed_by: list[str]  # likewise
    left_out: list[str]


class Relay:
    """m's outbox, and the keys with which ballots are made up."""

    def __init__(self, outbox: Outbox, watched: Watched, settings: PeerSettings) -> None:
        self.outbox = outbox
        self.watched = watched
        self.signers: Mapping[str, DeviceSigner] = {}
        self.mesh = settings.mesh
        self._settings = settings

    def ballot(
        self, origin: str, ahead: int, *, by: str | None, mesh: str | None = None, says: int = 0
    ) -> bytes:
        """A ballot that says one class of all, signed with a key, perhaps as for another mesh."""
        mine = replace(self._settings, name=origin, mesh=mesh or self._settings.mesh)
        hearing = Peer(mine, signer=self.signers[by] if by else None).hearing
        round_ = max(1, int(self.watched.records()[-1]["round"]) + ahead)
        held = hearing.contents.encode(round_, np.full(mine.entries, says))
        made = Ballot(
            origin=origin,
            round=round_,
            hops_left=1,
            coding=held.coding,
            body=held.coded,
            signature=hearing.signatures.sign(round_, held.content) if by else b"",
        )
        return wire.encode_ballot(made, self._settings.mesh, mine.probe_digest)

    def oversize(self) -> bytes:
        """A ballot of m's own with far more votes than there are probes."""
        body = bytes(200_000)
        made = Ballot(origin="m", round=1, hops_left=1, coding=Coding.PACKED, body=body)
        return wire.encode_ballot(made, self._settings.mesh, self._settings.probe_digest)

    async def say(self, name: str, *messages: tuple[str, bytes]) -> Heard:
        """Publish, and see what becomes of it."""
        heard, grown = await self.watched.watch(self._say(name, messages))
        return replace(heard, grown_mib=grown)

    async def _say(self, name: str, messages: Sequence[tuple[str, bytes]]) -> Heard:
        before = self.watched.records()
        mark = f"mark-{len(before)}"
        end = wire.encode_ask(Ask(origin=mark, round=1), self._settings.mesh)
        began = time.perf_counter()
        for topic, data in (*messages, (wire.ask_topic("a"), end)):
            await self.outbox.publish(topic, data, retain=False)
        await self.watched.until(lambda: self.watched.says(mark) or self.watched.says("shunned"))
        ms = 1000 * (time.perf_counter() - began)
        wanted = len(self.watched.records()) + 1 + ROUNDS_AFTER  # the one that is open, and more
        await self.watched.until(lambda: len(self.watched.records()) >= wanted)
        since = self.watched.records()[len(before) : wanted]
        return Heard(
            name=name,
            sent=len(messages),
            ms=ms,
            grown_mib=0.0,
            refused=since[-1]["refused"] - before[-1]["refused"] - 1,  # but for the mark
            voters=[record["voters"] for record in since],
            closed_by=[record["closed_by"] for record in since],
            left_out=since[-1]["left_out"],
        )


async def relay_forgeries(folder: Path) -> list[Heard]:
    """Start the peers, make all attempts, and end them."""
    devices = {name: load_or_make(folder / name / "state") for name in NAMES}
    ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
    file = _topology(folder, devices, ports)
    keep_certificate(folder / "m" / "state" / "identity", "a", devices["a"].certificate)
    admissions = {name: _admission(folder, devices, name) for name in NAMES}
    outbox = Outbox("127.0.0.1", ports["m"], admissions["m"])
    watched = Watched(folder, [start_peer(folder, file, name) for name in "ab"])
    try:
        settings = assemble.parts(load_mesh(file), "c").settings
        relay = Relay(outbox, watched, replace(settings, reach={"m": {"m": 1, "a": 2, "b": 2}}))
        relay.signers = {name: DeviceSigner(admission) for name, admission in admissions.items()}
        await outbox.start()
        await _introduce(relay)
        await watched.until(
            lambda: (
                len(watched.records()) >= WARM_ROUNDS
                and watched.records()[-1]["neighbours_linked"] == 2
            )
        )
        return await _attempts(relay)
    finally:
        watched.end()
        await outbox.stop()


async def _introduce(relay: Relay) -> None:
    for name in "cm":
        key = Key(origin=name, public_key=relay.signers[name].public_key)
        data = wire.encode_key(key, relay.mesh)
        await relay.outbox.publish(wire.key_topic(name), data, retain=True)


async def _attempts(relay: Relay) -> list[Heard]:
    forged = [relay.ballot("c", n, by="m") for n in AHEAD]
    unsigned = [relay.ballot("c", n, by=None) for n in AHEAD]
    elsewhere = [relay.ballot("c", n, by="c", mesh="other") for n in AHEAD]
    earlier = [relay.ballot("c", n, by="c", mesh=MESH) for n in AHEAD]
    heard = [
        await relay.say("a forged origin, signed by the relay", *(("v/c", d) for d in forged)),
        await relay.say("a forged origin, not signed", *(("v/c", d) for d in unsigned)),
        await relay.say("a replay from another mesh", *(("v/c", d) for d in elsewhere)),
        await relay.say("a replay from the epoch before", *(("v/c", d) for d in earlier)),
        await relay.say("a ballot on a wrong topic", ("v/m", relay.ballot("c", 1, by="c"))),
        await relay.say("an oversize ballot", ("v/m", relay.oversize())),
    ]
    old = relay.ballot("c", -4, by="c")
    heard.append(await relay.say("an old round, truly signed", ("v/c", old)))
    true = [relay.ballot("c", n, by="c") for n in AHEAD]
    heard.append(await relay.say(TRUE, *(("v/c", data) for data in true)))
    await relay.watched.until(lambda: relay.watched.records()[-1]["voters"] == 2)
    heard.append(await relay.say("the same once more", *(("v/c", data) for data in true)))
    twice = [("v/c", relay.ballot("c", AHEAD[0], by="c", says=says)) for says in (0, 1)]
    heard.append(await relay.say("two ballots that c has signed for one round", *twice))
    garbage = [("v/c", bytes([n])) for n in range(GARBAGE)]
    heard.append(await relay.say(f"{GARBAGE} messages of garbage", *garbage))
    return heard


def _admission(folder: Path, devices: Mapping[str, Identity], name: str) -> Admission:
    pins = {other: device.id for other, device in devices.items() if other != name}
    return Admission(devices[name], pins, folder / name / "state" / "identity", me=name)


def _topology(folder: Path, devices: Mapping[str, Identity], ports: Mapping[str, int]) -> Path:
    peers = [
        {"name": n, "id": devices[n].id, "address": "127.0.0.1", "port": ports[n]} for n in NAMES
    ]
    topology = {
        "mesh": MESH,
        "epoch": 1,
        "discovery": False,
        "graph": {"kind": "custom", "edges": [["a", "b"], ["a", "m"], ["m", "c"]]},
        "peers": peers,
        "task": {"probes": {"count": 200}, "partition": {"dirichlet": 0.5, "per_peer": 60}},
        "rounds": {
            "count": 0,
            "local_epochs": 1,
            "pace": "0.2s",
            "start_within": "3s",
            "quorum": 0.6,  # a and b; whoever else seems to be there costs patience, no deadline
            "deadline": {"min": "0.2s", "max": "60s"},
        },
        "method": {"hops": 2},
    }
    file = folder / "topology.yaml"
    file.write_text(yaml.safe_dump(topology), encoding="utf-8")
    return file
