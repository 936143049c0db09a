"""`tallynode bench`: what it runs, keeps, sums up and draws."""

import csv
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tallynode.cli import run
from tallynode.config import Mesh
from tallynode.config_bench import Planned, load_bench
from tallynode.errors import (
    EX_CONFIG,
    EX_DATAERR,
    EX_INTERRUPTED,
    EX_OK,
    EX_SOFTWARE,
    ConfigError,
    DataError,
    DivergedError,
    LocalError,
    TallynodeError,
)
from tallynode.lab.code import code_digest
from tallynode.lab.comparison.frontier import Point, best_within, bytes_to, pareto, targets_for
from tallynode.lab.comparison.pictures import accuracy_by_bytes
from tallynode.lab.comparison.rounds import Round, case_of, known, lines, play
from tallynode.lab.comparison.run import _headlines
from tallynode.lab.comparison.table import parts_of
from tallynode.lab.pool import Case, _Watched
from tallynode.lab.svg import LIGHT

TINY = """\
bench: tiny
mesh:
  graph: complete
  task: {partition: {per_peer: 30}, probes: {count: 40}, test: 50}
  rounds: {count: 3, local_epochs: 1}
  method: {hops: 1}
data: [digits]
peers: [3]
alpha: [1.0]
seeds: [1, 2]
methods:
  - {name: votes, group: ours}
  - {name: alone, graph: {edges: []}}
  - {name: "over a hub", graph: star, method: {hops: 2}}
  - {name: "FedAvg, every 3", rounds: {count: 1, local_epochs: 3}, method: {name: fedavg}}
"""
METHODS = ["votes", "alone", "over a hub", "FedAvg, every 3"]

points = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bench that ran to its end."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "tiny.yaml").write_text(TINY)
    command = ["bench", str(folder / "tiny.yaml"), "--out", str(folder / "out"), "--jobs", "1"]
    assert run(command) == EX_OK
    return folder / "out"


def beats(a: Point, b: Point) -> bool:
    """Whether a takes no more and is no worse, and differs."""
    return a[0] <= b[0] and a[1] >= b[1] and a != b


@given(points)
def test_the_front_is_what_a_dumb_twin_finds(of: list[Point]) -> None:
    """A point is on the front if no other beats it; of equal ones the first is."""
    twin = {
        i
        for i, point in enumerate(of)
        if not any(beats(other, point) for other in of) and point not in of[:i]
    }
    assert set(pareto(of)) == twin


@given(points, st.integers(0, 9))
def test_the_best_within_a_budget_is_on_the_front(of: list[Point], budget: int) -> None:
    """Nobody within the budget is more accurate, and some point of the front is as accurate."""
    within = [accuracy for spent, accuracy in of if spent <= budget]
    found = best_within(of, budget)
    assert (found is None) == (not within)
    if found is not None:
        assert of[found][0] <= budget
        assert of[found][1] == max(within)
        assert any(of[i][0] <= budget and of[i][1] == of[found][1] for i in pareto(of))


def test_a_target_is_reached_when_it_is_reached_first() -> None:
    """A run that falls back later has reached it; one that never does has no bytes."""
    curve = [(10.0, 0.3), (20.0, 0.6), (30.0, 0.5)]
    assert (bytes_to(curve, 0.3), bytes_to(curve, 0.55), bytes_to(curve, 0.7)) == (10, 20, None)
    assert targets_for([0.5, 0.874]) == (0.65, 0.75, 0.85)
    assert targets_for([0.18]) == (0.05, 0.15)


def test_every_run_has_a_line_a_round(out: Path) -> None:
    """Four methods by two seeds; bytes grow, and their classes are the method's."""
    found = [json.loads(text) for text in (out / "rounds.jsonl").read_text().splitlines()]
    assert len(found) == 2 * (3 + 3 + 3 + 1)
    assert {line["method"] for line in found} == set(METHODS)
    for line in found:
        assert line["worst"] <= line["accuracy"]
        assert len(line["per_class"]) == 10
        kinds = {name for name, sent in line["sent"].items() if sent}
        expected = {"alone": set(), "FedAvg, every 3": {"delta", "control"}}
        assert kinds == expected.get(line["method"], {"ballot", "control"})
    of_votes = [of for of in found if (of["method"], of["seed"]) == ("votes", 1)]
    assert [of["round"] for of in of_votes] == [1, 2, 3]
    sent = [of["sent"]["ballot"] for of in of_votes]
    assert sent == sorted(set(sent))


