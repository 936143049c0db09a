"""The pictures of a bench: accuracy over bytes with its front, and recall by class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

from tallynode.lab.comparison.table import Part, Row
from tallynode.lab.plots import RAMP, accuracy_axis, byte_axis, ramp_levels
from tallynode.lab.svg import LIGHT, drawing, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("accent", "second", "third", "control", "fourth", "fifth", "sixth", "ink")  # of groups
MARKERS = "os^DvPX*"  # of the operating points of one group
CLASSES_NAMED_MAX = 20  # classes whose recall is written out
FRONT = "not beaten (Pareto front)"
BELOW = 0.2  # of accuracy; shown under the lowest end: how runs begin tells little
WIDE = 11.6  # inches; a picture across the page


@dataclass(frozen=True, slots=True)
class Style:
    """How a method is drawn, the same in every picture."""

    colour: str
    marker: str


def styles(groups: Mapping[str, str]) -> dict[str, Style]:
    """A colour a group and a marker a method in it, in the order of the file."""
    seen: dict[str, list[str]] = {}
    for method, group in groups.items():
        seen.setdefault(group, []).append(method)
    return {
        method: Style(LIGHT[COLOURS[g % len(COLOURS)]], MARKERS[m % len(MARKERS)])
        for g, methods in enumerate(seen.values())
        for m, method in enumerate(methods)
    }


def accuracy_by_bytes(part: Part, groups: Mapping[str, str]) -> str:
    """SVG: each method's rounds, where it ends, and which ends no other beats."""
    with drawing(width=WIDE, height=max(4.4, 0.235 * len(part.rows) + 1.2)) as fig:
        ax = fig.add_subplot()
        drawn, handles = styles(groups), dict[str, Any]()
        dashes = cycle(((0, (5, 3)), (0, (5, 2, 1, 2)), (0, (2, 2))))
        for row in part.rows:
            if row.sent.mean:
                handles[row.method] = _draw_method(ax, row, drawn[row.method])
            else:
                line: dict[str, Any] = {"color": LIGHT["muted"], "linestyle": next(dashes)}
                handles[row.method] = ax.axhline(row.accuracy.mean, linewidth=1.4, **line)
        front = [row for row in part.rows if row.on_front and row.sent.mean]
        if front:
            handles[FRONT] = _draw_front(ax, front)
        ax.set_xscale("log")
        byte_axis(ax, "payload bytes that a peer has published")
        ax.xaxis.set_minor_formatter(lambda value, _: "")
        accuracy_axis(ax)
        ax.set_ylim(bottom=max(0.0, min(row.accuracy.mean for row in part.rows) - BELOW))
        ax.grid(axis="x", linewidth=0.7)
        legend = ax.legend(
            list(handles.values()),
            [""] * len(handles),
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
            labelspacing=0.35,
            fontsize=10,
        )
        for text, name in zip(legend.get_texts(), handles, strict=True):
            text.set_text(name)  # now, as the legend leaves labels out that begin with _
        return to_svg(fig)


def recall_by_class(part: Part) -> str:
    """SVG: how much of each class each method gets right in the end."""
    rows = part.rows
    classes = len(rows[0].per_class)
    levels = ramp_levels([recall for row in rows for recall in row.per_class])
    with drawing(width=WIDE, height=0.27 * len(rows) + 0.9) as fig:
        ax = fig.add_subplot()
        for y, row in enumerate(rows):
            for x, recall in enumerate(row.per_class):
                level = levels[y * classes + x]
                colour = LIGHT["card"] if level is None else LIGHT[RAMP[level]]
                ax.barh(y, 0.96, 0.92, x - 0.48, color=colour)
                if recall is not None and classes <= CLASSES_NAMED_MAX:
                    ink = LIGHT["on-deep"] if (level or 0) > 2 else LIGHT["on-pale"]
                    style: dict[str, Any] = {"ha": "center", "va": "center_baseline"}
                    ax.text(x, y, f"{100 * recall:.0f}", color=ink, fontsize=9, **style)
        ax.set_yticks(range(len(rows)), [row.method for row in rows])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlim(-0.5, classes - 0.5)
        ax.set_xlabel("class")
        ax.locator_params(axis="x", integer=True)
        if classes <= CLASSES_NAMED_MAX:
            ax.set_xticks(range(classes))
        ax.tick_params(length=0, labelcolor=LIGHT["ink"])
        for side in ("left", "bottom"):
            ax.spines[side].set_visible(False)
        return to_svg(fig)


def _draw_method(ax: "Axes", row: Row, style: Style) -> Any:
    """A line of rounds and a mark at its end; the mark, for the legend."""
    spent, accuracy, _ = row.curve.T
    ax.plot(spent, accuracy, color=style.colour, linewidth=1.1, alpha=0.5)
    return ax.errorbar(
        row.sent.mean,
        row.accuracy.mean,
        yerr=row.accuracy.deviation,
        color=style.colour,
        marker=style.marker,
        markersize=6.5,
        linestyle="none",
        elinewidth=1.0,
        zorder=3,
    )


def _draw_front(ax: "Axes", front: Sequence[Row]) -> Any:
    """A step through the ends that no other beats, and a ring around each; the rings."""
    points = sorted((row.sent.mean, row.accuracy.mean) for row in front)
    x, y = zip(*points, strict=True)
    ax.plot(x, y, drawstyle="steps-post", color=LIGHT["muted"], linestyle=":", linewidth=1.2)
    ring: dict[str, Any] = {"facecolor": "none", "edgecolor": LIGHT["ink"], "linewidth": 1.2}
    return ax.scatter(x, y, s=130, zorder=4, **ring)
