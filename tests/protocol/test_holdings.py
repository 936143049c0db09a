"""What voters say that they hold: read as it was said, and what it does to a tally."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallynode.protocol import holdings
from tallynode.protocol.ballots import BallotBox, Held
from tallynode.protocol.contents.votes import Votes
from tallynode.protocol.limits import HOLDINGS_CLASSES_MAX
from tallynode.protocol.settings import PeerSettings
from tallynode.protocol.tally import Consensus

classes = st.integers(2, HOLDINGS_CLASSES_MAX)
counts = classes.flatmap(lambda c: st.lists(st.integers(0, 10_000), min_size=c, max_size=c))


@given(counts)
def test_shares_come_back_within_a_quarter_of_an_octave(samples: list[int]) -> None:
    """In entries that any vote could have; before a reader makes them sum to one."""
    given_ = np.array(samples)
    entries = holdings.said(given_)
    assert len(entries) == holdings.entries(len(given_))
    assert ((entries >= 0) & (entries < len(given_))).all()
    shares = holdings.heard(entries, len(given_))
    assert shares.sum() == pytest.approx(1)
    true = given_ / max(1, given_.sum())
    sayable = true >= 2**-7
    if sayable.any():
        ratio = np.log2(shares[sayable] / true[sayable])
        assert ratio.max() - ratio.min() <= 0.5 + 1e-9  # a quarter each way, one factor for all


@given(st.data(), classes)
def test_anything_that_a_liar_says_is_read_and_gives_it_no_more_than_others(
    data: st.DataObject, count: int
) -> None:
    """Shares sum to one whatever the entries are."""
    size = holdings.entries(count)
    said = data.draw(st.lists(st.integers(0, count - 1), min_size=size, max_size=size))
    shares = holdings.heard(np.array(said), count)
    assert shares.sum() == pytest.approx(1)
    assert (shares > 0).all()


def test_whoever_claims_everything_counts_as_whoever_claims_nothing() -> None:
    """Both say that no class is more theirs than another."""
    greedy = holdings.said(np.array([50, 50, 50, 50]))
    silent = holdings.said(np.array([0, 0, 0, 0]))
    assert holdings.heard(greedy, 4).tolist() == holdings.heard(silent, 4).tolist() == [0.25] * 4


def test_a_vote_counts_by_what_its_voter_holds() -> None:
    """On the mean over the voters 1; the root of the shares between them."""
    shares = np.array([[0.64, 0.36], [0.16, 0.84], [0.16, 0.84]])
    weights = holdings.weights(shares)
    assert weights.mean(axis=0) == pytest.approx([1, 1])
    assert weights[0] / weights[1] == pytest.approx(np.sqrt(shares[0] / shares[1]))


SETTINGS = PeerSettings(
    mesh="m",
    name="a",
    reach={"b": {"b": 1}, "c": {"c": 1}},
    hops=1,
    classes=3,
    probes=6,
    per_round=None,
    probe_digest=bytes(8),
    method="tally",
    holdings=True,
    seed=1,
)
SAMPLES = {"a": [60, 3, 0], "b": [0, 60, 60], "c": [1, 60, 60]}
SAID = {"a": [0, 0, 0, 0, 1, 0], "b": [0, 0, 0, 0, 1, 1], "c": [0, 0, 0, 0, 1, 1]}


def ballot(name: str) -> np.ndarray:
    """A voter's votes, and behind them what it holds."""
    return np.concatenate([SAID[name], holdings.said(np.array(SAMPLES[name]))])


def test_a_ballot_says_it_and_comes_back_whole() -> None:
    """It is coded with the votes: whoever decodes them has it, in any coding."""
    sent, got = BallotBox(0), BallotBox(0)
    sender, reader = Votes(SETTINGS, sent), Votes(SETTINGS, got)
    for round_ in (1, 2, 3):
        held = sender.encode(round_, ballot("a"))
        sent.put("a", round_, held)
        read = reader.decode("a", round_, held.coding, held.coded)
        got.put("a", round_, Held(held.coding, held.coded, read.content))
        assert read.content.tolist() == ballot("a").tolist()


def test_saying_it_again_costs_next_to_nothing() -> None:
    """Two bytes at most of a ballot that refers to others, with ten classes to be said."""
    said, sizes = holdings.said(np.arange(10) ** 3), {}
    for saying in (True, False):
        settings = replace(SETTINGS, classes=10, probes=200, holdings=saying)
        draw, votes, box = np.random.default_rng(1), np.zeros(200, dtype=np.int64), BallotBox(0)
        contents = Votes(settings, box)
        for round_ in range(1, 5):
            votes = np.where(draw.random(200) < 0.2, draw.integers(10, size=200), votes)
            box.put(
                "a", round_, contents.encode(round_, np.append(votes, said) if saying else votes)
            )
        sizes[saying] = [len(held.coded) for _, held in box.up_to("a", 4)]
    first, *later = np.array(sizes[True]) - np.array(sizes[False])
    assert 5 <= first <= 10  # twenty digits, of which ten are mostly zero
    assert max(later) <= 2


def test_the_tally_knows_who_has_seen_what() -> None:
    """Labels are those of the votes; in what is learnt from, who holds a class has more to say."""
    votes = Votes(SETTINGS, BallotBox(0))
    found = votes.outcome(1, {name: ballot(name) for name in SAID}, 0, np.arange(6))
    assert isinstance(found, Consensus)
    assert found.labels.tolist() == [0, 0, 0, 0, 1, 1]
    assert found.standing is not None
    assert found.agreement(ballot("b")) == 1
    alike = found.skills[:, None] * np.ones(3)
    last = found.weighed[5]
    assert last[0] == pytest.approx(found.skills[0] * found.standing[0, 0], rel=1e-6)
    assert last[1] == pytest.approx((alike[1:, 1] * found.standing[1:, 1]).sum(), rel=1e-6)
    assert last[0] > found.skills[0]  # nobody else has much of class 0


def test_without_holdings_all_count_alike() -> None:
    """And a ballot is its votes."""
    plain = replace(SETTINGS, holdings=False)
    assert (plain.entries, SETTINGS.entries) == (6, 6 + holdings.entries(3))
    votes = Votes(plain, BallotBox(0))
    given_ = {name: np.array(said) for name, said in SAID.items()}
    found = votes.outcome(1, given_, 0, np.arange(6))
    assert isinstance(found, Consensus)
    assert found.standing is None
    assert (
        plain.said != SETTINGS.said
    )  # a peer that says them and one that does not refuse each other
