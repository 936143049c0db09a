"""What a bench comes to: a row a method and panel, means and deviations over the seeds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import chain, pairwise

import numpy as np

from tallynode.config_bench import Bench, Panel, Planned
from tallynode.config_sections import Rounds
from tallynode.lab.comparison.frontier import best_within, bytes_to, pareto, targets_for
from tallynode.lab.comparison.rounds import Ends, Round
from tallynode.lab.figures import Figure, mean, mean_known

Run = Sequence[Round]

BITS = 8  # of a byte


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One operating point: a method on a panel. Bytes are payload, of one peer, of a whole run."""

    panel: Panel
    method: str
    group: str
    seeds: int
    rounds: int
    local: str  # how often a model has seen private data: 40 epochs, 250 steps
    accuracy: Figure
    worst: Figure
    sent: Figure
    received: Figure
    by_class: Mapping[str, float]  # of `sent`
    relayed: float  # of `sent`
    bits_round: float  # all that a peer publishes in a round
    bits_probe: float | None  # votes or soft labels alone, own ballots; None: nothing of probes
    merges: int  # rounds in which parameters were sent
    merge_bytes: float | None  # in each of them
    ends: Ends | None  # hub and leaves, where there is a hub
    per_class: Sequence[float | None]
    curve: np.ndarray  # (rounds, 3): bytes, accuracy, its deviation over the seeds
    to_target: Mapping[float, Figure | None]  # bytes; None: not every seed gets there
    pooled: bool = False  # the private data lay in one place: a line to look up to, no rival
    on_front: bool = False  # no other row is as accurate at no more bytes
    best: tuple[str, float] = ("", 0.0)  # most accurate at no more bytes, in any round of any row


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A panel's rows, in the order of the file, and the accuracies that were asked of them."""

    panel: Panel
    targets: tuple[float, ...]
    rows: Sequence[Row]

    @property
    def rivals(self) -> list[Row]:
        """The rows that can be compared by bytes."""
        return [row for row in self.rows if not row.pooled]

    @property
    def hub(self) -> bool:
        """Whether any method runs on a graph with a hub."""
        return any(row.ends for row in self.rows)


def parts_of(bench: Bench, runs: Iterable[tuple[Planned, Run]]) -> list[Part]:
    """Sum a bench up.

    Args:
        bench: what was run.
        runs: what its runs came to, in its order; those that are not there a row lacks.
    """
    found: dict[Panel, dict[str, list[tuple[Planned, Run]]]] = {}
    for planned, run in runs:
        of_panel = found.setdefault(planned.panel, {})
        of_panel.setdefault(planned.method, []).append((planned, run))
    return [_part(bench, panel, of_panel) for panel, of_panel in found.items()]


def _part(
    bench: Bench, panel: Panel, of_panel: Mapping[str, Sequence[tuple[Planned, Run]]]
) -> Part:
    rivals = [runs for runs in of_panel.values() if not _pooled(runs[0][0])]
    ends = [mean(run[-1].accuracy for _, run in runs) for runs in rivals]
    targets = bench.targets or targets_for(ends)
    rows = [_row(bench.groups[method], runs, targets) for method, runs in of_panel.items()]
    private = [row for row in rows if not row.pooled]
    front = pareto([(row.sent.mean, row.accuracy.mean) for row in private])
    unbeaten = {private[i].method for i in front}
    marked = [
        replace(row, on_front=row.method in unbeaten, best=_best(private, row)) for row in rows
    ]
    return Part(panel=panel, targets=targets, rows=marked)


def _pooled(planned: Planned) -> bool:
    return planned.mesh.method.name == "centralised"


def _row(group: str, runs: Sequence[tuple[Planned, Run]], targets: Sequence[float]) -> Row:
    planned, first = runs[0]
    last = [run[-1] for _, run in runs]
    rounds = len(first)
    contents = mean(of.contents for of in last)
    merges = [_merged(run) for _, run in runs]
    probes = planned.mesh.task.probes
    voted = probes.count if probes.per_round == "all" else probes.per_round
    sent = Figure.over([of.bytes_sent for of in last])
    return Row(
        panel=planned.panel,
        method=planned.method,
        group=group,
        seeds=len(runs),
        rounds=rounds,
        local=_local(planned.mesh.rounds),
        accuracy=Figure.over([of.accuracy for of in last]),
        worst=Figure.over([of.worst for of in last]),
        sent=sent,
        received=Figure.over([math.fsum(of.received.values()) for of in last]),
        by_class={name: mean(of.sent[name] for of in last) for name in last[0].sent},
        relayed=mean(of.relayed for of in last),
        bits_round=BITS * sent.mean / rounds,
        bits_probe=BITS * contents / (rounds * voted) if contents else None,
        merges=max(map(len, merges)),
        merge_bytes=mean(chain.from_iterable(merges)) if any(merges) else None,
        ends=_ends([of.ends for of in last if of.ends]),
        per_class=[
            mean_known(values) for values in zip(*(of.per_class for of in last), strict=True)
        ],
        curve=_curve([run for _, run in runs]),
        pooled=_pooled(planned),
        to_target={target: _to_target([run for _, run in runs], target) for target in targets},
    )


def _local(rounds: Rounds) -> str:
    if rounds.local_steps:
        return f"{rounds.count * rounds.local_steps} steps"
    return f"{rounds.count * rounds.local_epochs} epochs"


def _best(rows: Sequence[Row], row: Row) -> tuple[str, float]:
    """Who is most accurate with the bytes that this row's whole run takes, stopped in any round."""
    points = [(float(x), float(y), of.method) for of in rows for x, y, _ in of.curve]
    points.append((row.sent.mean, row.accuracy.mean, row.method))
    place = best_within([(x, y) for x, y, _ in points], row.sent.mean)
    assert place is not None  # the row itself is one
    _, accuracy, method = points[place]
    return method, accuracy


def _merged(run: Run) -> list[float]:
    """Bytes of parameters in each round that sent any."""
    sent = [0.0, *(of.sent["delta"] for of in run)]
    return [after - before for before, after in pairwise(sent) if after > before]


def _curve(runs: Sequence[Run]) -> np.ndarray:
    spent = np.array([[of.bytes_sent for of in run] for run in runs])  # (seeds, rounds)
    accuracy = np.array([[of.accuracy for of in run] for run in runs])
    spread = accuracy.std(axis=0, ddof=1) if len(runs) > 1 else np.zeros(accuracy.shape[1])
    return np.stack([spent.mean(axis=0), accuracy.mean(axis=0), spread], axis=1)


def _to_target(runs: Sequence[Run], target: float) -> Figure | None:
    found = [bytes_to([(of.bytes_sent, of.accuracy) for of in run], target) for run in runs]
    known = [spent for spent in found if spent is not None]
    return Figure.over(known) if len(known) == len(runs) else None


def _ends(ends: Sequence[Ends]) -> Ends | None:
    return (
        Ends(*(mean(values) for values in zip(*map(astuple, ends), strict=True))) if ends else None
    )
