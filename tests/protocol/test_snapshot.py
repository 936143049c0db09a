"""The saved state: golden bytes, and files that are damaged or something else."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tallynode.protocol import limits, snapshot
from tallynode.protocol.coding import DecodeError, packed

GOLDEN = json.loads((Path(__file__).parent / "golden" / "wire-v1.json").read_text())
DIGEST = bytes(range(8))

json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=70)
    | st.binary(max_size=10),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


def state_of(vector: dict[str, Any]) -> snapshot.Snapshot:
    """The state that a golden vector is of, its delta left out."""
    votes = np.array(vector["votes"])
    return snapshot.Snapshot(
        mesh=vector["mesh"],
        name=vector["name"],
        probe_digest=bytes.fromhex(vector["probe_digest"]),
        round=vector["round"],
        count=len(votes),
        body=packed.encode(votes, vector["classes"]),
    )


@pytest.mark.parametrize("vector", GOLDEN["snapshots"], ids=lambda v: v["why"])
def test_golden_snapshots(vector: dict[str, Any]) -> None:
    """A state saved by an older program can be read."""
    state = state_of(vector)
    assert snapshot.encode(state).hex() == vector["hex"]
    read = snapshot.decode(bytes.fromhex(vector["hex"]))
    assert (read.mesh, read.name, read.round) == (state.mesh, state.name, state.round)
    assert packed.decode(read.body, read.count, vector["classes"]).tolist() == vector["votes"]


@pytest.mark.parametrize("vector", GOLDEN["bridged_snapshots"], ids=lambda v: v["why"])
def test_golden_snapshots_with_a_delta(vector: dict[str, Any]) -> None:
    """What neighbours may still lack is part of the state, where there is a bridge."""
    delta = bytes.fromhex(vector["delta"])
    state = replace(state_of(vector), bridged=vector["bridged"], delta=delta)
    assert snapshot.encode(state).hex() == vector["hex"]
    assert snapshot.decode(bytes.fromhex(vector["hex"])) == state


@pytest.mark.parametrize(("bridged", "delta"), [(0, b"x"), (13, b"x"), (3, b""), ("3", b"x")])
def test_a_delta_of_an_impossible_round_is_refused(bridged: object, delta: object) -> None:
    """It is of a round up to that of the state, or there is none."""
    head = msgpack.unpackb(bytes.fromhex(GOLDEN["bridged_snapshots"][0]["hex"]))
    with pytest.raises(DecodeError):
        snapshot.decode(msgpack.packb([*head[:8], bridged, delta]))


@given(st.integers(0, 2**63 - 1), st.sampled_from([(0, 0, b""), (3, 0, b""), (3, 2, b"x")]))
def test_the_seed_is_kept_with_and_without_a_delta(seed: int, rest: tuple[int, int, bytes]) -> None:
    """What drew the probes that were voted on survives the bytes; older states tell none."""
    covered, bridged, delta = rest
    state = replace(
        state_of(GOLDEN["snapshots"][0]), covered=covered, bridged=bridged, delta=delta, seed=seed
    )
    assert snapshot.decode(snapshot.encode(state)) == state
    assert snapshot.decode(snapshot.encode(replace(state, seed=None))).seed is None


@pytest.mark.parametrize("seed", [None, 7])
def test_that_it_is_closed_is_kept(seed: int | None) -> None:
    """With a seed and without one."""
    state = replace(state_of(GOLDEN["snapshots"][0]), seed=seed, closed=True)
    assert snapshot.decode(snapshot.encode(state)) == state


@pytest.mark.parametrize("seed", [True, "7", 7.0, b"7"])
def test_a_seed_that_is_no_number_is_refused(seed: object) -> None:
    """As any other field."""
    fields = msgpack.unpackb(snapshot.encode(replace(state_of(GOLDEN["snapshots"][0]), seed=1)))
    with pytest.raises(DecodeError):
        snapshot.decode(msgpack.packb([*fields[:-1], seed]))


@given(st.binary(max_size=60) | json_like.map(msgpack.packb))
def test_any_bytes_are_a_snapshot_or_refused(data: bytes) -> None:
    """A damaged state file raises DecodeError and nothing else."""
    with suppress(DecodeError):
        snapshot.decode(data)


@given(st.integers(0, 6), json_like)
@example(6, 5)
@example(6, "x")
@example(4, None)
@example(4, 0)
@example(5, True)
@example(0, [1])
@example(0, 2)
def test_a_snapshot_with_any_field_replaced_is_refused_or_typed(index: int, value: object) -> None:
    """No field of a wrong type gets into a Snapshot."""
    fields: list[object] = [1, "m", "a", DIGEST, 4, 3, packed.encode(np.array([0, 1, 2]), 3)]
    fields[index] = value
    try:
        read = snapshot.decode(msgpack.packb(fields))
    except DecodeError:
        return
    assert isinstance(read.mesh, str)
    assert isinstance(read.name, str)
    assert isinstance(read.probe_digest, bytes)
    assert 1 <= read.round <= limits.ROUND_MAX
    assert isinstance(read.body, bytes)
    assert read.count >= 1


@given(st.integers(0, 2**32))
def test_covered_rounds_are_kept(covered: int) -> None:
    """The first round that a state leaves free survives the bytes."""
    state = snapshot.Snapshot(
        mesh="m", name="a", probe_digest=DIGEST, round=4, count=3, body=b"x", covered=covered
    )
    assert snapshot.decode(snapshot.encode(state)) == state
    assert state.free == 5 + covered
