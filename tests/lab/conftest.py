"""A made-up run with the shape of a real one: curves that rise, counters that grow."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pytest

from tallynode.lab.records import PayloadBytes, Record, WireBytes
from tallynode.lab.summary import PeerOutcome, RunInfo

BALLOT = 250  # bytes: 500 probes of four bits
CONTROL = 22


class Run(NamedTuple):
    """What the lead of a run holds at its end."""

    info: RunInfo
    outcomes: list[PeerOutcome]
    records: list[Record]


def record(peer: str, number: int, accuracy: float, *, peers: int, relays: int) -> Record:
    """One line of rounds.jsonl of a process that has run since round 1."""
    ballots = BALLOT * (1 + relays) * number
    return Record(
        peer=peer,
        round=number,
        t_s=0.21 * number,
        accuracy=accuracy,
        tally_accuracy=min(0.9, accuracy + 0.12),
        agreement=min(1.0, 0.3 + accuracy / 2),
        voters=peers,
        late=0,
        closed_by="all",
        resumed=False,
        round_s=0.21,
        gather_s=0.1,
        neighbours_linked=2,
        payload_bytes=PayloadBytes(ballot=ballots, delta=0, soft=0, control=CONTROL * number),
        relayed_bytes=BALLOT * relays * number,
        coded_bytes={"alone": ballots // 10, "history": ballots // 2},
        payload_received={"ballot": ballots, "duplicate": ballots // 2, "control": 44 * number},
        wire_bytes=WireBytes(sent=3 * ballots, received=3 * ballots + 90, source="tcp-info"),
        refused=0,
        rss_mib=38.5,
        lateness_ms=3.0,
        tasks=9,
        troubles=[],
    )


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """Makes a run of so many peers on a ring."""

    def make(names: list[str], *, rounds: int = 20, baseline: bool = True, seed: int = 7) -> Run:
        chance = np.random.default_rng(seed)
        top = chance.normal(0.82, 0.03, len(names)).clip(0, 0.95)
        records = [
            record(
                name,
                number,
                float(reach * (1 - 0.75 * np.exp(-number / 5)) + chance.normal(0, 0.008)),
                peers=len(names),
                relays=len(names) - 1,
            )
            for number in range(1, rounds + 1)
            for name, reach in zip(names, top, strict=True)
        ]
        alone = chance.normal(0.4, 0.05, len(names))
        outcomes = [
            PeerOutcome(
                name=name,
                pid=4000 + place,
                discovery_s=1.1 + 0.05 * place,
                alone=float(alone[place]) if baseline else None,
            )
            for place, name in enumerate(names)
        ]
        info = RunInfo(
            mesh="greenhouse",
            method="tally (plurality)",
            seed=seed,
            broker="embedded",
            virtual=False,
            contents="votes",
            graph="ring",
            peers=names,
            edges=list(zip(names, [*names[1:], names[0]], strict=True)),
            classes=10,
            probes=500,
            parameters=4810,
            started=datetime(2026, 11, 21, 9, 30, tzinfo=UTC),
            wall_s=12.34,
            command="tallynode simulate --peers-config topology/ring-8.yaml --baseline",
            versions={"tallynode": "0.1.0", "python": "3.11.2", "torch": "2.13.0"},
        )
        return Run(info, outcomes, records)

    return make