def test_a_hub_and_its_leaves_are_counted_apart(out: Path) -> None:
    """The hub passes every leaf's ballots on, a leaf its own and the hub's; all hear all others."""
    table = json.loads((out / "bench.json").read_text())["parts"][0]["rows"]
    votes, _, star, _ = table
    assert star["hub_sent"] == pytest.approx(1.5 * star["leaf_sent"], rel=0.1)
    assert star["hub_received"] > star["leaf_received"]  # two neighbours' hellos, not one
    assert "hub_sent" not in votes
    assert star["accuracy"] == votes["accuracy"]  # the same ballots on another road
    assert star["bits_probe"] == pytest.approx(votes["bits_probe"], rel=0.05)


def test_the_tables_hold_every_operating_point(out: Path) -> None:
    """CSV and JSON agree, bits follow from bytes, and nobody's front is beaten."""
    rows = json.loads((out / "bench.json").read_text())["parts"][0]["rows"]
    with (out / "table.csv").open() as file:
        flat = list(csv.DictReader(file))
    assert [row["method"] for row in flat] == [row["method"] for row in rows] == METHODS
    for row, text in zip(rows, flat, strict=True):
        assert float(text["sent"]) == row["sent"] == pytest.approx(row["curve"][-1]["bytes"])
        assert row["bits_round"] == pytest.approx(8 * row["sent"] / row["rounds"])
        assert row["seeds"] == 2
        assert row["best_within_accuracy"] >= row["accuracy"]
    of = [(row["sent"], row["accuracy"]) for row in rows]
    assert [row["on_front"] for row in rows] == [i in pareto(of) for i in range(len(of))]
    fedavg = rows[-1]
    assert (fedavg["merges"], fedavg["local"], fedavg["bits_probe"]) == (1, "3 epochs", None)
    assert fedavg["merge_bytes"] > 4 * 4810


def test_who_has_all_the_data_is_no_rival(tmp_path: Path) -> None:
    """A model on everybody's data takes no bytes: it is a line to look up to and beats nobody."""
    pooled = "  - {name: pooled, method: {name: centralised}}\n"
    (tmp_path / "tiny.yaml").write_text(TINY.replace("seeds: [1, 2]", "seeds: [1]") + pooled)
    bench = load_bench(tmp_path / "tiny.yaml")
    runs = [(of, play(of.mesh)) for of in bench.runs if of.method in ("votes", "alone", "pooled")]
    votes, alone, line = parts_of(bench, runs)[0].rows
    assert line.sent.mean == 0
    assert line.accuracy.mean > max(votes.accuracy.mean, alone.accuracy.mean)
    assert not line.on_front
    assert "pooled" not in {votes.best[0], alone.best[0]}
    assert votes.on_front or alone.on_front


def test_pictures_and_page_hold_every_method(out: Path) -> None:
    """Well-formed, with each method's name; the page has both and runs no script."""
    page = (out / "report.html").read_text()
    for name in ("bytes-1.svg", "classes-1.svg"):
        text = "".join(ElementTree.parse(out / name).getroot().itertext())
        assert all(method in text for method in METHODS)
        alone = (out / name).read_text()
        assert "var(" not in alone  # a viewer of its own has no page to ask for colours
        assert LIGHT["muted"] in alone
    assert page.count("<svg") == 2
    assert page.count("var(--accent, ") > 1
    assert page.count("FedAvg, every 3<td>") == 2
    assert "<script" not in page


