"""The method `fedavg`: average whole models, for comparison.

McMahan et al. 2017 (arXiv 1602.05629, algorithm 1) without a server: each peer trains the last
average on its private data, sends all parameters with the number of its samples, and goes on from
the average of what it heard, in the gossip form of protocol/mixing.py where that is not everybody.
A merge every M epochs is `rounds.local_epochs: M`. The moments of a peer's optimiser stay its own.
"""

import numpy as np

from tallynode.learning import evaluate
from tallynode.methods.method import Method, Metrics, Pull
from tallynode.methods.once import Once
from tallynode.protocol.contents import Outcome
from tallynode.protocol.contents.parameters import Average

_answers: Once[np.ndarray] = Once()


class FedAvgMethod(Method):
    """`train` gives a peer's parameters and samples, `learn` goes on from their mean."""

    def train(self, round: int, probes: np.ndarray) -> np.ndarray:
        """Train on private data; (parameters + 1,) float32, the last the number of samples."""
        self._loss = self._fit(self._learner, round, pull=self._pull())
        self._trained = round
        samples = np.float32(len(self.data.private))
        return np.append(self._learner.flat(), samples)

    def _pull(self) -> Pull | None:
        """A further loss for the round that begins."""
        return None

    def learn(self, round: int, outcome: Outcome | None) -> Metrics:
        """Take the average over; None: go on with the own model."""
        if outcome is not None:
            assert isinstance(outcome, Average)
            self._learner.load_flat(outcome.values)
        return self._metrics(self._loss)

    def _tested(self) -> np.ndarray:
        """As ever, of a model that other peers of this process may hold as well."""
        net, x = self._learner.net, self.data.test.x
        follows_from = (self.settings.model, self._learner.flat(), x.cpu().numpy())
        return _answers.of(lambda: evaluate.votes(net, x), *follows_from)
