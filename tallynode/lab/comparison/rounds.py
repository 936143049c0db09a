"""rounds.jsonl of a bench: what a run came to, round by round, and which runs it holds already.

A line is a round of a run: means over its peers, bytes counted from the run's start. A run counts
as done when its last round is there, so that whatever stops a bench costs the runs at hand only.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tallynode.config import Mesh
from tallynode.config_bench import Planned
from tallynode.lab.code import code_digest
from tallynode.lab.figures import mean, mean_known
from tallynode.lab.lines import lines_of
from tallynode.lab.pool import Case
from tallynode.lab.records import PayloadBytes, Record, payload_total
from tallynode.lab.virtual import records_of
from tallynode.layout import edges


@dataclass(frozen=True, slots=True)
class Ends:
    """Payload bytes of a hub and of a leaf on average, since the start."""

    hub_sent: float
    hub_received: float
    leaf_sent: float
    leaf_received: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of one run; bytes are means over the peers since the start."""

    round: int
    accuracy: float
    worst: float  # of the peers
    per_class: list[float | None]  # recall
    sent: dict[str, float]  # published by class: ballot, soft, delta, control; relays included
    relayed: float  # of it, ballots that others cast
    received: dict[str, float]
    contents: float  # votes or soft labels of own ballots alone, without their envelopes
    ends: Ends | None  # where a hub exists

    @property
    def bytes_sent(self) -> float:
        """All that a peer has published so far."""
        return math.fsum(self.sent.values())


def case_of(planned: Planned) -> Case:
    """The run as the pool takes it, labelled as progress shows it."""
    label = f"{planned.panel.title}, seed {planned.seed}: {planned.method}"
    return Case(label=(label,), mesh=planned.mesh)


def play(mesh: Mesh) -> list[Round]:
    """Run one mesh in this process."""
    records = records_of(mesh)
    if not edges(mesh):
        records = [_unheard(record) for record in records]
    star = mesh.graph.kind == "star" and len(mesh.names) > 1  # its hub: see protocol/graph.py
    hub = mesh.names[0] if star else None
    numbers = range(1, mesh.rounds.count + 1)
    return [_round([r for r in records if r["round"] == number], hub) for number in numbers]


def lines(key: str, planned: Planned, rounds: Iterable[Round]) -> Iterable[dict[str, Any]]:
    """What rounds.jsonl says of a run."""
    panel = asdict(planned.panel)
    of = {"run": key, "code": code_digest(), "method": planned.method, **panel}
    of["seed"] = planned.seed
    return ({**of, "rounds": planned.mesh.rounds.count, **asdict(each)} for each in rounds)


def known(file: Path) -> dict[str, list[Round]]:
    """The runs that are whole, by key."""
    found: dict[str, dict[int, Round]] = {}
    counts: dict[str, int] = {}
    for line in lines_of(file):
        try:
            values = {name: line[name] for name in Round.__dataclass_fields__}
            values["ends"] = Ends(**values["ends"]) if values["ends"] else None
            key, counts[line["run"]] = line["run"], line["rounds"]
        except (KeyError, TypeError):
            continue  # written before a round had all that it has today: it is run again
        found.setdefault(key, {})[line["round"]] = Round(**values)
    return {
        key: [rounds[number] for number in sorted(rounds)]
        for key, rounds in found.items()
        if len(rounds) == counts[key]
    }


def _round(records: Sequence[Record], hub: str | None) -> Round:
    scores = [record["accuracy"] or 0.0 for record in records]
    ends = None
    if hub is not None:
        at_hub = [record for record in records if record["peer"] == hub]
        at_leaves = [record for record in records if record["peer"] != hub]
        ends = Ends(
            *(
                mean(map(count, part))
                for part in (at_hub, at_leaves)
                for count in (payload_total, _received)
            )
        )
    return Round(
        round=records[0]["round"],
        accuracy=mean(scores),
        worst=min(scores),
        per_class=[mean_known(recalls) for recalls in zip(*_recalls(records), strict=True)],
        sent=_means([dict[str, int](**record["payload_bytes"]) for record in records]),
        relayed=mean(record["relayed_bytes"] for record in records),
        received=_means([record["payload_received"] for record in records]),
        contents=mean(map(_own_contents, records)),
        ends=ends,
    )


def _unheard(record: Record) -> Record:
    """The record of a peer without neighbours: what it put on its outbox went to nobody."""
    nothing = PayloadBytes(ballot=0, delta=0, soft=0, control=0)
    return {**record, "payload_bytes": nothing, "relayed_bytes": 0, "coded_bytes": {}}


def _received(record: Record) -> int:
    return sum(record["payload_received"].values())


def _own_contents(record: Record) -> float:
    """Contents of own ballots: relayed ones have envelopes in the same proportion."""
    payload = record["payload_bytes"]
    ballots = payload["ballot"] + payload["soft"]
    if not ballots:
        return 0.0
    own = ballots - record["relayed_bytes"]
    return sum(record["coded_bytes"].values()) * own / ballots


def _recalls(records: Sequence[Record]) -> list[Sequence[float | None]]:
    return [record.get("per_class") or () for record in records]


def _means(counts: Sequence[Mapping[str, int]]) -> dict[str, float]:
    return {name: mean(of.get(name, 0) for of in counts) for name in counts[0]}
