"""Votes that must not count: of peers with other probes, and of whoever stands in for a peer."""

import asyncio
from typing import Any

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


def test_peers_with_other_probes_do_not_count_each_other(
    lab: Any, home: Any, free_ports: list[int]
) -> None:
    """Each refuses the other's votes and says what differs; both train alone to the end."""
    daemons = {}
    for name, seed in {"a": 1, "b": 2}.items():
        file = lab.file(
            f"{name}.yaml",
            peers=two_peers(free_ports),
            discovery=False,
            task={"partition": {"seed": seed, "per_peer": 60}},
        )
        daemons[name] = lab.daemon(file, name)
    for name, daemon in daemons.items():
        assert daemon.end() == 0
        assert daemon.says("votes do not count here, it differs in probe set or class list")
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
