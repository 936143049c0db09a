"""The round's parts on their own: phases, probe samples, lags, members, ballots, settings."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallynode.errors import LocalError
from tallynode.protocol import limits
from tallynode.protocol.ballots import BallotBox, Held
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.members import Life, Members
from tallynode.protocol.rounds import OVERDUE_SHARE, Lags, Phase, Turn, probes_of_round, turn
from tallynode.protocol.settings import RoundSettings

GOLDEN_SAMPLES = [
    [1, 2, 3, 11, 18],
    [6, 8, 10, 11, 14],
    [28, 29, 219, 551, 584, 633],
]  # added, never edited


def test_a_turn_that_the_table_does_not_know_crashes() -> None:
    """Learning before voting is our own bug; stopping is possible everywhere."""
    with pytest.raises(LocalError, match="no way on from training by closed"):
        turn(Phase.TRAINING, Turn.CLOSED)
    assert {turn(phase, Turn.STOP) for phase in Phase} == {Phase.STOPPED}


@given(st.integers(0, 2**63), st.integers(1, limits.ROUND_MAX), st.integers(1, 300), st.data())
def test_the_probe_sample(seed: int, round_: int, probes: int, data: st.DataObject) -> None:
    """A sample is distinct, ascending, in range, of the asked size, and the same each time."""
    per_round = data.draw(st.integers(1, probes + 5))
    sample = probes_of_round(seed, round_, probes, per_round)
    assert sample.dtype == np.int64
    assert len(sample) == min(per_round, probes)
    assert (np.diff(sample) > 0).all()
    assert sample[0] >= 0
    assert sample[-1] < probes
    assert np.array_equal(sample, probes_of_round(seed, round_, probes, per_round))


def test_the_probe_sample_is_the_same_everywhere() -> None:
    """Golden samples: another draw on some peer would misalign its votes without a sign of it."""
    assert probes_of_round(7, 1, 20, 5).tolist() == GOLDEN_SAMPLES[0]
    assert probes_of_round(7, 2, 20, 5).tolist() == GOLDEN_SAMPLES[1]
    assert probes_of_round(8, 1, 1000, 6).tolist() == GOLDEN_SAMPLES[2]


def test_all_probes_need_no_draw() -> None:
    """Without per_round every round asks for all probes in order."""
    assert probes_of_round(7, 3, 4, None).tolist() == [0, 1, 2, 3]


def test_patience_is_the_median_lag_and_five_deviations() -> None:
    """The adaptive deadline follows the formula of the module, within its bounds."""
    lags = Lags(0.5, 10.0)
    assert lags.patience_s() == 0.5
    assert lags.overdue_s() == 0.5
    lags.voted(1, 100.0)
    for lag in (1.0, 1.2, 1.4, 1.1, 1.3):
        lags.heard(1, 100.0 + lag)
    expected = 1.2 + 5 * 1.4826 * 0.1
    assert lags.patience_s() == pytest.approx(expected)
    assert lags.overdue_s() == pytest.approx(expected)


def test_patience_stays_within_its_bounds() -> None:
    """Early ballots do not shorten it below the lower bound, nor late ones stretch it above."""
    lags = Lags(2.0, 5.0)
    lags.voted(3, 100.0)
    lags.heard(4, 100.1)  # of a round that we have not voted in: no delay
    assert lags.patience_s() == 2.0
    assert lags.overdue_s() == OVERDUE_SHARE * 2.0
    lags.heard(2, 500.0)  # of an old round: no lag of this one
    assert lags.patience_s() == 2.0
    for _ in range(limits.LAGS_HELD * 3):
        lags.heard(3, 150.0)
    assert lags.patience_s() == 5.0


def test_ballots_of_far_rounds_say_nothing_of_delays() -> None:
    """A voter that sends ballots of many rounds ahead makes nobody impatient with the others."""
    lags = Lags(2.0, 60.0)
    lags.voted(3, 100.0)
    for _ in range(5):
        lags.heard(3, 130.0)
    for round_ in range(5, 5 + limits.LAGS_HELD):
        lags.heard(round_, 100.1)
    assert lags.patience_s() == 30.0


def test_the_life_of_a_member() -> None:
    """Unheard, alive, suspect, gone: and any new ballot revives."""
    members = Members.of(["b", "c"])
    assert members.waited_for(unheard=True) == {"b", "c"}
    assert members.waited_for(unheard=False) == set()
    members.heard("b", 3)
    assert members.owing(3, unheard=True) == {"c"}
    assert members.owing(4, unheard=False) == {"b"}
    members.missed("b")
    members.missed("c")
    assert {m.life for m in members.table.values()} == {Life.SUSPECT}
    members.gone("b")
    members.missed("b")
    assert members.table["b"].life is Life.GONE
    members.heard("b", 2)
    assert members.waited_for(unheard=False) == {"b"}
    assert members.table["b"].latest == 3
    members.gone("a stranger")
    assert set(members.table) == {"b", "c"}


def test_the_frontier_is_the_second_highest_round() -> None:
    """One voice alone moves nobody while others may yet speak; a mesh of two has only one voice."""
    members = Members.of(["b", "c", "d"])
    assert members.frontier(unheard=True) == members.frontier(unheard=False) == 0
    members.heard("b", 900)
    assert members.frontier(unheard=True) == 0
    assert members.frontier(unheard=False) == 900
    members.heard("c", 5)
    assert members.frontier(unheard=True) == members.frontier(unheard=False) == 5
    pair = Members.of(["b"])
    pair.heard("b", 7)
    assert pair.frontier(unheard=True) == 7


def held(vote: int) -> Held:
    """A ballot of one vote."""
    return Held(Coding.PACKED, bytes([vote]), np.array([vote]))


def test_a_voter_counts_once_by_its_nearest_round() -> None:
    """Of several fresh ballots the round's own counts, else the nearest, a later one first."""
    box = BallotBox(staleness=2)
    for round_ in (4, 6, 7):
        box.put("b", round_, held(round_))
    for round_, best in [(6, 6), (5, 6), (3, 4), (9, 7), (8, 7), (2, 4)]:
        votes, late = box.usable(round_)
        assert votes["b"].tolist() == [best]
        assert late == (round_ != best)
    assert box.usable(10) == ({}, 0)
    assert box.usable(1) == ({}, 0)


