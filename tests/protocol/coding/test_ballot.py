"""Ballots in all codings: round trips, references, sizes, and two ways that make the same bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallynode.errors import LocalError
from tallynode.protocol.coding import DecodeError, ballot, compiled, packed
from tallynode.protocol.coding.ballot import Coding, MissingReference
from tallynode.protocol.coding.reference import (
    DEPTH_MAX,
    RUN_CONTEXTS,
    STAY_CONTEXTS,
    Common,
    Reference,
    contexts,
)

needs_compiler = pytest.mark.skipif(
    not compiled.available(), reason="the compiled coder is not installed here"
)


def stream(
    seed: int, *, probes: int, classes: int, rounds: int, change: float = 0.1
) -> list[np.ndarray]:
    """Ballots of one voter, of which a share changes each round."""
    draw = np.random.default_rng(seed)
    ballots = [draw.integers(0, classes, probes)]
    for _ in range(rounds - 1):
        new = draw.integers(0, classes, probes)
        ballots.append(np.where(draw.random(probes) < change, new, ballots[-1]))
    return ballots


def common(seed: int, previous: np.ndarray, classes: int) -> Common:
    """A tally of five ballots that mostly agree with `previous`."""
    draw = np.random.default_rng(seed)
    votes = np.stack([previous] * 5)
    votes[1:] = np.where(
        draw.random((4, len(previous))) < 0.3, draw.integers(0, classes, len(previous)), votes[1:]
    )
    return Common.of(votes[1], votes, previous)


@st.composite
def cases(draw: Any) -> tuple[np.ndarray, int, Reference | None]:
    """Votes, classes, and a reference of any depth, with or without a tally, or none."""
    classes = draw(st.sampled_from([2, 3, 10, 100, 256, 257, 50_000]))
    probes = draw(st.integers(1, 60))
    seed, rounds = draw(st.integers(0, 1 << 20)), draw(st.integers(1, 9))
    change = draw(st.sampled_from([0.0, 0.1, 0.9]))
    *history, votes = stream(seed, probes=probes, classes=classes, rounds=rounds, change=change)
    if not history:
        return votes, classes, None
    tally = common(seed, history[-1], classes) if draw(st.booleans()) else None
    distance = draw(st.sampled_from([1, 2, 255]))
    return votes, classes, Reference(history=tuple(history), distance=distance, common=tally)


@contextmanager
def way(fast: bool) -> Iterator[None]:
    """Compiled, or plain Python."""
    compiled.use(fast)
    try:
        yield
    finally:
        compiled.use(True)


def coder_bytes(votes: np.ndarray, classes: int, reference: Reference | None, fast: bool) -> bytes:
    with way(fast):
        coded = compiled.encode(votes, classes, reference, room=100 * len(votes) + 8)
    assert coded is not None
    return coded


def coder_votes(
    data: bytes, count: int, classes: int, reference: Reference | None, fast: bool
) -> np.ndarray:
    with way(fast):
        return compiled.decode(data, count, classes, reference)


@given(cases())
def test_round_trip(case: tuple[np.ndarray, int, Reference | None]) -> None:
    """Every ballot comes back, and never costs more than packed."""
    votes, classes, reference = case
    coding, data = ballot.encode(votes, classes, reference)
    assert len(data) <= packed.packed_bytes(len(votes), classes)
    assert np.array_equal(ballot.decode(coding, data, len(votes), classes, reference), votes)


@given(cases())
def test_the_model_round_trips_even_where_packed_is_smaller(
    case: tuple[np.ndarray, int, Reference | None],
) -> None:
    """The model codes any votes against any reference, in plain Python."""
    votes, classes, reference = case
    data = coder_bytes(votes, classes, reference, fast=False)
    back = coder_votes(data, len(votes), classes, reference, fast=False)
    assert np.array_equal(back, votes)


@needs_compiler
@given(cases(), st.binary(max_size=30))
def test_both_ways_agree(case: tuple[np.ndarray, int, Reference | None], junk: bytes) -> None:
    """Compiled and plain Python make the same bytes, and read the same votes or none from junk."""
    votes, classes, reference = case
    data = coder_bytes(votes, classes, reference, fast=False)
    assert coder_bytes(votes, classes, reference, fast=True) == data
    for candidate in (data, junk, data[:-1], data + junk, junk + data):
        found = []
        for fast in (False, True):
            try:
                found.append(coder_votes(candidate, len(votes), classes, reference, fast).tolist())
            except DecodeError:
                found.append(None)
        assert found[0] == found[1]


@needs_compiler
def test_both_ways_agree_on_a_large_ballot() -> None:
    """Three thousand probes of a hundred classes drive weights and counts far from their start."""
    *history, votes = stream(3, probes=3_000, classes=100, rounds=5, change=0.2)
    for tally in (None, common(1, history[-1], 100)):
        reference = Reference(history=tuple(history), common=tally)
        data = coder_bytes(votes, 100, reference, fast=False)
        assert coder_bytes(votes, 100, reference, fast=True) == data


@given(cases(), st.integers(0, 1 << 30))
def test_what_is_accepted_is_canonical(
    case: tuple[np.ndarray, int, Reference | None], seed: int
) -> None:
    """Damaged bytes are refused, or are the model's own encoding of the votes that they mean."""
    votes, classes, reference = case
    data = bytearray(coder_bytes(votes, classes, reference, fast=False) or b"\0")
    draw = np.random.default_rng(seed)
    data[draw.integers(len(data))] ^= 1 << int(draw.integers(8))
    damaged = bytes(data[: draw.integers(1, len(data) + 1)])
    try:
        back = coder_votes(damaged, len(votes), classes, reference, fast=False)
    except DecodeError:
        return
    assert coder_bytes(back, classes, reference, fast=False) == damaged


