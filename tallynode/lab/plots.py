"""The four pictures of report.html, each a function from the run to an <svg> element."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tallynode.lab.records import Record, format_bytes, own_ballot_bytes, payload_total
from tallynode.lab.summary import PeerSummary, Summary
from tallynode.lab.svg import LIGHT, drawing, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = Mapping[str, Sequence[Record]]  # tidied records by peer

NAMED_MAX = 40  # peers; beyond it lines become a band and names are left out
NAME_MAX = 16  # characters of a name in a picture
SHORT = 3  # rounds; lines of fewer get dots
RAMP = ("ramp-0", "ramp-1", "ramp-2", "ramp-3", "ramp-4")  # least to most accurate


def accuracy_by_round(summary: Summary, series: Series) -> str:
    """SVG: a thin line a peer, their mean, the mean accuracy of the tallies, and `alone`."""
    with drawing(width=5.6, height=3.7) as fig:
        ax = fig.add_subplot()
        accuracy = _rows(series, "accuracy")
        rounds = np.arange(1, accuracy.shape[1] + 1)
        if len(series) <= NAMED_MAX:
            ax.plot(rounds, accuracy.T, color=LIGHT["thread"], linewidth=0.9)
        else:
            known = np.isfinite(accuracy).any(axis=0)
            low, high = np.nanpercentile(accuracy[:, known], [5, 95], axis=0)
            ax.fill_between(rounds[known], low, high, color=LIGHT["thread"], linewidth=0)
        mean, bold = _mean(accuracy), 2.6
        ax.plot(rounds, mean, color=LIGHT["accent"], linewidth=bold, zorder=3, label="peers, mean")
        tally = _mean(_rows(series, "tally_accuracy"))
        if np.isfinite(tally).any():
            ax.plot(rounds, tally, ":", color=LIGHT["third"], linewidth=1.8, label="tally, mean")
        if summary["alone"]:
            alone = summary["alone"]["mean"]
            style = (0, (5, 3))
            ax.axhline(alone, color=LIGHT["second"], linestyle=style, linewidth=1.6, label="alone")
        _mark_short(ax, rounds)
        ax.set_xlabel("round")
        ax.locator_params(axis="x", integer=True)
        if len(rounds) <= SHORT:
            ax.set_xlim(0.5, len(rounds) + 0.5)
            ax.set_xticks(rounds)
        accuracy_axis(ax)
        legend(ax, columns=3)
        return to_svg(fig)


def accuracy_by_bytes(summary: Summary, series: Series) -> str:
    """SVG: accuracy over payload bytes a peer, and what else the same rounds would have cost."""
    with drawing(width=5.6, height=3.7) as fig:
        ax = fig.add_subplot()
        mean = _mean(_rows(series, "accuracy"))
        for label, colour, spent in byte_curves(summary, series):
            ours = colour == "accent"
            ax.plot(
                np.where(spent > 0, spent, np.nan),
                mean,
                color=LIGHT[colour],
                linewidth=2.6 if ours else 1.4,
                linestyle="-" if ours else (0, (4, 2)),
                zorder=3 if ours else 2,
                label=label,
            )
        ax.set_xscale("log")
        byte_axis(ax, "payload bytes published, mean of the peers")
        ax.xaxis.set_minor_formatter(lambda value, _: "")
        _mark_short(ax, mean)
        accuracy_axis(ax)
        legend(ax)
        return to_svg(fig)


def byte_curves(summary: Summary, series: Series) -> list[tuple[str, str, np.ndarray]]:
    """(label, colour, (rounds,) cumulative bytes a peer): this run, then what others would cost."""
    payload = _reached(_rows(series, "payload"))
    curves = [("this run", "accent", payload)]
    costs = summary["costs"]
    if costs["ballot_bytes_per_round"]:
        messages = _reached(_rows(series, "ballots")) / costs["ballot_bytes_per_round"]
        soft = messages * costs["soft_label_bytes_per_round"]
        curves.append(("as soft labels, cost only", "third", soft))
    if costs["parameter_bytes"]:
        parameters = np.arange(1, len(payload) + 1) * float(costs["parameter_bytes"])
        curves.append(("as full parameters, cost only", "second", parameters))
    return curves


def bytes_by_peer(summary: Summary) -> str:
    """SVG: payload bytes a peer published by class, and beside them the bytes on the wire."""
    peers = summary["peers"]
    rows = np.arange(len(peers))
    wired = any(peer["wire_bytes"]["source"] != "none" for peer in peers)
    with drawing(width=5.6, height=_height(peers)) as fig:
        panels = fig.subplots(1, 2 if wired else 1, sharey=True, squeeze=False)[0]
        start = np.zeros(len(peers))
        for label, colour, counts in _classes(peers):
            if counts.any():
                panels[0].barh(rows, counts, 0.68, start, color=LIGHT[colour], label=label)
                start += counts
        byte_axis(panels[0], "payload published")
        if wired:
            _wire_bars(panels[1], peers)
        names = [_short(peer["name"]) for peer in peers] if len(peers) <= NAMED_MAX else []
        panels[0].set_yticks(rows[: len(names)], names)
        panels[0].set_ylim(max(len(peers), 4) - 0.5, -0.5)
        for ax in panels:
            ax.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
            ax.locator_params(axis="x", nbins=3)
            ax.set_xlim(left=0)
            ax.grid(axis="x", linewidth=0.7)
            legend(ax)
        return to_svg(fig)


def graph(summary: Summary) -> str:
    """SVG: the peers on a circle, coloured by their last accuracy, and the edges between them."""
    peers = summary["peers"]
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(peers)) / len(peers)
    places = {
        peer["name"]: (math.cos(angle), math.sin(angle))
        for peer, angle in zip(peers, angles, strict=True)
    }
    named = len(peers) <= NAMED_MAX
    with drawing(width=5.6, height=min(5.4, _height(peers))) as fig:
        ax = fig.add_subplot()
        for a, b in summary["topology"]["edges"]:
            ax.plot(*zip(places[a], places[b], strict=True), color=LIGHT["thread"], linewidth=1.1)
        levels = ramp_levels([peer["accuracy"] for peer in peers])
        size = min(620.0, 9000.0 / len(peers))  # points²
        for peer, level in zip(peers, levels, strict=True):
            x, y = places[peer["name"]]
            colour = LIGHT["card"] if level is None else LIGHT[RAMP[level]]
            edge = LIGHT["accent" if peer["exit"] == "finished" else "second"]
            ax.scatter(x, y, s=size, color=colour, edgecolor=edge, zorder=2)
            if named:
                _name_node(ax, peer, level, (x, y), size)
        ax.set_xlim(-1.65, 1.65)
        ax.set_ylim(-1.25, 1.25)
        ax.set_aspect("equal")
        ax.axis("off")
        return to_svg(fig)


def ramp_levels(accuracies: Sequence[float | None]) -> list[int | None]:
    """Each accuracy's step of RAMP, from the least of the mesh to the greatest."""
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    width = max(high - low, 0.05)  # peers within five points are not told apart by much
    top = len(RAMP) - 1
    return [
        None if accuracy is None else top - min(top, int((high - accuracy) / width * len(RAMP)))
        for accuracy in accuracies
    ]