def test_a_flood_of_rounds_evicts_only_its_own_origin() -> None:
    """Of one origin a handful of ballots is held, whatever it sends."""
    box = BallotBox(staleness=2)
    box.put("c", 1, held(1))
    for round_ in range(1, 100):
        box.put("b", round_, held(1))
    assert sum(box.get("b", r) is not None for r in range(200)) == limits.ROUNDS_HELD_MAX
    assert box.get("c", 1) is not None
    box.forget_before(99)
    assert box.get("b", 98) is None
    assert box.get("b", 99) is not None
    assert box.get("c", 1) is None


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"hops": 0}, "hops"),
        ({"classes": 1}, "classes"),
        ({"probes": 0}, "probes"),
        ({"per_round": 0}, "per_round"),
        ({"per_round": 13}, "per_round"),
        ({"probe_digest": b"short"}, "probe_digest"),
        ({"rounds": RoundSettings(quorum=0.0)}, "quorum"),
        ({"probes": 1_000_000, "classes": 10}, "must fit a message"),
    ],
)
def test_settings_out_of_range_crash(
    peer_settings: Callable[..., Any], overrides: dict[str, object], field: str
) -> None:
    """Settings that no peer can live with are refused when they are built, by field."""
    with pytest.raises(LocalError, match=field):
        peer_settings(**overrides)


def test_a_large_probe_set_is_fine_where_each_round_samples_it(
    peer_settings: Callable[..., Any],
) -> None:
    """The bound is on the ballot, not on the probe set."""
    assert peer_settings(probes=1_000_000, classes=10, per_round=1000).neighbours == ("b",)
