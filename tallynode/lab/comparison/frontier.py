"""Who is not beaten at the bytes it takes, and what a target takes: pure arithmetic on points."""

from collections.abc import Sequence

Point = tuple[float, float]  # (bytes a peer, accuracy)


def pareto(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other beats, by bytes.

    A point is beaten by one that takes no more bytes and is no less accurate, and is better in one
    of the two; of equal points the first stays.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i))
    front: list[int] = []
    for i in order:
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


def best_within(points: Sequence[Point], budget: float) -> int | None:
    """Index of the most accurate point that takes no more bytes than `budget`; the first of equals.

    None where every point takes more.
    """
    within = [i for i, (spent, _) in enumerate(points) if spent <= budget]
    return max(within, key=lambda i: points[i][1], default=None)


def bytes_to(curve: Sequence[Point], target: float) -> float | None:
    """Bytes at the first point of a run that is at least this accurate; None where none is."""
    return next((spent for spent, accuracy in curve if accuracy >= target), None)


def targets_for(accuracies: Sequence[float]) -> tuple[float, ...]:
    """Accuracies worth asking for: the last step of five points that any reaches, and below it."""
    top = int(max(accuracies, default=0.0) * 20) / 20
    return tuple(round(top - step, 2) for step in (0.2, 0.1, 0.0) if top - step > 0)