@given(cases())
def test_contexts_are_those_of_the_twin(case: tuple[np.ndarray, int, Reference | None]) -> None:
    """Runs, the class before and the consensus are what a loop over each probe's past finds."""
    _, _, reference = case
    if reference is None:
        return
    given_ = contexts(reference)
    depth, tally = reference.depth, reference.common
    for i, previous in enumerate(reference.previous.tolist()):
        past = [int(votes[i]) for votes in reference.history[-depth:]]
        run = next((k for k, vote in enumerate(past[::-1]) if vote != previous), depth)
        before = next((vote for vote in past[::-1] if vote != previous), -1)
        assert (given_.previous[i], given_.before[i]) == (previous, before)
        assert given_.run[i] % (RUN_CONTEXTS // 3) == depth * (depth - 1) // 2 + run - 1
        assert RUN_CONTEXTS <= given_.support[i] < STAY_CONTEXTS
        label = -1 if tally is None or tally.labels[i] == previous else int(tally.labels[i])
        assert given_.label[i] == label
        assert (given_.support[i] == STAY_CONTEXTS - 1) == (tally is None)


def test_a_steady_ballot_costs_a_few_bytes() -> None:
    """A thousand votes of which none has changed for six rounds take under 20 bytes."""
    votes = np.random.default_rng(0).integers(0, 10, 1000)
    coding, data = ballot.encode(votes, 10, Reference(history=(votes,) * 6))
    assert coding is Coding.HISTORY
    assert len(data) < 20


def test_a_useless_reference_falls_back() -> None:
    """Where nothing is as it was, the ballot goes out packed."""
    draw = np.random.default_rng(0)
    reference = Reference(history=(draw.integers(0, 16, 500),))
    coding, _ = ballot.encode(draw.integers(0, 16, 500), 16, reference)
    assert coding is Coding.PACKED


def test_frequencies_pay_where_there_is_no_reference() -> None:
    """Two classes out of sixteen cost little more than a bit a vote."""
    votes = np.random.default_rng(0).integers(0, 2, 500) * 7
    coding, data = ballot.encode(votes, 16)
    assert coding is Coding.ALONE
    assert len(data) < 75


def reference_and_ballot() -> tuple[Reference, Coding, bytes]:
    *history, votes = stream(5, probes=200, classes=10, rounds=5)
    reference = Reference(history=tuple(history), common=common(2, history[-1], 10))
    return reference, *ballot.encode(votes, 10, reference)


def test_a_ballot_says_what_it_needs() -> None:
    """Rounds back, depth and tally can be read off before the reference is at hand."""
    reference, coding, data = reference_and_ballot()
    need = ballot.need(coding, data)
    assert need is not None
    assert (need.distance, need.depth, need.tally) == (1, 4, True)
    far = replace(reference, distance=9)
    coding, data = ballot.encode(far.previous, 10, far)
    need = ballot.need(coding, data)
    assert need is not None
    assert (need.distance, need.name_bytes) == (9, 3)
    assert ballot.need(Coding.PACKED, b"anything") is None


def test_more_history_than_named_does_no_harm() -> None:
    """A receiver that knows older ballots, or a tally that was not used, reads it all the same."""
    *history, votes = stream(5, probes=200, classes=10, rounds=9)
    coding, data = ballot.encode(votes, 10, Reference(history=tuple(history[-2:])))
    longer = Reference(history=tuple(history), common=common(1, history[-1], 10))
    assert np.array_equal(ballot.decode(coding, data, 200, 10, longer), votes)
    assert len(history) > DEPTH_MAX


def test_another_reference_is_noticed() -> None:
    """One lost, changed, older or untallied ballot in the reference: ask, never guess."""
    reference, coding, data = reference_and_ballot()
    changed = reference.history[1].copy()
    changed[0] = (changed[0] + 1) % 10
    assert reference.common is not None
    others = [
        None,
        replace(reference, history=reference.history[1:]),
        replace(reference, history=(reference.history[0], changed, *reference.history[2:])),
        replace(reference, distance=2),
        replace(reference, common=None),
        replace(reference, common=replace(reference.common, voters=4)),
        Reference(history=tuple(votes[:199] for votes in reference.history)),
    ]
    for other in others:
        with pytest.raises(MissingReference):
            ballot.decode(coding, data, 200, 10, other)


def test_a_wrong_reference_of_the_right_name_is_no_damage() -> None:
    """Once in 4,096 times other ballots fit the name: what makes no sense then is asked for."""
    *history, votes = stream(3, probes=40, classes=10, rounds=4, change=0.2)
    coding, data = ballot.encode(votes, 10, Reference(history=tuple(history)))
    name = Reference(history=tuple(history)).hash(10)
    draw = np.random.default_rng(0)
    others = (tuple(draw.integers(0, 10, (3, 40))) for _ in range(100_000))
    twins = [other for other in others if Reference(history=other).hash(10) == name]
    assert len(twins) > 9
    refused = 0
    for twin in twins:
        try:
            ballot.decode(coding, data, 40, 10, Reference(history=twin))
        except MissingReference:
            refused += 1
    assert refused
    assert (ballot.decode(coding, data, 40, 10, Reference(history=tuple(history))) == votes).all()


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        (Coding.HISTORY, b""),
        (Coding.TALLY, b"\x10"),
        (Coding.HISTORY, b"\x00\x00"),
        (Coding.HISTORY, b"\x70\x00"),
        (Coding.HISTORY, b"\x90\x00\x00"),
        (Coding.HISTORY, b"\x90\x00\x01"),
        (Coding.ALONE, b""),
        (Coding.ALONE, b"\xff\xff\xff\xff\xff"),
        (Coding.ALONE, bytes(1_000)),
        (Coding.PACKED, b""),
    ],
)
def test_malformed_ballots_are_refused(coding: Coding, data: bytes) -> None:
    """Cut names, impossible depths and distances, and coded bits that no encoder makes."""
    with pytest.raises(DecodeError):
        ballot.decode(coding, data, 200, 10, None)


def test_our_own_mistakes_crash() -> None:
    """A reference over other probes or classes, or that cannot be named, is a bug of ours."""
    votes = np.zeros(10, dtype=np.int64)
    for history in ((votes[:5],), (votes + 10,), (votes - 1,)):
        with pytest.raises(LocalError):
            ballot.encode(votes, 10, Reference(history=history))
    with pytest.raises(LocalError):
        Reference(history=())
    with pytest.raises(LocalError):
        Reference(history=(votes,), distance=256)
    with pytest.raises(LocalError):
        ballot.encode(votes + 10, 10)


@settings(max_examples=20)
@given(st.integers(2, 70_000), st.integers(1, 40), st.integers(0, 1 << 20))
def test_any_number_of_classes(classes: int, probes: int, seed: int) -> None:
    """From two classes to beyond 65,536, packed and by the model."""
    votes = np.random.default_rng(seed).integers(0, classes, probes)
    assert np.array_equal(packed.decode(packed.encode(votes, classes), probes, classes), votes)
    reference = Reference(history=(np.roll(votes, 1), votes))
    coding, data = ballot.encode(votes, classes, reference)
    assert np.array_equal(ballot.decode(coding, data, probes, classes, reference), votes)
