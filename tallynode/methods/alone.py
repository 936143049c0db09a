"""The baseline: the same peer that hears nobody.

It starts from the same weights, sees its private data equally often in batches of the same seeds,
and takes its own class prior out of the loss like the others: whatever a method gains over it, it
gains from the mesh. It is bit for bit what a witness is, and what `learn(round, None)` gives.
"""

from collections.abc import Iterator
from dataclasses import replace

from tallynode.learning.samples import PeerData
from tallynode.learning.settings import TrainSettings
from tallynode.methods.tally import Metrics, TallyMethod


def alone(
    data: PeerData, settings: TrainSettings, *, classes: int, seed: int, index: int, rounds: int
) -> Iterator[Metrics]:
    """Train one peer without exchange and yield how it did in each round."""
    single = replace(settings, witness=False)  # nobody hears its votes
    method = TallyMethod(data, single, classes=classes, seed=seed, index=index)
    for round in range(rounds):
        yield method.learn(round, None)
