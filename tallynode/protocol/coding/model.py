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
from tallynode.protocol.coding.rangecoder import ONE, PROBABILITY_BITS, Coder
from tallynode.protocol.coding.reference import Contexts

RUN_RATE, SUPPORT_RATE, CLASS_RATE = 51, 20, 307  # in 1/1024 nat per unit of error
GUESS_RATE, BIAS_RATE = 205, 102
LABEL_GUESS = 4  # the kind of the second guess; the first has those of Contexts.kind
SHARES = 8  # buckets of a class's share of the previous votes
PRIOR_SHARE = 4  # how many times heavier the previous frequencies are than the uniform prior
MOVE_WEIGHT = 6  # steps that a class gains among the moves from one class
MOVES_CLASSES_MAX = 256  # classes; beyond, moves are too many to be seen twice


class Tree:
    """Adaptive class frequencies: a binary tree of counts, and of moves seen from each class.

    Args:
        counts: (classes,) int, positive, where each class starts.
        step: what a class gains each time it is coded.
    """

    def __init__(self, counts: np.ndarray, step: int) -> None:
        self._count: list[int] = tree_nodes(counts).tolist()
        self._leaves = len(self._count) // 2
        self._keeps_moves = len(counts) <= MOVES_CLASSES_MAX
        self._moves: dict[int, dict[int, int]] = {}  # source -> tree node -> weight
        self._step = step

    def code(self, coder: Coder, vote: int) -> int:
        """Code a class; return it."""
        count, leaves, step, code = self._count, self._leaves, self._step, coder.code
        mask, node = leaves >> 1, 1
        while node < leaves:
            count[node] += step
            node *= 2
            left, right = count[node], count[node + 1]
            if not left:
                node += 1
            elif right:
                node += code(vote & mask, (right << PROBABILITY_BITS) // (left + right) or 1)
            mask >>= 1
        count[node] += step
        return node - leaves

    def code_move(self, coder: Coder, vote: int, source: int, excluded: Sequence[int]) -> int:
        """Code the class to which a vote of class `source` has moved; none of `excluded`."""
        count, leaves, step = self._count, self._leaves, self._step
        moves = self._moves.setdefault(source, {}) if self._keeps_moves else {}
        out = [(c + leaves, count[c + leaves] + moves.get(c + leaves, 0)) for c in excluded]
        total = count[1] + moves.get(1, 0) - sum(weight for _, weight in out)
        shift, node = leaves.bit_length() - 1, 1
        while True:
            count[node] += step
            moves[node] = moves.get(node, 0) + step * MOVE_WEIGHT
            if node >= leaves:
                return node - leaves
            shift -= 1
            node = 2 * node + 1
            right = count[node] + moves.get(node, 0)
            for leaf, weight in out:
                if leaf >> shift == node:
                    right -= weight
            if right == total:
                continue
            if right and coder.code(vote >> shift & 1, (right << PROBABILITY_BITS) // total or 1):
                total = right
            else:
                total -= right
                node -= 1


def tree_nodes(counts: np.ndarray) -> np.ndarray:
    """(classes,) counts -> (2 · leaves,) sums: the root is 1, the children of k are 2k, 2k + 1."""
    leaves = 1 << max(1, (len(counts) - 1).bit_length())
    nodes = np.zeros(2 * leaves, dtype=np.int64)
    nodes[leaves : leaves + len(counts)] = counts
    while leaves > 1:
        nodes[leaves // 2 : leaves] = (
            nodes[leaves : 2 * leaves : 2] + nodes[leaves + 1 : 2 * leaves : 2]
        )
        leaves //= 2
    return nodes


def counts_alone(classes: int) -> tuple[np.ndarray, int]:
    """Tree counts (classes,) and the tree's step where nothing is known."""
    return np.ones(classes, dtype=np.int64), 2 + classes // 64


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
    tree = Tree(*counts_alone(classes))
    for i, vote in enumerate(votes):
        votes[i] = tree.code(coder, vote)


def code_changes(coder: Coder, votes: list[int], given: Contexts, classes: int) -> None:
    """Code votes against the contexts of a reference; decoding fills `votes`."""
    counts, shares, step = previous_counts(given.previous, classes)
    changes = _Changes(coder, given, Tree(counts, step), shares)
    weights, of_class, code = stay_weights(), [0] * classes, coder.code
    past = zip(given.previous.tolist(), given.run.tolist(), given.support.tolist(), strict=True)
    for i, (previous, run, support) in enumerate(past):
        odds = (weights[run] + weights[support] + of_class[previous]) >> 8
        if not -ODDS_MAX <= odds <= ODDS_MAX:
            odds = ODDS_MAX if odds > 0 else -ODDS_MAX
        one = ONE_OF_ODDS[odds]
        bit = code(votes[i] != previous, one)
        error = ONE - one if bit else -one
        weights[run] += error * RUN_RATE >> 10
        weights[support] += error * SUPPORT_RATE >> 10
        of_class[previous] += error * CLASS_RATE >> 10
        votes[i] = changes.code(i, votes[i]) if bit else previous


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
        previous, _, _, before, label, kind = (int(array[i]) for array in self._given)
        excluded = [previous]
        for place, kind_, guess in ((0, kind, before), (1, LABEL_GUESS, label)):
            if guess < 0 or guess in excluded:
                continue
            if len(excluded) + 1 == len(self._shares) or self._guess(place, kind_, guess, vote):
                return guess
            excluded.append(guess)
        return self._tree.code_move(self._coder, vote, previous, excluded)

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
