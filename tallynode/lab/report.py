"""report.html of one run, and the few lines that the terminal shows at its end."""

import statistics
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tallynode.lab import plots, tally_plots
from tallynode.lab.page import Headline, Picture, count, format_seconds, render
from tallynode.lab.records import Record, format_bytes, format_share, tidy
from tallynode.lab.summary import Summary, write_text
from tallynode.lab.tallies import TallyRound, tallies


def render_report(run_dir: Path, summary: Summary, records: Iterable[Record]) -> Path:
    """Write report.html into the run folder; returns its path."""
    series = tidy([peer["name"] for peer in summary["peers"]], records)
    page = render(
        "report.html.j2",
        run=summary,
        headlines=headlines(summary, series),
        pictures=_pictures(summary, series),
    )
    path = run_dir / "report.html"
    write_text(path, page)
    return path


def summary_lines(summary: Summary, report: Path | None = None) -> RenderableType:
    """What a run came to, in the few lines that the terminal shows at its end."""
    lines = Table.grid(padding=(0, 2))
    lines.add_column(justify="right", style="bold cyan", no_wrap=True)
    lines.add_column()
    for figure, label, note in headlines(summary, {}):
        text = Text(label)
        text.append(f" · {note}" if note else "", style="dim")
        lines.add_row(Text(figure), text)
    if report is None:
        return lines
    return Group(lines, Text(f"report: {report}", overflow="fold", no_wrap=False))


def headlines(summary: Summary, series: plots.Series) -> list[Headline]:
    """The run in at most four numbers."""
    accuracy, alone = summary["accuracy"], summary["alone"]
    per_round = summary["bytes_per_peer_round"]
    found = []
    if accuracy:
        peers, of = accuracy["peers"], len(summary["peers"])
        who = count(of, "peer") if peers == of else f"{peers} of {count(of, 'peer')}"
        low, high = format_share(accuracy["min"]), format_share(accuracy["max"])
        found.append(
            Headline(format_share(accuracy["mean"]), "mean accuracy", f"{low} to {high}, {who}")
        )
    if alone and summary["gain_points"] is not None:
        note = f"alone {format_share(alone['mean'])}"
        found.append(Headline(f"{summary['gain_points']:+.1f}", "points over training alone", note))
    if per_round:
        sent = per_round["wire_sent"]
        note = "virtual: no wire" if sent is None else f"{format_bytes(sent)} sent on the wire"
        found.append(Headline(format_bytes(per_round["payload"]), "payload a peer and round", note))
    lengths = [record["round_s"] for of_peer in series.values() for record in of_peer]
    typical = f", {statistics.median(lengths):.2g} s each" if lengths else ""
    note = f"{count(summary['rounds'], 'round')}{typical}"
    found.append(Headline(format_seconds(summary["wall_s"]), "wall time", note))
    return found


def _pictures(summary: Summary, series: plots.Series) -> list[Picture]:
    if not any(series.values()):
        return [Picture("The graph", plots.graph(summary), _graph_caption(summary))]
    return [
        Picture(
            "Accuracy by round",
            plots.accuracy_by_round(summary, series),
            ("Thin lines are" if len(series) <= plots.NAMED_MAX else "The band is nine in ten of")
            + " the peers. Dotted, the accuracy of what the votes came to"
            + (", dashed, the same peers without exchange." if summary["alone"] else "."),
        ),
        Picture(
            "Accuracy over bytes",
            plots.accuracy_by_bytes(summary, series),
            _cost_caption(summary, series),
        ),
        Picture(
            "Bytes by peer",
            plots.bytes_by_peer(summary),
            "What the codec made; a virtual mesh has no wire."
            if summary["virtual"]
            else "Left, what the codec made; right, what the kernel moved, headers and "
            "acknowledgements included. The scales differ.",
        ),
        *_tally_pictures(tallies(series)),
        Picture("The graph", plots.graph(summary), _graph_caption(summary)),
    ]


def _tally_pictures(rounds: list[TallyRound]) -> list[Picture]:
    if not rounds:
        return []
    last = rounds[-1]
    by_class = Picture(
        "Votes by class",
        tally_plots.votes_by_class(rounds),
        "What was voted, class by class, round by round; every peer's tally counts.",
    )
    if not last["by_wrong"]:
        return [by_class]
    caption = f"The last round. Most voters are wrong on {format_share(last['most_wrong'])} of the "
    caption += (
        f"probes; of these the right class has the most votes on "
        f"{format_share(last['plurality_right'])}, and the tally finds it on "
        f"{format_share(last['tally_right'])}. Two peers' tallies agree on "
        f"{format_share(last['agreement'])}."
    )
    return [
        Picture("The tally where voters are wrong", tally_plots.tally_by_wrong(last), caption),
        by_class,
    ]


def _cost_caption(summary: Summary, series: plots.Series) -> str:
    (_, _, ours), *others = plots.byte_curves(summary, series)
    ratios = [
        f"{label.removesuffix(', cost only')} {_times(np.nanmax(spent) / np.nanmax(ours))}"
        for label, _, spent in others
        if np.nanmax(ours) > 0
    ]
    if not ratios:
        return "Nothing was published."
    return (
        f"The same rounds would have cost {' and '.join(ratios)} the bytes. Dashed, this run's "
        "curve moved to that cost: cost only, not the accuracy that such a run would reach."
    )


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= 9.5 else f"{ratio:.1f} times"


def _graph_caption(summary: Summary) -> str:
    edges, kind = len(summary["topology"]["edges"]), summary["topology"]["kind"]
    all_finished = all(peer["exit"] == "finished" for peer in summary["peers"])
    return (
        f"{count(edges, 'edge')} ({kind}). The stronger the colour, the higher the last accuracy, "
        "in per cent."
        + ("" if all_finished else " Ringed in orange, the peers that did not finish.")
    )
