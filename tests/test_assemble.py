"""What is found wrong once the data are known, and what a peer then decides for itself."""

from typing import Any

import pytest

from tallynode import assemble
from tallynode.config import Mesh
from tallynode.errors import DataError
from tallynode.protocol import limits


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