def test_any_name_is_shown_as_it_stands(tmp_path: Path) -> None:
    """Neither the legend nor the progress bar takes an underscore or brackets for its own."""
    names = ["_x", "tally [b=1]", "x [/b]"]
    methods = "".join(f"  - {{name: '{name}'}}\n" for name in names)
    text = TINY[: TINY.index("  - {name: votes")] + methods
    (tmp_path / "tiny.yaml").write_text(text)
    bench = load_bench(tmp_path / "tiny.yaml")
    rounds = play(bench.runs[0].mesh)
    runs = [of for of in bench.runs if of.seed == 1]
    (part,) = parts_of(bench, [(of, rounds) for of in runs])
    drawn = "".join(ElementTree.fromstring(accuracy_by_bytes(part, bench.groups)).itertext())
    bar = io.StringIO()
    cases = [case_of(of) for of in runs]
    with _Watched(cases, Console(file=bar, force_terminal=True, width=120)) as watched:
        for case in cases:
            watched.done(case)
            watched._bar.refresh()
    for name in names:
        assert name in drawn
        assert name in bar.getvalue()


def test_a_hub_without_leaves_has_no_ends(tmp_path: Path) -> None:
    """A star of one peer is a peer alone."""
    (tmp_path / "tiny.yaml").write_text(TINY.replace("peers: [3]", "peers: [1]"))
    star = load_bench(tmp_path / "tiny.yaml").runs[4]
    assert star.mesh.graph.kind == "star"
    assert {of.ends for of in play(star.mesh)} == {None}


