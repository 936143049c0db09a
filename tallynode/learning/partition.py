"""Deal one labelled pool out to many peers, for simulation: every peer computes the same deal.

Label skew follows CFD (Sattler et al. 2021, arXiv 2012.00632) and its reference code: for each
class the shares of the peers are drawn from Dirichlet(alpha, ..., alpha), and the matrix is then
scaled by rows and columns in turn (Sinkhorn) until every peer has the same number of samples.
Here the scaled matrix is also rounded so that both margins hold exactly: every sample of the pool
is dealt once, every peer gets the same number. Small alpha: a peer sees few classes.
"""

import numpy as np

SINKHORN_ROUNDS_MAX = 10_000  # passes; few are needed unless alpha is extreme
FLOOR = 1e-9  # a share that underflows to zero would leave the scaling without a solution


def partition(
    labels: np.ndarray, peers: int, alpha: float | None, generator: np.random.Generator
) -> list[np.ndarray]:
    """Deal a pool of labels (n,) out to peers in equal parts, n divisible by `peers`.

    Args:
        labels: the class of each sample of the pool.
        peers: number of parts.
        alpha: concentration of the Dirichlet draw; None deals at random (IID).
        generator: the source of chance; the same state gives the same deal.

    Returns:
        For each peer the ascending indices of its samples, (n / peers,) int64 each.
    """
    if len(labels) % peers:
        raise ValueError(f"{len(labels)} samples do not divide among {peers} peers")
    if alpha is None:
        parts = generator.permutation(len(labels)).reshape(peers, -1)
        return [np.sort(part) for part in parts]
    names, counts = np.unique(labels, return_counts=True)
    takes = _whole(_scaled(generator.dirichlet([alpha] * peers, len(names)), counts), counts)
    dealt: list[list[np.ndarray]] = [[] for _ in range(peers)]
    for name, take in zip(names, takes, strict=True):
        members = generator.permutation(np.flatnonzero(labels == name))
        for peer, part in enumerate(np.split(members, np.cumsum(take)[:-1])):
            dealt[peer].append(part)
    return [np.sort(np.concatenate(parts)) for parts in dealt]


def _scaled(shares: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Scale (classes, peers) shares until rows sum to `counts` and columns to equal sizes."""
    table: np.ndarray = np.maximum(shares, FLOOR)
    size = counts.sum() / table.shape[1]
    for _ in range(SINKHORN_ROUNDS_MAX):
        table *= size / table.sum(axis=0)
        table *= (counts / table.sum(axis=1))[:, None]
        if np.abs(table.sum(axis=0) - size).max() < 0.01:  # samples; rounding settles the rest
            break
    table *= np.minimum(1, size / table.sum(axis=0))  # no column over its size
    return table


def _whole(table: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Round (classes, peers) to integers with rows summing to `counts` and equal column sums."""
    whole: np.ndarray = np.floor(table).astype(np.int64)
    size = int(counts.sum()) // table.shape[1]
    rows = counts - whole.sum(axis=1)
    columns = size - whole.sum(axis=0)
    for cell in np.argsort(whole - table, axis=None, kind="stable"):  # largest fraction first
        row, column = divmod(int(cell), table.shape[1])
        if rows[row] > 0 and columns[column] > 0:
            whole[row, column] += 1
            rows[row] -= 1
            columns[column] -= 1
    for row in np.flatnonzero(rows > 0):  # what no fraction claimed
        for column in np.flatnonzero(columns > 0):
            more = min(rows[row], columns[column])
            whole[row, column] += more
            rows[row] -= more
            columns[column] -= more
    return whole
