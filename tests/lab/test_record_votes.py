"""Recorded votes are those of a running mesh."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

ROUNDS = 8  # by then learners vote


@pytest.fixture
def recorder(script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, for short runs."""
    module = script("record_votes")
    monkeypatch.setattr(module, "ROUNDS", ROUNDS)
    return module


@pytest.mark.timeout(600)
def test_what_is_recorded(recorder: ModuleType) -> None:
    """Drawn votes begin as those of witnesses, which no graph changes, and go on otherwise."""
    stream = recorder.Stream("digits", 0.1, "full", "witness")
    known: dict[object, object] = {}
    witnesses = recorder.record(stream, 7, known)
    assert len(known) == recorder.PEERS * ROUNDS
    for run in (witnesses, drawn := recorder.record(replace(stream, voter="drawn"), 7, None)):
        assert run.votes.min() >= 0  # all of it
        assert run.labels.min() >= 0
    assert np.array_equal(drawn.votes[:, 0], witnesses.votes[:, 0])
    assert not np.array_equal(drawn.votes[:, -1], witnesses.votes[:, -1])
    sparse = recorder.record(replace(stream, graph="degree-4"), 7, known)
    assert np.array_equal(sparse.votes, witnesses.votes)
    assert not np.array_equal(sparse.labels, witnesses.labels)