def test_a_bench_that_is_done_runs_nothing(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command again starts no process and comes to the same rows."""
    monkeypatch.setattr("tallynode.lab.pool._Running", None)
    before = json.loads((out / "bench.json").read_text())["parts"]
    command = ["bench", str(out / "bench.yaml"), "--out", str(out), "--json"]
    assert run(command) == EX_OK
    assert json.loads((out / "bench.json").read_text())["parts"] == before


def test_runs_of_other_code_are_said_to_be(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that the bench asks for, by run and not by line."""
    text = (out / "rounds.jsonl").read_text()
    (tmp_path / "rounds.jsonl").write_text(text.replace(code_digest(), "old", 3))
    command = ["bench", str(out / "bench.yaml"), "--out", str(tmp_path)]
    assert run(command) == EX_OK
    said = "".join(capsys.readouterr().out.splitlines())
    assert "1 of 8 runs are of other code; remove" in said


def test_a_run_that_was_cut_off_is_run_again(tmp_path: Path) -> None:
    """Whole runs are known; one without its last line, or with half of it, is not."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    votes: Planned = load_bench(tmp_path / "tiny.yaml").runs[0]
    rounds = play(votes.mesh)
    text = [json.dumps(line) for line in lines(case_of(votes).key, votes, rounds)]
    file = tmp_path / "rounds.jsonl"
    file.write_text("\n".join(text[:2]) + "\n" + text[2][:50])
    assert known(file) == {}
    file.write_text("\n".join([*text[:2], text[2][:50], *text]) + "\n")
    assert known(file) == {case_of(votes).key: rounds}
    file.write_text("\n".join(text).replace('"worst"', '"least"') + "\n")
    assert known(file) == {}  # written when a round was something else


def test_a_bench_may_lack_runs(tmp_path: Path) -> None:
    """What is there is summed up: one seed has no deviation, a method without runs no row."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    bench = load_bench(tmp_path / "tiny.yaml")
    (part,) = parts_of(bench, [(bench.runs[0], play(bench.runs[0].mesh))])
    assert [row.method for row in part.rows] == ["votes"]
    assert part.rows[0].accuracy.deviation is None


@pytest.mark.parametrize("asked_by", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_by: signal.Signals
) -> None:
    """Exit 130 with a word on how to go on and no traceback; then only the rest would be run."""
    long = TINY.replace("seeds: [1, 2]", f"seeds: {list(range(50))}")
    (tmp_path / "long.yaml").write_text(long)
    command = ["bench", str(tmp_path / "long.yaml"), "--out", str(tmp_path / "out"), "--jobs", "2"]
    with subprocess.Popen(
        [sys.executable, "-m", "tallynode", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as of:
        assert of.stdout is not None
        first = next(of.stdout)
        of.send_signal(asked_by)
        said, complaints = of.communicate(timeout=60)
    assert first.startswith("1/200 ")
    assert of.returncode == EX_INTERRUPTED
    assert "goes on from there" in said
    assert "Traceback" not in complaints

    done = set(known(tmp_path / "out" / "rounds.jsonl"))
    asked: list[str] = []

    def in_pool(todo: Sequence[Case], *_: object, **__: object) -> None:
        asked.extend(case.key for case in todo)
        raise KeyboardInterrupt

    monkeypatch.setattr("tallynode.lab.comparison.run.in_pool", in_pool)
    assert run(command) == EX_INTERRUPTED
    assert done
    assert not done & set(asked)
    assert len(done) + len(asked) == 200


def test_a_method_that_cannot_run_costs_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are written down; it is named with the reason, on the page and at the end."""
    huge = '  - {name: "too many", task: {partition: {per_peer: 900}}}\n'
    sizes = "seeds: [1]\npeers: [2, 3]"
    text = TINY.replace("peers: [3]\n", "").replace("seeds: [1, 2]", sizes)
    (tmp_path / "tiny.yaml").write_text(text + huge)
    command = ["bench", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "out"), "--jobs", "1"]
    assert run([*command, "--json"]) == EX_DATAERR
    printed, complaints = capsys.readouterr()
    for peers in (2, 3):
        assert f"too many: on digits, {peers} peers, α = 1: data: digits has" in complaints
    summary = json.loads(printed)
    assert summary == json.loads((tmp_path / "out" / "bench.json").read_text())
    assert [of["panel"] for of in summary["refused"]] == [
        "digits, 3 peers, α = 1",  # the longer run was done first
        "digits, 2 peers, α = 1",
    ]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("digits has") == 2
    assert "4 methods, 2 panels" in page
    assert len(known(tmp_path / "out" / "rounds.jsonl")) == 8


def in_turn(
    todo: Sequence[Case],
    work: Callable[[Mesh], object],
    take: Callable[[Case, object], None],
    **_: object,
) -> None:
    """A pool without processes."""
    for case in todo:
        take(case, work(case.mesh))


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigError, EX_CONFIG), (DataError, EX_DATAERR), (LocalError, EX_SOFTWARE)],
)
def test_a_bench_ends_as_its_runs_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[TallynodeError], code: int
) -> None:
    """What is refused has the exit code that it has alone, and what is our own bug ends all."""

    def broken(_: Mesh) -> list[Round]:
        raise error("why")

    monkeypatch.setattr("tallynode.lab.comparison.run.in_pool", in_turn)
    monkeypatch.setattr("tallynode.lab.comparison.run.play", broken)
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = ["bench", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "out")]
    assert run(command) == code
    assert (tmp_path / "out" / "report.html").exists() == (code != EX_SOFTWARE)


def test_a_method_that_diverges_has_no_mean_of_its_lucky_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of two seeds ran away: the method has no row, and the seed is named."""

    def unlucky(mesh: Mesh) -> list[Round]:
        if mesh.seed == 2 and mesh.method.name == "fedavg":
            raise DivergedError("round 1: training diverged")
        return play(mesh)

    monkeypatch.setattr("tallynode.lab.comparison.run.in_pool", in_turn)
    monkeypatch.setattr("tallynode.lab.comparison.run.play", unlucky)
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = ["bench", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "out"), "--json"]
    assert run(command) == EX_DATAERR
    said = capsys.readouterr()
    (part,) = json.loads(said.out)["parts"]
    assert "FedAvg, every 3" not in {row["method"] for row in part["rows"]}
    assert "FedAvg, every 3: on digits, 3 peers, α = 1: seed 2: round 1: training" in said.err


def test_nobody_is_called_a_hundred_times_cheaper_who_is_not(tmp_path: Path) -> None:
    """Where no method takes so little, the headlines name none."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    bench = load_bench(tmp_path / "tiny.yaml")
    of = {planned.method: planned for planned in bench.runs}
    votes, fedavg = ((of[name], play(of[name].mesh)) for name in ("votes", "FedAvg, every 3"))
    last = fedavg[1][-1]
    for accuracy, said in ((0.0, False), (1.0, True)):
        runs = [votes, (fedavg[0], [replace(last, accuracy=accuracy)])]
        notes = [headline.note for headline in _headlines(parts_of(bench, runs))]
        assert any("best at 1/100" in note for note in notes) == said
        assert notes[-1] == "2 methods, 1 panel"
