"""What a run comes to: the lines of rounds.jsonl in, summary.json out.

Two rules keep the numbers honest. Payload bytes (what the codec made) and wire bytes (what the
kernel moved) are never added up. And the mean is taken over the peers that finished or stopped when
they were asked to, the same ones for `alone`, with their number beside it, so that a dead peer
neither drags the mean down nor vanishes from the page.
"""

import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Literal, TypedDict

from tallynode.errors import IoError
from tallynode.lab.records import (
    PayloadBytes,
    Record,
    WireBytes,
    own_ballot_bytes,
    payload_total,
    tidy,
)
from tallynode.protocol.settings import PAYLOADS

VERSIONED = (
    *("tallynode", "torch", "torchvision", "numpy", "aiomqtt", "paho-mqtt", "mqtt5", "zeroconf"),
    *("msgpack", "uvloop"),
)
ENDED = ("finished", "stopped")  # how peers end that nothing went wrong with
FLOAT_BYTES = 4  # one float32: a soft label's class, a model's parameter
PARTS = {"votes": "votes", "soft": "labels", "scores": "scores", "parameters": "parameters"}


class Spread(TypedDict):
    """A figure over several peers, and over how many."""

    mean: float
    min: float
    max: float
    peers: int


class PeerSummary(TypedDict):
    """One peer of summary.json."""

    name: str
    rounds: int
    accuracy: float | None
    alone: float | None
    neighbours_linked: int
    discovery_s: float | None
    payload_bytes: PayloadBytes
    relayed_bytes: int
    coded_bytes: dict[str, int]
    payload_received: dict[str, int]
    wire_bytes: WireBytes
    refused: int
    privacy: dict[str, float] | None  # ε spent by private votes, see methods/responses.py
    rss_mib: float
    exit: str
    pid: int | None


class Costs(TypedDict):
    """What one message costs: measured for the ballot, computed for what was not sent."""

    ballot_bytes_per_round: float | None
    soft_label_bytes_per_round: int
    parameter_bytes: int


class PerPeerRound(TypedDict):
    """Mean bytes of one peer in one round; wire bytes are None where nobody counted."""

    payload: float
    wire_sent: float | None
    wire_received: float | None


class Topology(TypedDict):
    """Who neighbours whom."""

    kind: str
    edges: list[list[str]]


class Summary(TypedDict):
    """summary.json."""

    mesh: str
    method: str
    seed: int
    rounds: int  # that were done, by whoever did the most
    started: str
    wall_s: float
    virtual: bool
    broker: str
    command: str
    accuracy: Spread | None
    alone: Spread | None
    gain_points: float | None
    bytes_per_peer_round: PerPeerRound | None
    published: dict[str, int]  # payload bytes of all peers, by class, what ballots hold by coding
    costs: Costs
    topology: Topology
    peers: list[PeerSummary]
    versions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What was run, as the command resolved it."""

    mesh: str
    method: str
    seed: int
    broker: str
    virtual: bool
    contents: str  # what a ballot holds: a key of PAYLOADS
    graph: str  # ring | torus | ... | edges
    peers: Sequence[str]
    edges: Sequence[tuple[str, str]]
    classes: int
    probes: int  # voted on in a round
    parameters: int  # of one peer's model
    started: datetime
    wall_s: float
    command: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerOutcome:
    """How one peer ended, and what it reached without the others where that was measured."""

    name: str
    exit: str = "finished"  # finished | killed | ...
    pid: int | None = None
    discovery_s: float | None = None
    alone: float | None = None


def build_summary(
    info: RunInfo, outcomes: Sequence[PeerOutcome], records: Iterable[Record]
) -> Summary:
    """summary.json of a run, from its records in the order in which they were written."""
    tidied = tidy(info.peers, records)
    ends = {outcome.name: outcome for outcome in outcomes}
    peers = [
        _peer(ends.get(name, PeerOutcome(name=name, exit="unknown")), tidied[name])
        for name in info.peers
    ]
    scored = [peer for peer in peers if peer["accuracy"] is not None]
    counted = [peer for peer in scored if peer["exit"] in ENDED] or scored
    accuracy = spread([peer["accuracy"] for peer in counted])
    alone = spread([peer["alone"] for peer in counted])
    paired = [
        peer["accuracy"] - peer["alone"]
        for peer in counted
        if peer["accuracy"] is not None and peer["alone"] is not None
    ]
    return Summary(
        mesh=info.mesh,
        method=info.method,
        seed=info.seed,
        rounds=max((peer["rounds"] for peer in peers), default=0),
        started=info.started.isoformat(timespec="seconds"),
        wall_s=round(info.wall_s, 3),
        virtual=info.virtual,
        broker=info.broker,
        command=info.command,
        accuracy=accuracy,
        alone=alone,
        gain_points=100 * math.fsum(paired) / len(paired) if paired else None,
        bytes_per_peer_round=_per_peer_round(peers),
        published=_published(info.contents, peers),
        costs=_costs(info, peers),
        topology=Topology(kind=info.graph, edges=[[a, b] for a, b in info.edges]),
        peers=peers,
        versions=dict(info.versions),
    )


def write_summary(run_dir: Path, summary: Summary) -> Path:
    """Write summary.json into the run folder."""
    path = run_dir / "summary.json"
    write_text(path, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return path


def write_text(path: Path, text: str) -> None:
    """Write a file of the run folder; IoError names it where that fails."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise IoError(f"{path}: cannot be written: {error.strerror}") from error


