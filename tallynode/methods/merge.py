"""Merging models by sparse deltas, each peer keeping its own model and its own optimiser.

Beside its model x_i a peer keeps a *reference* r_i. In a bridge

    q_i = Q(x_i - r_i)                        published: the largest entries, quantised
    r_i <- r_i + q_i
    p_i = sum over j of w_ij (q_j - q_i)      over the neighbours j whose delta came
    x_i <- x_i + p_i,  r_i <- r_i + p_i

What Q leaves out stays in x_i - r_i and goes out later: that is the error feedback. References
begin as the initial weights, which all peers share; where everybody hears everybody they stay
common, and with all entries the merge is the mean of the models.

The weights w_ij = 1 / (1 + max(d_i, d_j)) of Metropolis and Hastings are the same at both ends, so
what x_i gains by a pair x_j loses: the mesh's mean stays what it was. A pair moves when both have
the other's delta of a bridge. All of it is linear, so a late delta gives, when it comes, what it
would have given in its own bridge.

On a sparse graph a sparse delta goes one edge far, and references drift apart; so they do for who
joins, or has missed deltas that never came. In a *full* bridge everybody sends all entries against
the initial weights again: x_i becomes the weighted mean of the models that it hears, and whoever
was apart is brought in. Until then who comes late lives by votes, and sends what it learns from its
first bridge on. (CHOCO-gossip, arXiv 1902.00340, needs no full bridges, but pulls towards replicas
that are as old as their entries: at a density of 5 % it ran away, see LAB_LOG.md.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tallynode.protocol.coding import DecodeError, delta
from tallynode.protocol.coding.delta import Values

CHANGE_MAX = 1e4  # of a parameter; a hostile one would take a model beyond what floats can hold
HISTORY = 4  # own deltas that a late one of a neighbour may still be paired with


@dataclass(frozen=True, slots=True, kw_only=True)
class MergePlan:
    """How one peer merges."""

    weights: Mapping[str, float]  # w_ij of each neighbour j that it merges with
    every: int = 1  # rounds from one bridge to the next
    density: float = 0.05  # share of the parameters in a delta; 1: every bridge is a full one
    full: int | None = None  # bridges from one full one to the next; None: density alone says
    values: Values = Values.INT8

    def is_full(self, round_: int) -> bool:
        """Whether the bridge of a round is a full one."""
        return self.density >= 1 or (
            self.full is not None and round_ // self.every % self.full == 0
        )

    def entries(self, round_: int, size: int) -> int:
        """Entries of a delta of so many parameters in the bridge of a round."""
        if self.is_full(round_):
            return size
        return max(1, round(size * self.density))

    def coded(self, round_: int) -> Values:
        """How its values are coded: a sign says too little of a whole model."""
        whole = self.is_full(round_) and self.values is Values.SIGN
        return Values.INT8 if whole else self.values

    def bytes_max(self, size: int) -> int:
        """Bytes of a delta at most."""
        rounds = (0, self.every)  # a full one if there are any, and one that may be sparse
        return max(
            delta.bytes_max(size, self.entries(round_, size), self.coded(round_))
            for round_ in rounds
        )


class Merge:
    """The reference of one peer, and what it sent and heard lately.

    Args:
        plan: how it merges.
        initial: (n,) float32, the weights with which every peer of the mesh begins.
    """

    def __init__(self, plan: MergePlan, initial: np.ndarray) -> None:
        self.plan = plan
        self._initial = initial
        self._reference = initial.copy()
        self._said: dict[int, bytes] = {}  # the last own deltas, by round
        self._heard = dict.fromkeys(sorted(plan.weights), 0)  # round of each one's last delta

    def publish(self, model: np.ndarray, round_: int) -> bytes:
        """The delta of a model (n,) float32 for a round; from now on it counts as published."""
        if self.plan.is_full(round_):
            self._reference = self._initial.copy()
        elif not self._said and round_ > self.plan.every:
            self._reference = model.copy()  # the others have no use for how it came so far
        coded, entries = self.plan.coded(round_), self.plan.entries(round_, len(model))
        data, _ = delta.encode(model - self._reference, entries, coded)
        indices, values = self._entries(round_, data)
        self._reference[indices] += values
        self._said[round_] = data
        for old in sorted(self._said)[:-HISTORY]:
            del self._said[old]
        return data

    def merge(
        self, model: np.ndarray, heard: Mapping[str, Sequence[tuple[int, bytes]]]
    ) -> tuple[np.ndarray, dict[str, str]]:
        """Take the neighbours' deltas in.

        Args:
            model: (n,) float32.
            heard: by neighbour, (round, delta), oldest first.

        Returns:
            the model (n,) float32, and why what a neighbour sent could not be used.
        """
        moves: dict[int, np.ndarray] = {}
        shares: dict[int, float] = {}
        refused = {}
        for name, deltas in sorted(heard.items()):
            weight = self.plan.weights[name]
            for round_, data in deltas:
                if round_ <= self._heard[name]:
                    continue  # heard before, perhaps in an earlier life
                self._heard[name] = round_
                if round_ not in self._said:
                    continue  # a pair moves only where both have sent something
                try:
                    indices, values = self._entries(round_, data)
                    self._check(round_, values)
                except DecodeError as error:
                    refused[name] = str(error)
                    continue
                move = moves.setdefault(round_, np.zeros(len(model), dtype=np.float32))
                move[indices] += np.float32(weight) * values
                shares[round_] = shares.get(round_, 0.0) + weight
        merged = model.copy()
        for round_, move in sorted(moves.items()):
            indices, values = self._entries(round_, self._said[round_])
            move[indices] -= np.float32(shares[round_]) * values
            merged += move
            self._reference += move
        return merged, refused

    def _entries(self, round_: int, data: bytes) -> tuple[np.ndarray, np.ndarray]:
        size = len(self._initial)
        return delta.decode(data, size, self.plan.entries(round_, size))

    def _check(self, round_: int, values: np.ndarray) -> None:
        if float(np.abs(values).max()) > CHANGE_MAX:
            raise DecodeError(f"a parameter that changes by more than {CHANGE_MAX:g}")
        if self.plan.is_full(round_) and len(values) < len(self._initial):
            raise DecodeError(f"{len(values)} entries in a full bridge")

    def state(self) -> dict[str, np.ndarray]:
        """Everything that going on needs, as arrays of its own."""
        out = {"reference": self._reference.copy()}
        out |= {f"heard.{name}": np.array(round_) for name, round_ in self._heard.items()}
        for round_, data in self._said.items():
            out[f"said.{round_}"] = np.frombuffer(data, dtype=np.uint8).copy()
        return out

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned.

        Raises:
            KeyError, ValueError: not a state of this model.
        """
        reference = arrays["reference"].astype(np.float32)
        if reference.shape != self._initial.shape:
            raise ValueError(f"a reference of {len(reference)} parameters")
        self._reference = reference
        self._heard = {name: int(arrays.get(f"heard.{name}", 0)) for name in self._heard}
        said = sorted(int(key.removeprefix("said.")) for key in arrays if key.startswith("said."))
        self._said = {round_: arrays[f"said.{round_}"].tobytes() for round_ in said}
