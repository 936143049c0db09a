"""report.html: alone in its file, whole, escaped, and in the colours of the screen."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from tallynode.lab import plots
from tallynode.lab.page import format_seconds
from tallynode.lab.records import tidy
from tallynode.lab.report import render_report, summary_lines
from tallynode.lab.summary import Summary, build_summary
from tallynode.lab.svg import DARK, LIGHT

Make = Callable[..., Any]
HOSTILE = ["<script>alert(1)</script>", "$\\frac{x}$", '"&amp;#1d2733', "pi-4"]


class Page(HTMLParser):
    """Collects the tags, the texts and whatever a browser would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href")
        ]

    def handle_data(self, data: str) -> None:
        self.text += data


def render(run: Any, folder: Path) -> tuple[Summary, str]:
    """The summary of a run and the text of its report."""
    summary = build_summary(*run)
    path = render_report(folder, summary, run.records)
    assert path == folder / "report.html"
    return summary, path.read_text("utf-8")


def test_report_stands_alone(make_run: Make, tmp_path: Path) -> None:
    """The page fetches nothing and runs nothing: every reference points into itself."""
    _, page = render(make_run(["pi-1", "pi-2", "pi-3"]), tmp_path)
    found = Page(page)
    assert all(reference.startswith("#") for reference in found.fetched)
    assert not {"script", "link", "img", "iframe"} & set(found.tags)
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []


def test_report_shows_the_run(make_run: Make, tmp_path: Path) -> None:
    """Headline numbers, every peer, the command and the versions stand on the page."""
    summary, page = render(make_run(["pi-1", "pi-2", "pi-3"]), tmp_path)
    text = Page(page).text
    assert summary["accuracy"] is not None
    assert f"{100 * summary['accuracy']['mean']:.1f} %" in text
    assert f"{summary['gain_points']:+.1f}" in text
    assert "cost only, not the accuracy" in text
    for word in ("pi-1", "pi-2", "pi-3", summary["command"], "2.13.0"):
        assert word in text


@pytest.mark.filterwarnings("error")
def test_a_method_that_sends_nothing_has_no_legend_of_bytes(make_run: Make) -> None:
    """And matplotlib does not complain of one without entries."""
    run = make_run(["pi-1", "pi-2"])
    for record in run.records:
        record["payload_bytes"] = {"ballot": 0, "delta": 0, "soft": 0, "control": 0}
        record["relayed_bytes"] = 0
        record["coded_bytes"] = {}
        record["wire_bytes"] = {"sent": 0, "received": 0, "source": "none"}
    assert "<svg" in plots.bytes_by_peer(build_summary(*run))


def test_what_private_votes_spent_is_on_the_page(make_run: Make, tmp_path: Path) -> None:
    """ε of a vote and of all, a peer each; nothing of it where votes are not private."""
    run = make_run(["pi-1", "pi-2"])
    assert "ε" not in Page(render(run, tmp_path)[1]).text
    spent = {"vote": 4.0, "round": 1840.0, "total": 8796.1, "probe": 20.0, "delta": 1e-5}
    private = [{**line, "privacy": spent} for line in run.records if line["peer"] == "pi-1"]
    others = [line for line in run.records if line["peer"] != "pi-1"]
    _, page = render(run._replace(records=[*private, *others]), tmp_path)
    assert "<th>ε of all" in page
    assert "<td>4<td>8,796<td>" in page
    assert "<td>–<td>–<td>" in page
    assert "δ = 1e-05" in page


def test_names_from_a_configuration_are_text(make_run: Make, tmp_path: Path) -> None:
    """A name that is markup, a formula or one of our colours is shown as it was written."""
    run = make_run(HOSTILE)
    run = run._replace(info=replace(run.info, mesh="</style><b>", command="a & <b>"))
    found = Page(render(run, tmp_path)[1])
    assert "script" not in found.tags
    assert found.tags.count("b") == len(HOSTILE)  # the marks of `alone` in the table
    for name in (*HOSTILE[:3], "</style><b>", "a & <b>"):
        assert name in found.text


def test_pictures_are_whole_and_take_the_page_s_colours(make_run: Make, tmp_path: Path) -> None:
    """Four well-formed pictures; no colour in them is fixed, each is a variable of the page."""
    _, page = render(make_run(["pi-1", "pi-2", "pi-3"]), tmp_path)
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 4
    for picture in pictures:
        ElementTree.fromstring(picture)
        fixed = re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", picture)
        assert re.findall(r": #[0-9a-f]{6}", fixed) == []


def test_each_colour_has_one_name_in_both_themes() -> None:
    """Colours are told apart by value when they become variables, so no two may be equal."""
    assert len(set(LIGHT.values())) == len(LIGHT)
    assert LIGHT.keys() == DARK.keys()