def installed_versions() -> dict[str, str]:
    """Versions of what a run stands on, read without importing any of it."""
    found = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # uvloop is optional
    return found


def spread(values: Iterable[float | None]) -> Spread | None:
    """Mean, least and greatest of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    mean = math.fsum(known) / len(known)
    return Spread(mean=mean, min=min(known), max=max(known), peers=len(known))


def _peer(outcome: PeerOutcome, records: Sequence[Record]) -> PeerSummary:
    last = records[-1] if records else None
    scores = [record["accuracy"] for record in records if record["accuracy"] is not None]
    return PeerSummary(
        name=outcome.name,
        rounds=len(records),
        accuracy=scores[-1] if scores else None,
        alone=outcome.alone,
        neighbours_linked=last["neighbours_linked"] if last else 0,
        discovery_s=outcome.discovery_s,
        payload_bytes=(
            last["payload_bytes"] if last else PayloadBytes(ballot=0, delta=0, soft=0, control=0)
        ),
        relayed_bytes=last["relayed_bytes"] if last else 0,
        coded_bytes=dict(last["coded_bytes"]) if last else {},
        payload_received=dict(last["payload_received"]) if last else {},
        wire_bytes=last["wire_bytes"] if last else WireBytes(sent=0, received=0, source="none"),
        refused=last["refused"] if last else 0,
        privacy=last.get("privacy") if last else None,
        rss_mib=max((record["rss_mib"] for record in records), default=0.0),
        exit=outcome.exit,
        pid=outcome.pid,
    )


def _per_peer_round(peers: Sequence[PeerSummary]) -> PerPeerRound | None:
    rounds = sum(peer["rounds"] for peer in peers)
    if not rounds:
        return None
    counted = all(peer["wire_bytes"]["source"] != "none" for peer in peers if peer["rounds"])

    def wire(way: Literal["sent", "received"]) -> float | None:
        return sum(peer["wire_bytes"][way] for peer in peers) / rounds if counted else None

    return PerPeerRound(
        payload=sum(map(payload_total, peers)) / rounds,
        wire_sent=wire("sent"),
        wire_received=wire("received"),
    )


def _published(contents: str, peers: Sequence[PeerSummary]) -> dict[str, int]:
    """Payload bytes by class of message; of ballots what they hold by coding, and envelopes."""
    held: dict[str, int] = {}
    for peer in peers:
        for coding, count in peer["coded_bytes"].items():
            held[coding] = held.get(coding, 0) + count
    totals = {
        name: sum(int(peer["payload_bytes"][name]) for peer in peers)
        for name in ("ballot", "delta", "soft", "control")
    }
    envelopes = totals.pop(PAYLOADS[contents]) - sum(held.values())
    found = {f"{PARTS[contents]}, {coding}": count for coding, count in sorted(held.items())}
    found |= {"ballot envelopes": envelopes, **totals}
    return {name: count for name, count in found.items() if count}


def _costs(info: RunInfo, peers: Sequence[PeerSummary]) -> Costs:
    rounds = sum(peer["rounds"] for peer in peers)
    ballots = sum(map(own_ballot_bytes, peers))
    return Costs(
        ballot_bytes_per_round=ballots / rounds if rounds and ballots else None,
        soft_label_bytes_per_round=info.probes * info.classes * FLOAT_BYTES,
        parameter_bytes=info.parameters * FLOAT_BYTES,
    )
