"""A bench file: what it plans, and the line, column and words of everything that is wrong."""

import re
from pathlib import Path

import pytest

from tallynode.config_bench import NAME_MAX, RUNS_MAX, Bench, Panel, bench_dir, load_bench
from tallynode.errors import EX_CONFIG, ConfigError

READY = sorted(path.stem for path in bench_dir().glob("*.yaml"))
AXES = "bench: b\ndata: [digits]\npeers: [4]\nalpha: [0.1]\nseeds: [1]\n"  # five lines


def load(tmp_path: Path, text: str) -> Bench:
    """Load a bench from text."""
    path = tmp_path / "b.yaml"
    path.write_text(text)
    return load_bench(path)


def refusal(tmp_path: Path, text: str) -> list[str]:
    """The lines with which the text is refused, without the folder."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert caught.value.exit_code == EX_CONFIG
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


@pytest.mark.parametrize("name", READY)
def test_ready_benches_load_and_say_how_to_run(name: str) -> None:
    """Each is valid, is named like its file, and says on top how to run it and what all share."""
    path = bench_dir() / f"{name}.yaml"
    assert load_bench(path).name == name
    comment = path.read_text().split("\nbench:", 1)[0]
    assert "tallynode bench" in comment
    assert "same splits" in comment


@pytest.mark.parametrize("name", READY)
def test_ready_benches_give_everybody_the_same_local_work(name: str) -> None:
    """Who merges seldom trains longer in between, and who has all the data does all the work."""
    work = set()
    for run in load_bench(bench_dir() / f"{name}.yaml").runs:
        rounds, pooled = run.mesh.rounds, run.mesh.method.name == "centralised"
        share = len(run.mesh.peers) if pooled and rounds.local_steps else 1
        work.add(rounds.count * (rounds.local_steps or rounds.local_epochs) / share)
    assert len(work) == 1


def test_methods_by_data_by_skew_by_size_by_seed(tmp_path: Path) -> None:
    """Every combination is a mesh; later layers win, key by key, a graph as a whole."""
    text = """\
bench: b
mesh: {graph: {kind: random-regular, degree: 2}, task: {model: mlp, probes: {count: 90}}}
data: [digits, {name: clothes, task: {data: fashion-mnist, model: lenet5}}]
peers: [4, 5]
alpha: [0.1, iid]
seeds: [1, 2, 3]
methods:
  - {name: "ours, every 5", task: {batch_size: 16}}
  - {name: ring, group: others, graph: ring, task: {model: resnet8}}