def test_the_same_run_makes_the_same_page(make_run: Make, tmp_path: Path) -> None:
    """Nothing on the page depends on when or where it was made."""
    first, second = (render(make_run(["pi-1", "pi-2"]), tmp_path)[1] for _ in range(2))
    assert first == second


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("peers", "rounds"), [(1, 1), (2, 2), (60, 3)])
def test_small_and_large_meshes_are_drawn(
    make_run: Make, tmp_path: Path, peers: int, rounds: int
) -> None:
    """A single peer, a short run and a mesh too large for names all make a page, unwarned."""
    run = make_run([f"v{place}" for place in range(peers)], rounds=rounds, baseline=False)
    for record in run.records:
        record["wire_bytes"] = {"sent": 0, "received": 0, "source": "none"}
        record["tally_accuracy"] = None
    _, page = render(run, tmp_path)
    assert page.count("<svg") == 4


@pytest.mark.filterwarnings("error")
def test_a_run_without_a_round_has_a_page(make_run: Make, tmp_path: Path) -> None:
    """A run stopped before its first round shows its graph and its peers."""
    run = make_run(["pi-1", "pi-2"])
    _, page = render(run._replace(records=[]), tmp_path)
    assert page.count("<svg") == 1
    assert "pi-2" in Page(page).text


@pytest.mark.filterwarnings("error")
def test_a_killed_peer_s_line_ends_where_it_ended(make_run: Make, tmp_path: Path) -> None:
    """Rounds that a peer missed are gaps, and the page says that it did not finish."""
    run = make_run(["pi-1", "pi-2", "pi-3"])
    run.outcomes[1] = replace(run.outcomes[1], exit="killed")
    missed = [r for r in run.records if r["peer"] != "pi-2" or r["round"] in (1, 3)]
    text = Page(render(run._replace(records=missed), tmp_path)[1]).text
    assert "killed" in text
    assert "2 of 3 peers" in text
    assert "did not finish" in text


def test_bytes_never_run_backwards(make_run: Make) -> None:
    """A peer that died, came late or skipped a round counts with what it had published by then."""
    info, outcomes, records = make_run(["a", "b", "c"], rounds=5)
    there = {"a": {1, 2, 3, 4, 5}, "b": {1, 2}, "c": {3, 5}}
    series = tidy(["a", "b", "c", "d"], [r for r in records if r["round"] in there[r["peer"]]])
    one = plots.payload_total(series["a"][0])
    (_, _, ours), *others = plots.byte_curves(build_summary(info, outcomes, []), series)
    assert (3 * ours / one).tolist() == pytest.approx([2, 4, 8, 9, 12])
    for _, _, spent in others:
        assert (spent[1:] >= spent[:-1]).all()


def test_reference_curves_cost_what_the_same_messages_would(make_run: Make) -> None:
    """Soft labels: as many messages, relays included; parameters: once a round and peer."""
    run = make_run(["pi-1", "pi-2", "pi-3"], rounds=4)
    series = tidy(run.info.peers, run.records)
    ours, soft, parameters = plots.byte_curves(build_summary(*run), series)
    assert ours[2].tolist() == [772 * n for n in (1, 2, 3, 4)]
    assert soft[2].tolist() == [3 * 500 * 10 * 4 * n for n in (1, 2, 3, 4)]
    assert parameters[2].tolist() == [4810 * 4 * n for n in (1, 2, 3, 4)]
    assert all("cost only" in label for label, _, _ in (soft, parameters))


def test_the_ramp_runs_from_least_to_most_accurate() -> None:
    """Nodes use the whole ramp where accuracies differ and its top alone where they do not."""
    assert plots.ramp_levels([0.2, None, 0.55, 0.9]) == [0, None, 2, 4]
    assert plots.ramp_levels([0.8, 0.8]) == [4, 4]
    assert plots.ramp_levels([]) == []


def test_the_terminal_s_last_lines(make_run: Make, tmp_path: Path) -> None:
    """Accuracy, gain, bytes, time and the report's place, with brackets shown as they are."""
    console = Console(file=io.StringIO(), width=80)
    console.print(summary_lines(build_summary(*make_run(["pi"])), tmp_path / "[red]report.html"))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue().replace("\n", "")
    for word in ("mean accuracy", "points over training alone", "272 B", "750 B sent", "12 s"):
        assert word in shown
    assert "[red]report.html" in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.21, "4.2 s"), (42.4, "42 s"), (192, "3 min 12 s"), (7500, "2 h 05 min")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    """Durations are shown in the unit that a person would use."""
    assert format_seconds(seconds) == text
