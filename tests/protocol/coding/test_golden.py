"""Golden vectors: the bytes of every coding, added and never edited.

Run this file as a script to write vectors that are new; those that exist stay as they are.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tallynode.protocol.coding import ballot, delta, packed, soft
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.coding.reference import Common, Reference

FOLDER = Path(__file__).parent.parent / "golden"


def walk(seed: int, count: int, bound: int) -> list[int]:
    """Numbers below a bound that no library can change: Lehmer's generator."""
    state, out = seed, []
    for _ in range(count):
        state = state * 48_271 % (2**31 - 1)
        out.append(state % bound)
    return out


def drift(seed: int, rounds: int, probes: int, classes: int) -> list[list[int]]:
    """Ballots of which about one vote in eight changes each round."""
    ballots = [walk(seed, probes, classes)]
    for step in range(1, rounds):
        new, moves = walk(seed + step, probes, classes), walk(seed + 50 + step, probes, 8)
        ballots.append(
            [b if m == 0 else a for a, b, m in zip(ballots[-1], new, moves, strict=True)]
        )
    return ballots


def ballots() -> list[dict[str, Any]]:
    """Votes with their references, and what they are coded as."""
    vectors = []
    for seed, classes, probes, rounds in [
        (1, 10, 80, 1),
        (2, 10, 200, 2),
        (3, 3, 64, 4),
        (4, 300, 120, 9),
        (5, 50_000, 16, 3),
    ]:
        *history, votes = drift(seed, rounds, probes, classes)
        for tally in (False, True):
            if history or not tally:
                vectors.append(ballot_vector(votes, history, classes, seed, tally))
    return vectors


def ballot_vector(
    votes: list[int], history: list[list[int]], classes: int, seed: int, tally: bool
) -> dict[str, Any]:
    common = None
    if tally:
        labels = [
            b if m == 0 else a
            for a, b, m in zip(history[-1], votes, walk(seed + 90, len(votes), 3), strict=True)
        ]
        common = {"labels": labels, "support": walk(seed + 91, len(votes), 6), "voters": 5}
    vector = {
        "classes": classes,
        "history": history,
        "distance": 1 + seed % 2,
        "common": common,
        "votes": votes,
    }
    coding, data = ballot.encode(np.array(votes), classes, reference_of(vector))
    return vector | {"coding": int(coding), "data": data.hex()}


def reference_of(vector: dict[str, Any]) -> Reference | None:
    if not vector["history"]:
        return None
    known = vector["common"]
    common = known and Common(
        np.array(known["labels"]), np.array(known["support"]), known["voters"]
    )
    history = tuple(np.array(votes) for votes in vector["history"])
    return Reference(history=history, distance=vector["distance"], common=common)


def packings() -> list[dict[str, Any]]:
    """Votes as packed bits."""
    return [
        {"classes": c, "votes": v, "data": packed.encode(np.array(v), c).hex()}
        for c in (2, 10, 257, 70_000)
        for v in (walk(c, 13, c),)
    ]


def softs() -> list[dict[str, Any]]:
    """Units of soft labels, with and without the ones before."""
    vectors = []
    for bits in (1, 2, 5, 16):
        raw = [np.array(walk(s, 60, 1_000)).reshape(12, 5) + 1 for s in (7, 8)]
        before, new = (soft.quantise(r / r.sum(axis=1, keepdims=True), bits) for r in raw)
        mixed = np.where(np.array(walk(9, 12, 3))[:, None] == 0, new, before)
        vectors += [
            {
                "bits": bits,
                "history": h,
                "labels": mixed.tolist(),
                "data": soft.encode(mixed, bits, list(map(np.array, h))).hex(),
            }
            for h in ([], [before.tolist()])
        ]
    return vectors


def deltas() -> list[dict[str, Any]]:
    """Received bytes and what they mean; the compressor may change, its readers may not."""
    vectors = []
    for kind in delta.Values:
        whole = (np.array(walk(11, 400, 2_001)) - 1_000).astype(np.float32) / 64
        data, _ = delta.encode(whole, 20, kind)
        indices, values = delta.decode(data, 400, 20)
        vectors.append(
            {
                "size": 400,
                "data": data.hex(),
                "indices": indices.tolist(),
                "values": values.tolist(),
            }
        )
    return vectors


MAKERS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "packed": packings,
    "ballot": ballots,
    "soft": softs,
    "delta": deltas,
}


def stored(name: str) -> list[dict[str, Any]]:
    path = FOLDER / f"coding-{name}-1.json"
    vectors: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return vectors


@pytest.mark.parametrize("vector", stored("packed"), ids=lambda v: f"{v['classes']} classes")
def test_packed_ballots(vector: dict[str, Any]) -> None:
    """Packed votes have the bytes that they had when the vector was written."""
    data, votes = bytes.fromhex(vector["data"]), np.array(vector["votes"])
    assert packed.encode(votes, vector["classes"]) == data
    assert np.array_equal(packed.decode(data, len(votes), vector["classes"]), votes)


@pytest.mark.parametrize("vector", stored("ballot"), ids=lambda v: f"{v['classes']}-{v['coding']}")
def test_ballots(vector: dict[str, Any]) -> None:
    """A ballot against its reference has the coding and the bytes that it had."""
    data, votes = bytes.fromhex(vector["data"]), np.array(vector["votes"])
    reference = reference_of(vector)
    assert ballot.encode(votes, vector["classes"], reference) == (vector["coding"], data)
    coding = Coding(vector["coding"])
    back = ballot.decode(coding, data, len(votes), vector["classes"], reference)
    assert np.array_equal(back, votes)


@pytest.mark.parametrize("vector", stored("soft"), ids=lambda v: f"{v['bits']} bits")
def test_soft_labels(vector: dict[str, Any]) -> None:
    """Soft labels have the bytes that they had."""
    data, labels = bytes.fromhex(vector["data"]), np.array(vector["labels"])
    history = [np.array(units) for units in vector["history"]]
    assert soft.encode(labels, vector["bits"], history) == data
    assert np.array_equal(soft.decode(data, *labels.shape, history)[1], labels)


@pytest.mark.parametrize("vector", stored("delta"), ids=lambda v: v["data"][:2])
def test_deltas(vector: dict[str, Any]) -> None:
    """A delta that was once made is still read the same."""
    indices, values = delta.decode(bytes.fromhex(vector["data"]), vector["size"], 20)
    assert indices.tolist() == vector["indices"]
    assert values.tolist() == vector["values"]


def test_every_coding_has_vectors() -> None:
    """No coding of ballots is without a golden vector."""
    assert {v["coding"] for v in stored("ballot")} | {0} == set(range(Coding.TALLY + 1))


if __name__ == "__main__":
    for name, make in MAKERS.items():
        path = FOLDER / f"coding-{name}-1.json"
        if not path.exists():
            path.write_text(json.dumps(make()) + "\n")
