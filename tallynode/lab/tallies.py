"""What the peers' tallies looked like over a run, from the records: see learning/diagnose.py."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from tallynode.lab.records import Record

Series = Mapping[str, Sequence[Record]]  # tidied records by peer


class TallyRound(TypedDict):
    """One round's tallies, over all peers that had one."""

    round: int
    agreement: float | None  # of two peers' labels, on the probes that both have a label for
    silent: float  # share of the probes that the guard has silenced
    most_wrong: float | None  # share of the probes on which most voters are wrong
    plurality_right: float | None  # of these, where the right class has the most votes all the same
    tally_right: float | None  # of these, where the tally is right
    by_wrong: list[tuple[float, float | None]]  # share of probes and accuracy, by wrong voters
    votes: list[float]  # share of each class among all votes


def tallies(series: Series) -> list[TallyRound]:
    """Sum up each round in which somebody tallied votes."""
    rounds: dict[int, list[Mapping[str, Any]]] = {}
    for records in series.values():
        for record in records:
            if record.get("tally"):
                rounds.setdefault(record["round"], []).append(record["tally"] or {})
    # Peers whose class lists differ hear nothing of each other, and stand in one report.
    classes = max((len(of["votes"]) for found in rounds.values() for of in found), default=0)
    return [_summed(number, rounds[number], classes) for number in sorted(rounds)]


def _summed(number: int, found: Sequence[Mapping[str, Any]], classes: int) -> TallyRound:
    votes = np.zeros(classes)
    for of in found:
        votes[: len(of["votes"])] += of["votes"]
    probes = sum(sum(of["labels"]) + of["silent"] for of in found)
    most_wrong = sum(of.get("most_wrong", 0) for of in found)
    known = any("most_wrong" in of for of in found)
    return TallyRound(
        round=number,
        agreement=_agreement([np.array(of["sample"]) for of in found]),
        silent=sum(of["silent"] for of in found) / max(probes, 1),
        most_wrong=most_wrong / max(probes, 1) if known else None,
        plurality_right=_weighted(found, "plurality_right"),
        tally_right=_weighted(found, "tally_right"),
        by_wrong=_by_wrong([of["by_wrong"] for of in found if "by_wrong" in of], probes),
        votes=(votes / max(votes.sum(), 1)).tolist(),
    )


def _agreement(samples: Sequence[np.ndarray]) -> float | None:
    shares = []
    for one, other in itertools.combinations(samples, 2):
        both = (one >= 0) & (other >= 0) if len(one) == len(other) else np.zeros(0, dtype=bool)
        if both.any():
            shares.append((one[both] == other[both]).mean())
    return float(np.mean(shares)) if shares else None


def _weighted(found: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Mean of a share of the probes on which most are wrong."""
    known = [(of["most_wrong"], of[key]) for of in found if of.get(key) is not None]
    total = sum(count for count, _ in known)
    return sum(count * share for count, share in known) / total if total else None


def _by_wrong(
    tables: Sequence[Sequence[tuple[int, float | None]]], probes: int
) -> list[tuple[float, float | None]]:
    """Merge peers' rows; a peer that heard fewer voters has fewer of them."""
    merged = []
    for count in range(max(map(len, tables), default=0)):
        rows = [table[count] for table in tables if count < len(table)]
        total = sum(n for n, _ in rows)
        right = sum(n * share for n, share in rows if share is not None)
        merged.append((total / max(probes, 1), right / total if total else None))
    return merged