def _name_node(
    ax: "Axes", peer: PeerSummary, level: int | None, at: tuple[float, float], size: float
) -> None:
    x, y = at
    if size > 300 and peer["accuracy"] is not None:
        ink = LIGHT["on-deep"] if level is not None and level > 2 else LIGHT["on-pale"]
        share = f"{100 * peer['accuracy']:.0f}"
        ax.text(x, y, share, color=ink, ha="center", va="center_baseline", fontsize=9, zorder=3)
    out = 1 + 0.062 * math.sqrt(size) / 10 + 0.06
    side = "center" if abs(x) < 0.2 else "left" if x > 0 else "right"
    name = _short(peer["name"])
    ax.text(out * x, out * y, name, color=LIGHT["ink"], ha=side, va="center", fontsize=9)


def _height(peers: Sequence[PeerSummary]) -> float:
    """Inches of a picture that has a row for every peer; the graph beside it keeps pace."""
    return max(3.6, 1.3 + 0.24 * len(peers)) if len(peers) <= NAMED_MAX else 5.0


def _short(name: str) -> str:
    return name if len(name) <= NAME_MAX else name[: NAME_MAX - 1] + "…"


def _wire_bars(ax: "Axes", peers: Sequence[PeerSummary]) -> None:
    rows, edge = np.arange(len(peers)), LIGHT["accent"]
    sent = [peer["wire_bytes"]["sent"] for peer in peers]
    received = [peer["wire_bytes"]["received"] for peer in peers]
    ax.barh(
        rows - 0.18, sent, 0.32, color=LIGHT["thread"], edgecolor=edge, linewidth=0.7, label="sent"
    )
    ax.barh(
        rows + 0.18, received, 0.32, color="none", edgecolor=edge, linewidth=0.7, label="received"
    )
    byte_axis(ax, "on the wire")


