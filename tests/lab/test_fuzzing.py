"""Twenty thousand damaged messages a kind into a running peer; more by scripts/fuzz_messages."""

from pathlib import Path

import pytest

from tallynode.lab.fuzzing import Recorded, fuzz, record, signers_in

BALLOTS = ("ballot", "ballot signed", "answer", "answer signed")
KINDS = ("hello", "ask", "key", "proof", "piece", *BALLOTS)
INPUTS = 20_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the keys lie."""
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def recorded(folder: Path) -> Recorded:
    """All that the small mesh says."""
    return record(signers_in(folder))


def test_every_kind_of_message_is_said(recorded: Recorded) -> None:
    """A kind that is never recorded would never be fuzzed."""
    assert set(recorded.messages) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_messages_end_no_peer(recorded: Recorded, folder: Path, kind: str) -> None:
    """No exception leaves the peer; most are refused, and some get past the first checks."""
    fed = fuzz(recorded, signers_in(folder), kind, INPUTS, seed=1)
    assert fed.inputs == INPUTS
    assert 0 < fed.passed < INPUTS / 2
