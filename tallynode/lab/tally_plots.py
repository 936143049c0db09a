"""Pictures of tallies: of one run, and of a study over methods and skews."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tallynode.lab.plots import accuracy_axis, legend
from tallynode.lab.svg import LIGHT, drawing, to_svg
from tallynode.lab.tallies import TallyRound

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
    """SVG: the share of each class among the votes of each round."""
    with drawing(width=5.6, height=3.7) as fig:
        ax = fig.add_subplot()
        shares = np.array([of["votes"] for of in rounds])
        edges = np.cumsum(np.hstack([np.zeros((len(shares), 1)), shares]), axis=1)
        numbers = np.array([of["round"] for of in rounds])
        for c in range(shares.shape[1]):
            colour = LIGHT[("thread", "accent")[c % 2]]
            ax.fill_between(numbers, edges[:, c], edges[:, c + 1], color=colour, linewidth=0)
            if shares.shape[1] <= CLASSES_NAMED_MAX:
                middle = (edges[-1, c] + edges[-1, c + 1]) / 2
                ax.annotate(str(c), (numbers[-1], middle), (4, -3), textcoords="offset points")
        ax.set_xlabel("round")
        ax.locator_params(axis="x", integer=True)
        ax.set_ylim(0, 1)
        ax.margins(x=0)
        return to_svg(fig)


def accuracy_by_skew(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the picture of a study: accuracy over α, a line a method, a panel a set and size."""
    panels = list(dict.fromkeys((row["data"], row["peers"]) for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    with drawing(width=3.2 * len(panels) + 2.2, height=3.7) as fig:
        for number, panel in enumerate(panels):
            ax = fig.add_subplot(1, len(panels), number + 1)
            for i, method in enumerate(methods):
                line = [r for r in rows if (r["data"], r["peers"], r["method"]) == (*panel, method)]
                alphas = [float(r["α"]) for r in line]
                mean = np.array([r["accuracy"].mean for r in line])
                spread = np.array([r["accuracy"].deviation or 0.0 for r in line])
                style = _METHOD_STYLES[i % len(_METHOD_STYLES)] if i < len(methods) - 1 else _OURS
                ax.plot(alphas, mean, label=method, **style)
                ax.fill_between(
                    alphas, mean - spread, mean + spread, color=style["color"], alpha=0.1
                )
            ax.set_xscale("log")
            ax.set_xlabel("α of the label skew")
            ax.set_title(f"{panel[0]}, {panel[1]} peers", fontsize=10)
            accuracy_axis(ax)
        handles, labels = fig.axes[0].get_legend_handles_labels()
        fig.legend(handles[::-1], labels[::-1], loc="outside right upper")
        fig.savefig(path, transparent=False, facecolor="white")


_OURS: dict[str, Any] = {"color": LIGHT["accent"], "linewidth": 2.6, "marker": "o", "zorder": 3}
_METHOD_STYLES: list[dict[str, Any]] = [
    {"color": LIGHT["muted"], "linestyle": ":", "linewidth": 1.4},
    {"color": LIGHT["second"], "linewidth": 1.4, "marker": "s", "markersize": 3},
    {"color": LIGHT["third"], "linewidth": 1.2},
    {"color": LIGHT["third"], "linewidth": 1.2, "linestyle": "--"},
    {"color": LIGHT["third"], "linewidth": 1.2, "linestyle": "-."},
    {"color": LIGHT["third"], "linewidth": 1.2, "linestyle": ":"},
    {"color": LIGHT["control"], "linewidth": 1.4},
    {"color": LIGHT["control"], "linewidth": 1.4, "linestyle": "--"},
]
