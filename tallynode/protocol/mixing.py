"""How much of each neighbour's model goes into one's own, so that the mesh agrees on its average.

Where all peers hear all others, each takes the average that McMahan et al. 2017 (arXiv 1602.05629,
algorithm 1) weigh by samples, sum n_k x_k / sum n_k: one step and everybody has it. On a sparse
graph each takes a step of the Metropolis-Hastings chain (Xiao & Boyd 2004, "Fast linear iterations
for distributed averaging", with an acceptance for unequal samples) whose stationary law is n_k / n:

    w_ij = min(1, n_j / n_i) / (1 + max(d_i, d_j)),   w_ii = 1 - sum of the rest,

d being how many others a peer hears. It satisfies n_i w_ij = n_j w_ji, so that sum n_k x_k stays
what it is while the models draw together. A model that did not come leaves its weight to one's own;
the sum is then kept only if the other side lacks ours too.
"""

from collections.abc import Mapping, Sequence


def weights(me: str, samples: Mapping[str, float], heard: Mapping[str, int]) -> dict[str, float]:
    """How much of each model to take, by name; they sum to one.

    Args:
        me: the peer that mixes.
        samples: private samples of each peer whose model is here, its own among them.
        heard: how many others each peer of the mesh hears.
    """
    if all(count == len(heard) - 1 for count in heard.values()):
        total = sum(samples.values())
        return {name: count / total for name, count in samples.items()}
    found = {
        name: min(1.0, count / samples[me]) / (1 + max(heard[me], heard[name]))
        for name, count in samples.items()
        if name != me
    }
    return {**found, me: 1 - sum(found[name] for name in sorted(found))}


def shares(me: str, neighbours: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """How much of each neighbour's model to take where all peers count alike, by name."""
    alike = dict.fromkeys((me, *neighbours[me]), 1.0)
    found = weights(me, alike, {name: len(of) for name, of in neighbours.items()})
    return {name: found[name] for name in neighbours[me]}
