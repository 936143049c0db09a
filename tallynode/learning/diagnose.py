"""What a round's ballots looked like and what the tally made of them, for the run's records.

The questions that the referees of voting methods ask: what was voted, how right is the tally when
so many voters are wrong, and how often does the right class still hold the plurality when most are.
"""

import numpy as np

from tallynode.learning.evaluate import accuracy
from tallynode.protocol.tally import Consensus

SAMPLE_PROBES = 64  # labels kept in a record, so that peers' tallies can be compared afterwards


def diagnose(consensus: Consensus, truth: np.ndarray | None) -> dict[str, object]:
    """Sum one round's tally up; with `truth` (n,) int64, right classes, also how right it was."""
    classes = consensus.candidates.classes
    votes, labels = consensus.candidates.votes, consensus.labels
    heard = consensus.heard
    found: dict[str, object] = {
        "votes": np.bincount(votes.ravel(), minlength=classes).tolist(),
        "labels": np.bincount(labels[heard], minlength=classes).tolist(),
        "silent": int((~heard).sum()),
        "confidence": float(consensus.confidence[heard].mean()) if heard.any() else None,
        "worth": consensus.worth,
        "sample": labels[_spread(len(labels))].tolist(),
    }
    if truth is not None:
        found["by_wrong"] = _by_wrong(consensus, truth)
        found |= _when_most_are_wrong(consensus, truth)
    return found


def _spread(n: int) -> np.ndarray:
    """Indices of SAMPLE_PROBES probes, evenly spread: the same on every peer."""
    return np.unique(np.linspace(0, n - 1, min(n, SAMPLE_PROBES)).astype(np.int64))


def _by_wrong(consensus: Consensus, truth: np.ndarray) -> list[list[float | int | None]]:
    """[probes, accuracy of the tally on them] for each number of wrong voters, from none to all."""
    wrong = (consensus.candidates.votes != truth).sum(axis=0)
    rows: list[list[float | int | None]] = []
    for count in range(consensus.voters + 1):
        on = (wrong == count) & consensus.heard
        right = accuracy(consensus.labels[on], truth[on]) if on.any() else None
        rows.append([int(on.sum()), right])
    return rows


def _when_most_are_wrong(consensus: Consensus, truth: np.ndarray) -> dict[str, object]:
    """Of the probes on which most voters are wrong: how many, and who still gets them right."""
    of = consensus.candidates
    most = 2 * (of.votes != truth).sum(axis=0) > consensus.voters
    leaders = of.label[of.winners(of.count)]
    return {
        "most_wrong": int(most.sum()),
        "plurality_right": accuracy(leaders[most], truth[most]) if most.any() else None,
        "tally_right": accuracy(consensus.labels[most], truth[most]) if most.any() else None,
    }