def _classes(peers: Sequence[PeerSummary]) -> Iterator[tuple[str, str, np.ndarray]]:
    """(label, colour, (peers,) bytes) of each class of message; relays apart from own ballots."""
    own = np.array([own_ballot_bytes(peer) for peer in peers], dtype=float)
    yield "own ballots", "ballot", own
    ballots = np.array([peer["payload_bytes"]["ballot"] for peer in peers], dtype=float)
    yield "relayed ballots", "relay", ballots - own
    for kind in ("delta", "soft", "control"):
        counts = [peer["payload_bytes"][kind] for peer in peers]
        yield kind, kind, np.array(counts, dtype=float)


def _rows(series: Series, field: str) -> np.ndarray:
    """(peers, rounds) float: a field of every record, NaN where a peer has none."""
    rounds = max((of[-1]["round"] for of in series.values() if of), default=0)
    rows = np.full((len(series), rounds), np.nan)
    for row, records in zip(rows, series.values(), strict=True):
        for record in records:
            value = _value(record, field)
            row[record["round"] - 1] = math.nan if value is None else value
    return rows


def _value(record: Record, field: str) -> float | None:
    match field:
        case "payload":
            return payload_total(record)
        case "ballots":
            return record["payload_bytes"]["ballot"]
        case _:
            value: float | None = record[field]  # type: ignore[literal-required]
            return value


def _mean(rows: np.ndarray) -> np.ndarray:
    """(rounds,) mean over the peers that have a value; NaN where none has."""
    known = np.isfinite(rows)
    total = np.where(known, rows, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


def _reached(rows: np.ndarray) -> np.ndarray:
    """(rounds,) mean of counters over the peers that count, each at what it had reached by then."""
    counting = rows[np.isfinite(rows).any(axis=1)]
    reached: np.ndarray = np.maximum.accumulate(np.nan_to_num(counting), axis=1).mean(axis=0)
    return reached


def accuracy_axis(ax: "Axes") -> None:
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    ax.grid(axis="y", linewidth=0.7)
    ax.tick_params(length=0)
    ax.set_ylabel("test accuracy")


def legend(ax: "Axes", columns: int = 2) -> None:
    """The legend above the picture, where no line runs; none where nothing has a name."""
    if not ax.get_legend_handles_labels()[0]:
        return
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderpad=0.2, columnspacing=1.4
    )


def byte_axis(ax: "Axes", label: str) -> None:
    """Name the axis along the bottom, its numbers as bytes."""
    ax.set_xlabel(label)
    ax.xaxis.set_major_formatter(lambda value, _: re.sub(r"\.0+ ", " ", format_bytes(value)))


def _mark_short(ax: "Axes", rounds: np.ndarray) -> None:
    """Dots on the lines of a run so short that a line alone would hardly show."""
    if len(rounds) <= SHORT:
        for line in ax.lines:
            line.set_marker("o")
            line.set_markersize(3)
