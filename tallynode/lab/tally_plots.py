"""Pictures of tallies: of one run, and of a study over methods and skews."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tallynode.lab.plots import accuracy_axis, legend
from tallynode.lab.svg import LIGHT, drawing, to_svg
from tallynode.lab.tallies import TallyRound

HALF_BAR = 0.3  # rounds; of the bar that stands for a single one
CLASSES_NAMED_MAX = 20  # classes whose numbers stand beside the votes


def tally_by_wrong(last: TallyRound) -> str:
    """SVG: how many voters are wrong on how many probes, and how right the tally is there."""
    with drawing(width=5.6, height=3.7) as fig:
        ax = fig.add_subplot()
        wrong = np.arange(len(last["by_wrong"]))
        share = np.array([row[0] for row in last["by_wrong"]])
        right = np.array([np.nan if row[1] is None else row[1] for row in last["by_wrong"]])
        ax.bar(wrong, share, color=LIGHT["thread"], width=0.7, label="probes, share of all")
        style: dict[str, Any] = {"color": LIGHT["accent"], "linewidth": 2.6, "marker": "o"}
        ax.plot(wrong, right, label="tally, accuracy on them", **style)
        ax.axvline((len(wrong) - 1) / 2, color=LIGHT["muted"], linestyle=":", linewidth=1.2)
        ax.set_xlabel("voters that are wrong; dotted, half of them")
        ax.locator_params(axis="x", integer=True)
        accuracy_axis(ax)
        ax.set_ylabel("")
        legend(ax, columns=2)
        return to_svg(fig)


def votes_by_class(rounds: Sequence[TallyRound]) -> str:
    """SVG: the share of each class among the votes of each round; a bar where there is but one."""
    with drawing(width=5.6, height=3.7) as fig:
        ax = fig.add_subplot()
        shares = np.array([of["votes"] for of in rounds])
        edges = np.cumsum(np.hstack([np.zeros((len(shares), 1)), shares]), axis=1)
        numbers = np.array([of["round"] for of in rounds])
        end = numbers[-1] + (HALF_BAR if len(rounds) == 1 else 0)
        for c in range(shares.shape[1]):
            colour = LIGHT[("thread", "accent")[c % 2]]
            if len(rounds) == 1:
                ax.bar(numbers, shares[:, c], 2 * HALF_BAR, edges[:, c], color=colour)
            else:
                ax.fill_between(numbers, edges[:, c], edges[:, c + 1], color=colour, linewidth=0)
            if shares.shape[1] <= CLASSES_NAMED_MAX:
                middle = (edges[-1, c] + edges[-1, c + 1]) / 2
                ax.annotate(str(c), (end, middle), (4, -3), textcoords="offset points")
        ax.set_xlabel("round")
        ax.locator_params(axis="x", integer=True)
        ax.set_ylim(0, 1)
        if len(rounds) == 1:
            ax.set_xlim(numbers[0] - 2 * HALF_BAR, numbers[0] + 2 * HALF_BAR)
            ax.set_xticks(numbers)
        ax.margins(x=0)
        return to_svg(fig)


def accuracy_by_skew(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the picture of a study: accuracy over α, a line a method, a row a set, a panel a size.

    The last method is drawn as ours. The values of α stand at equal distances: 100 is no outlier.
    """
    data, peers = _distinct(rows, "data"), sorted(_distinct(rows, "peers"))
    methods = _distinct(rows, "method")
    alphas = sorted(_distinct(rows, "α"), key=float)
    styles = _styles(methods)
    with drawing(width=3.4 * len(peers) + 0.6, height=3.1 * len(data) + 1.2) as fig:
        panels = fig.subplots(len(data), len(peers), sharey="row", squeeze=False)
        for ax, (name, count) in zip(panels.flat, itertools.product(data, peers), strict=True):
            for method in methods:
                where = (name, count, method)
                line = [r for r in rows if (r["data"], r["peers"], r["method"]) == where]
                x = [alphas.index(r["α"]) for r in line]
                mean = np.array([r["accuracy"].mean for r in line])
                spread = np.array([r["accuracy"].deviation or 0.0 for r in line])
                ax.plot(x, mean, label=method, **styles[method])
                band = {"color": styles[method]["color"], "alpha": 0.08, "linewidth": 0}
                ax.fill_between(x, mean - spread, mean + spread, **band)
            ax.set_xticks(range(len(alphas)), alphas)
            ax.set_title(f"{name}, {count} peers", fontsize=10)
            ax.set_visible(any(line.get_xdata().size for line in ax.lines))
            accuracy_axis(ax)
            if ax not in panels[:, 0]:
                ax.set_ylabel("")
        fig.supxlabel("α of the label skew: small, few classes a peer", fontsize=10)
        handles, labels = panels[0, 0].get_legend_handles_labels()
        fig.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=len(peers) + 1)
        fig.savefig(path, transparent=False, facecolor="white")


def _distinct(rows: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def _styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour a family, which is what a name begins with; a kind of line each in it; ours last."""
    found, seen = {}, Counter[str]()
    for method in methods[:-1]:
        family = method.split(",")[0]
        colour = LIGHT[_FAMILIES.get(family, "muted")]
        dashes = _DASHES[seen[family] % len(_DASHES)]
        seen[family] += 1
        found[method] = {"color": colour, "linestyle": dashes, "linewidth": 1.4}
    ours: dict[str, Any] = {"color": LIGHT["accent"], "linewidth": 2.6, "marker": "o", "zorder": 3}
    return {**found, methods[-1]: ours}


_FAMILIES = {
    "majority": "second",
    "soft labels": "third",
    "FedAvg": "control",
    "tallynode": "accent",
}
_DASHES = ("-", "--", "-.", ":")
