"""What a record says of a tally, on a round small enough to count by hand."""

import numpy as np

from tallynode.learning.diagnose import SAMPLE_PROBES, diagnose
from tallynode.protocol.tally import tally

VOTES = {"a": [0, 1, 2, 0], "b": [0, 1, 1, 1], "c": [0, 2, 1, 2]}
BALLOTS = {name: np.array(votes) for name, votes in VOTES.items()}
TRUTH = np.array([0, 1, 2, 2])


def test_it_counts_votes_labels_and_wrong_voters() -> None:
    """None, one, two and two voters are wrong; the majority fails on the last two."""
    found = diagnose(tally(BALLOTS, np.arange(4), 3), TRUTH)
    assert found["votes"] == [4, 5, 3]
    assert found["labels"] == [2, 2, 0]
    assert found["sample"] == [0, 1, 1, 0]
    assert found["by_wrong"] == [[1, 1.0], [1, 1.0], [2, 0.0], [0, None]]
    assert (found["most_wrong"], found["plurality_right"], found["tally_right"]) == (2, 0.0, 0.0)


def test_a_silenced_probe_is_counted_apart() -> None:
    """With one liar allowed for, the probes that lead by one vote have no label."""
    found = diagnose(tally(BALLOTS, np.arange(4), 3, byzantine=1), TRUTH)
    assert (found["silent"], found["labels"]) == (3, [1, 0, 0])
    assert found["sample"] == [0, -1, -1, -1]
    assert found["by_wrong"] == [[1, 1.0], [0, None], [0, None], [0, None]]


def test_without_the_truth_nothing_is_said_of_right_and_wrong() -> None:
    """Real probes have no labels; and a record keeps a bounded sample of the tally's."""
    many = {name: np.zeros(1000, dtype=np.int64) for name in "ab"}
    found = diagnose(tally(many, np.arange(1000), 3), None)
    assert found.keys() == {"votes", "labels", "silent", "confidence", "worth", "sample"}
    assert found["sample"] == [0] * SAMPLE_PROBES
