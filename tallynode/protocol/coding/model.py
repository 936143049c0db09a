"""The model of a ballot: how likely each bit of it is, given its reference. Integers throughout.

With a reference each probe is one flag, "changed?". Its log-odds are a sum of three weights: for
the run of the vote, for its support, and for the class that is left, the last starting at nought
in every message. After each flag all three move along the gradient of its cost (online logistic
regression): a class that is losing ground in this message soon costs less. Where a vote has
changed there are two guesses, the class before and the consensus, with weights of their own; then
the class is sent down a binary tree of counts, which start at the previous ballot's frequencies
and leave out what the guesses have ruled out. Without a reference every vote goes down the tree.

Every message starts from the same weights (priors.py), so a lost message spoils no later one. The
compiled twin of this file is _fast.c; a change here is a change there and a new version.
"""

from collections.abc import Sequence

import numpy as np

from tallynode.protocol.coding.priors import ODDS_MAX, ONE_OF_ODDS, guess_weights, stay_weights
from tallynode.protocol.coding.rangecoder import ONE, Coder
from tallynode.protocol.coding.reference import Contexts

RUN_RATE, SUPPORT_RATE, CLASS_RATE = 51, 20, 307  # in 1/1024 nat per unit of error
GUESS_RATE, BIAS_RATE = 205, 102
LABEL_GUESS = 4  # the kind of the second guess; the first has those of Contexts.kind
SHARES = 8  # buckets of a class's share of the previous votes
PRIOR_SHARE = 4  # how many times heavier the previous frequencies are than the uniform prior


class Tree:
    """Adaptive class frequencies: a binary tree of counts.

    Args:
        counts: (classes,) int, positive, where each class starts.
        step: what a class gains each time it is coded.
    """

    def __init__(self, counts: np.ndarray, step: int) -> None:
        self._leaves = leaves = 1 << max(1, int(len(counts) - 1).bit_length())
        level = np.zeros(leaves, dtype=np.int64)
        level[: len(counts)] = counts
        levels = [level]
        while len(level) > 1:
            level = level[0::2] + level[1::2]
            levels.append(level)
        self._count: list[int] = [0]
        for level in reversed(levels):
            self._count += level.tolist()
        self._step = step

    def code(self, coder: Coder, vote: int, excluded: Sequence[int]) -> int:
        """Code a class that is none of `excluded`; return it."""
        count, leaves = self._count, self._leaves
        away = [(leaves + other, count[leaves + other]) for other in excluded]
        for node, weight in away:
            self._add(node, -weight)
        wanted, shift, node = leaves + vote, leaves.bit_length() - 2, 1
        while node < leaves:
            right = count[2 * node + 1]
            node *= 2
            if right == 0:
                bit = 0
            elif right == count[node >> 1]:
                bit = 1
            else:
                one = (right << 16) // count[node >> 1]
                bit = coder.code(wanted >> shift & 1, min(max(one, 1), ONE - 1))
            node += bit
            shift -= 1
        for other, weight in away:
            self._add(other, weight)
        self._add(node, self._step)
        return node - leaves

    def _add(self, node: int, weight: int) -> None:
        count = self._count
        while node:
            count[node] += weight
            node >>= 1


def tree_alone(classes: int) -> Tree:
    """Class frequencies of which nothing is known."""
    return Tree(np.ones(classes, dtype=np.int64), 2 + classes // 64)


def previous_counts(previous: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Tree counts and share buckets (classes,) each, and the tree's step, after a ballot (n,)."""
    there = np.bincount(previous, minlength=classes)
    counts = 1 + there * (PRIOR_SHARE * classes) // len(previous)
    sixty_fourths = there * 64 // len(previous)
    bits = np.searchsorted(1 << np.arange(SHARES - 2), sixty_fourths, side="right")
    shares = np.where(there > 0, np.minimum(1 + bits, SHARES - 1), 0)
    return counts, shares, 1 + classes * 5 // 8


def code_alone(coder: Coder, votes: list[int], classes: int) -> None:
    """Code votes without a reference; decoding fills `votes`."""
    tree = tree_alone(classes)
    for i, vote in enumerate(votes):
        votes[i] = tree.code(coder, vote, ())


def code_changes(coder: Coder, votes: list[int], given: Contexts, classes: int) -> None:
    """Code votes against the contexts of a reference; decoding fills `votes`."""
    counts, shares, step = previous_counts(given.previous, classes)
    changes = _Changes(coder, given, Tree(counts, step), shares)
    weights, of_class = stay_weights(), [0] * classes
    past = zip(given.previous.tolist(), given.run.tolist(), given.support.tolist(), strict=True)
    for i, (previous, run, support) in enumerate(past):
        odds = (weights[run] + weights[support] + of_class[previous]) >> 8
        odds = max(-ODDS_MAX, min(ODDS_MAX, odds))
        one = ONE_OF_ODDS[odds]
        vote = votes[i]
        bit = coder.code(vote != previous, one)
        error = ONE - one if bit else -one
        weights[run] += error * RUN_RATE >> 10
        weights[support] += error * SUPPORT_RATE >> 10
        of_class[previous] += error * CLASS_RATE >> 10
        votes[i] = changes.code(i, vote) if bit else previous


class _Changes:
    """Where changed votes go."""

    def __init__(self, coder: Coder, given: Contexts, tree: Tree, shares: np.ndarray) -> None:
        self._coder = coder
        self._given = given
        self._tree = tree
        self._shares: list[int] = shares.tolist()
        self._weights = guess_weights()
        self._bias = [0, 0]

    def code(self, i: int, vote: int) -> int:
        """Code the vote of probe `i`, which has changed; return it."""
        given = self._given
        excluded = [int(given.previous[i])]
        before, label = int(given.before[i]), int(given.label[i])
        if before >= 0:
            if self._guess(0, int(given.kind[i]), before, vote):
                return before
            excluded.append(before)
        if label >= 0 and label != before:
            if self._guess(1, LABEL_GUESS, label, vote):
                return label
            excluded.append(label)
        return self._tree.code(self._coder, vote, excluded)

    def _guess(self, place: int, kind: int, guess: int, vote: int) -> int:
        """Code whether the vote is `guess`."""
        at = kind * SHARES + self._shares[guess]
        odds = (self._weights[at] + self._bias[place]) >> 8
        one = ONE_OF_ODDS[max(-ODDS_MAX, min(ODDS_MAX, odds))]
        bit = self._coder.code(vote == guess, one)
        error = ONE - one if bit else -one
        self._weights[at] += error * GUESS_RATE >> 10
        self._bias[place] += error * BIAS_RATE >> 10
        return bit
