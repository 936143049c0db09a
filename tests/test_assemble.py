"""What is found wrong once the data are known, and what a peer then decides for itself."""

from typing import Any

import numpy as np
import pytest

from tallynode import assemble
from tallynode.config import Mesh
from tallynode.errors import DataError
from tallynode.methods import jobs
from tallynode.protocol import effects as ef
from tallynode.protocol import holdings, limits


def mesh(**method: Any) -> Mesh:
    """Two peers on digits, 500 probes of ten classes."""
    return Mesh.model_validate({"mesh": "m", "peers": 2, "method": method})


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Histograms may have fewer cells than 500 probes of ten classes take."""
    monkeypatch.setattr(limits, "HISTOGRAM_CELLS_MAX", 4_999)


@pytest.mark.parametrize("method", [{"target": "histogram"}, {"sampled_from": 3}])
def test_histograms_that_are_too_large_are_refused(small: None, method: dict[str, Any]) -> None:
    """At the start, not when the first of them is to be learnt from."""
    with pytest.raises(DataError, match="500 probes of 10 classes are too many for histograms"):
        assemble.parts(mesh(**method), "peer-1")


def test_where_histograms_are_too_large_witnesses_go_on_voting(small: None) -> None:
    """Who decides for itself decides so."""
    assert assemble.parts(mesh(), "peer-1").method.settings.sampled_from is None


def test_elsewhere_learners_take_over() -> None:
    """As many cells as may be are not too many."""
    assert assemble.parts(mesh(), "peer-1").method.settings.sampled_from == "auto"


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({}, True),
        ({"holdings": False}, False),
        ({"sampled_from": "never"}, False),  # nothing but labels teaches there
        ({"byzantine": 1}, False),
        ({"witness": False}, False),
        ({"witness": False, "sampled_from": 1}, True),
        ({"sampled_from": 2, "privacy": {"per_vote": 4}}, False),
        ({"name": "fd"}, False),
    ],
)
def test_ballots_say_what_voters_hold_where_learners_may_vote(
    method: dict[str, Any], said: bool
) -> None:
    """And nowhere else; the protocol and the method are told the same."""
    peer = assemble.parts(mesh(**method), "peer-1")
    assert (peer.settings.holdings, peer.method.settings.holdings) == (said, said)
    content = jobs.trained(peer.method, ef.Train(round=1, probes=np.arange(500))).content
    assert len(content) == (peer.settings.entries if peer.settings.method == "tally" else 500)
    if said:
        shares = holdings.heard(content[500:], 10)
        held = np.bincount(peer.data.private.y.numpy(), minlength=10)
        assert shares == pytest.approx(held / held.sum(), rel=0.3)


def test_of_many_classes_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be as long as the votes."""
    monkeypatch.setattr(limits, "HOLDINGS_CLASSES_MAX", 9)
    assert not assemble.parts(mesh(), "peer-1").settings.holdings