"""
    bench = load(tmp_path, text)
    assert len(bench.runs) == 2 * 2 * 2 * 3 * 2
    assert bench.groups == {"ours, every 5": "ours", "ring": "others"}
    by = {(run.panel, run.method, run.seed): run.mesh for run in bench.runs}
    clothes = Panel(data="clothes", peers=5, alpha="iid")
    ours = by[clothes, "ours, every 5", 3]
    assert (ours.task.data, ours.task.model) == ("fashion-mnist", "lenet5")
    assert (ours.task.probes.count, ours.task.batch_size) == (90, 16)
    assert (len(ours.peers), ours.seed, ours.graph.degree) == (5, 3, 2)
    assert ours.task.partition.dirichlet is None
    ring = by[Panel(data="digits", peers=4, alpha="0.1"), "ring", 1]
    assert (ring.graph.kind, ring.graph.degree, ring.task.model) == ("ring", None, "resnet8")
    assert ring.task.partition.dirichlet == 0.1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("  - {name: a, metod: {name: fd}}", "7:15: methods[0].metod: unknown key; did you mean"),
        ("  - {name: a, method: {nmae: fd}}", "7:24: methods[0].method.nmae: unknown key; did"),
        ("  - {name: a, method: {name: fdd}}", "7:30: methods[0].method.name: should be"),
        ("  - {name: a, rounds: {count: -1}}", "7:31: methods[0].rounds.count: should be"),
        ("  - {name: a, rounds: {count: 0}}", "7:31: methods[0].rounds.count: is 0, for ever"),
        ("  - {name: a, rounds: 3}", "7:23: methods[0].rounds: should be a mapping"),
        ("  - {name: a, graph: torus}", "7:22: methods[0].graph.cols: is missing"),
        ("  - {name: a, method: {name: fedavg, bits: 3}}", "7:44: methods[0].method.bits: means"),
        ("  - {name: a, seed: 3}", "7:15: methods[0].seed: is set for each run, from `seeds`"),
        ("  - {name: a, peers: 5}", "7:22: methods[0].peers: are 5, and the panel is of 4"),
        (
            "  - {name: a, task: {data: mnist}}",
            "7:28: methods[0].task.data: is mnist, and the panel is on digits",
        ),
        (
            "  - {name: a, peers: [{name: b, data: mnist}, c, d, e]}",
            "7:39: methods[0].peers[0].data: is mnist, and the panel is on digits",
        ),
        ("  - {name: a}\n  - {name: a}", "8:5: methods[1]: a stands here twice"),
        ("  - {method: {name: fd}}", "7:5: methods[0].name: is missing"),
        (f"  - {{name: {'x' * (NAME_MAX + 1)}}}", "7:12: methods[0].name: should be 1 to 48"),
        ("  - {name: a}\nmesh: {task: {modl: x}}", "8:15: mesh.task.modl: unknown key; did you"),
        ("  - {name: a}\nmesh: {peers: 3}", "8:8: mesh.peers: is set for each run, from `peers`"),
        ("  - {name: a}\ntargets: [75]", "8:11: targets[0]: should be"),
        ("  - {name: a}\nsede: [1]", "8:1: sede: unknown key; did you mean 'seeds'?"),
    ],
)
def test_what_is_wrong_is_named_where_it_stands(tmp_path: Path, text: str, line: str) -> None:
    """The file's line and column, the field as a person finds it there, and what it should be."""
    found = refusal(tmp_path, f"{AXES}methods:\n{text}\n")
    assert any(each.startswith(f"b.yaml:{line}") for each in found), found


def test_a_method_may_name_the_panel_s_peers_and_data(tmp_path: Path) -> None:
    """As where models are mixed: as many peers as the panel has, on what it is on."""
    text = """\
methods:
  - {name: a, task: {data: digits}}
  - {name: b, peers: [{name: c, model: resnet8}, {name: d, data: digits}, e, f]}
"""
    assert len(load(tmp_path, AXES + text).runs) == 2


def test_the_same_mistake_in_many_runs_is_one_line(tmp_path: Path) -> None:
    """A wrong base is named once, where it stands, and not once a run."""
    text = (
        AXES.replace("[1]", "[1, 2]") + "mesh: {task: {model: x}}\nmethods: [{name: a}, {name: b}]"
    )
    assert len(refusal(tmp_path, text)) == 1


@pytest.mark.parametrize(
    ("stated", "line"),
    [
        ("peers: [pi-1]", "peers[0]: should be a whole number, not 'pi-1'"),
        ("peers: []", "peers: should not be empty"),
        ("peers: 3", "peers: should be a list, not 3"),
        ("alpha: [fast]", "alpha[0]: should be a number above 0, or iid, not 'fast'"),
        ("data: [{name: digits, group: g}]", "data[0].group: unknown key; did you mean 'graph'?"),
    ],
)
def test_a_wrong_list_is_one_line(tmp_path: Path, stated: str, line: str) -> None:
    """What is wrong with an item is not said of the list again, and never in pydantic's words."""
    key = stated.partition(":")[0]
    text = re.sub(f"{key}: .*", stated, AXES) + "methods: [{name: a}]\n"
    (found,) = refusal(tmp_path, text)
    assert found.endswith(f": {line}")


def test_too_many_runs_are_a_slip(tmp_path: Path) -> None:
    """A bench of more runs than anybody waits for is refused before they are built."""
    text = AXES.replace("[1]", str(list(range(RUNS_MAX + 1)))) + "methods: [{name: a}]\n"
    assert refusal(tmp_path, text) == [f"b.yaml:1:1: asks for {RUNS_MAX + 1} runs, more than 10000"]
