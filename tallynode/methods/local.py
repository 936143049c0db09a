"""The methods `local` and `centralised`: the lower and the upper line of every comparison.

`local` exchanges nothing: its mesh has no edges, and its peers train on private data alone.
`centralised` is one net that is trained on the private data of all peers, as nobody could who keeps
data private: only a virtual mesh can pool them, and there all peers share the one net.
"""

import numpy as np

from tallynode.methods.method import Method, Metrics
from tallynode.protocol.contents import Outcome


class LocalMethod(Method):
    """`train` trains; there is nothing to say and nothing to learn from."""

    def train(self, round: int, probes: np.ndarray) -> np.ndarray:
        """Train on private data; (n,) int64 votes that nobody will read."""
        self._loss = self._fit(self._learner, round)
        self._trained = round
        return np.zeros(len(probes), dtype=np.int64)

    def learn(self, round: int, outcome: Outcome | None) -> Metrics:
        """Say how the net does."""
        assert outcome is None
        return self._metrics(self._loss)


class CentralisedMethod(LocalMethod):
    """The same for one pool of data, on which many peers call once a round each."""

    _measured: tuple[int, Metrics] | None = None

    def train(self, round: int, probes: np.ndarray) -> np.ndarray:
        """Train in the name of all, once a round."""
        if self._trained == round:
            return np.zeros(len(probes), dtype=np.int64)
        return super().train(round, probes)

    def learn(self, round: int, outcome: Outcome | None) -> Metrics:
        """Say how the net does, measured once a round."""
        if self._measured is None or self._measured[0] != round:
            self._measured = (round, super().learn(round, outcome))
        return self._measured[1]
