"""topology.yaml: what loads, and the line, column and words of everything that does not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tallynode.config import Mesh, default_mesh, load_mesh, topology_dir
from tallynode.config_yaml import DEPTH_MAX, FILE_BYTES_MAX
from tallynode.errors import EX_CONFIG, ConfigError

ID_A = "TALLY-000G5-40R4C-0M30Z-E209T-185GF-R38EX-1W81A-24GKE"
READY = sorted(path.stem for path in topology_dir().glob("*.yaml"))


def load(tmp_path: Path, text: str | bytes) -> Mesh:
    """Load a mesh from text."""
    path = tmp_path / "t.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_mesh(path)


def refusal(tmp_path: Path, text: str | bytes) -> list[str]:
    """Return the lines with which the text is refused, without the folder."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert caught.value.exit_code == EX_CONFIG
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


def test_ready_meshes_are_the_promised_ones() -> None:
    """The package ships exactly the meshes that its documentation names."""
    assert READY == [
        "bridge-8",
        "complete-5",
        "fashion-10",
        "ring-8",
        "shared-broker",
        "six-pis",
        "small-world-12",
        "torus-16",
    ]


@pytest.mark.parametrize("name", READY)
def test_ready_mesh_loads_and_says_how_to_run(name: str) -> None:
    """Each ready mesh is valid, is named like its file, and says on top how to run it."""
    path = topology_dir() / f"{name}.yaml"
    assert load_mesh(path).mesh == name
    comment = path.read_text().split("\n\n", 1)[0]
    assert comment.startswith("# ")
    assert "tallynode " in comment


@pytest.mark.parametrize("name", READY)
def test_resolved_configuration_loads_to_the_same_mesh(name: str, tmp_path: Path) -> None:
    """What the run folder keeps reproduces the mesh exactly, defaults included."""
    mesh = load_mesh(topology_dir() / f"{name}.yaml")
    assert load(tmp_path, mesh.resolved()) == mesh


@pytest.mark.parametrize("name", ["08", "1e3", "007", "12", "1e-5", "0", "no", "null", "0x1f"])
def test_resolved_names_stay_names(name: str, tmp_path: Path) -> None:
    """What reads as a number, here or in YAML 1.1, is written in quotes, wherever a name stands."""
    text = f"mesh: '{name}'\ndiscovery: '{name}'\npeers: ['{name}', b]\n"
    mesh = load(tmp_path, text + f"graph: {{edges: [['{name}', b]]}}\n")
    assert load(tmp_path, mesh.resolved()) == mesh


def test_resolved_configuration_states_the_defaults(tmp_path: Path) -> None:
    """Durations come back with a unit, and defaults are spelled out."""
    text = load(tmp_path, "mesh: m\npeers: 2\nrounds: {linger: 250ms}\n").resolved()
    assert "linger: 0.25s" in text
    assert "quorum: 0.8" in text


def test_default_mesh_is_eight_peers_on_digits() -> None:
    """Without a file, eight peers on digits with ballots relayed to everyone."""
    mesh = default_mesh()
    assert mesh.names == tuple(f"peer-{i}" for i in range(1, 9))
    assert mesh.task.data == "digits"
    assert mesh.hops == 8


def test_settings_imply_no_torch() -> None:
    """Reading the configuration never imports torch, which costs a second and 200 MB."""
    code = (
        "import sys; from tallynode.config import default_mesh as d; m = d();"
        "m.data_settings(0), m.train_settings(m.peers[0]);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_error_is_reported_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    """One run shows everything that is wrong, each with line, column, field and remedy."""
    text = """\
mesh: Green House
graf: {kind: ring}
peers:
  - {name: pi-1, adress: 10.0.0.1}
  - {port: 70000}
task: {model: lent5, data: fashion-mnst, batch_size: yes}
rounds: {count: -1, quorum: .nan, deadline: {min: 10s, max: 2s}, linger: 5}
rounds: 3
method: {hops: 0, target: soft}
"""
    assert refusal(tmp_path, text) == [
        "t.yaml:1:7: mesh: should be 1 to 32 of a-z, 0-9 and -, not 'Green House'",
        "t.yaml:2:1: graf: unknown key; did you mean 'graph'?",
        "t.yaml:4:18: peers[0].adress: unknown key; did you mean 'address'?",
        "t.yaml:5:5: peers[1].name: is missing",
        "t.yaml:5:12: peers[1].port: should be less than or equal to 65535, not 70000",
        "t.yaml:6:15: task.model: should be 'mlp', 'lenet5' or 'resnet8', not 'lent5'; "
        "did you mean 'lenet5'?",
        "t.yaml:6:28: task.data: should be digits, mnist, fashion-mnist, folder:PATH or "
        "package.module:function, not 'fashion-mnst'; did you mean 'fashion-mnist'?",
        "t.yaml:6:54: task.batch_size: should be a whole number, not 'yes'",
        "t.yaml:7:17: rounds.count: should be greater than or equal to 0, not -1",
        "t.yaml:7:29: rounds.quorum: should be a finite number, not nan",
        "t.yaml:7:61: rounds.deadline.max: should be more than 0s and not less than min",
        "t.yaml:7:74: rounds.linger: should be a duration with its unit (250ms, 2s, 10m, 1h), "
        "not 5",
        "t.yaml:8:1: rounds: this key was already given at line 7, column 1",
        "t.yaml:9:16: method.hops: should be a whole number from 1 to 255, or all, not 0",
        "t.yaml:9:27: method.target: should be 'hard', 'histogram', 'weighed' or 'posterior', "
        "not 'soft'",
    ]


HEAD = "mesh: m\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "t.yaml:1:1: the file should be a mapping"),
        ("- a\n", "t.yaml:1:1: the file should be a mapping"),
        ("peers: 2\n", "t.yaml:1:1: mesh: is missing"),
        ("mesh: 7\npeers: 2\n", "t.yaml:1:7: mesh: should be text, not 7"),
        ("mesh: [a\npeers: 2\n", "t.yaml:2:6: not valid YAML: "),
        ("mesh: a\n\tpeers: 2\n", "t.yaml:2:1: not valid YAML: "),
        ("mesh: \x07\n", "t.yaml:1:7: not valid YAML: a control character"),
        (b"mesh: m\npeers: \xff\n", "t.yaml:2:8: not UTF-8 text"),
        ("mesh: &m a\npeers: 2\n", "t.yaml:1:7: anchors and aliases"),
        ("mesh: a\npeers: *m\n", "t.yaml:2:8: "),
        ("mesh: !!python/name:os.system a\n", "t.yaml:1:7: tags (!) are not used here"),
        ("mesh: a\n---\nmesh: b\n", "t.yaml:2:1: a second document (---) in one file"),
        ("mesh: " + "[" * (DEPTH_MAX + 1), "t.yaml:1:22: nested more than 16 deep"),
        (HEAD + "? [a]\n: 1\npeers: 2\n", "t.yaml:2:3: a key should be a word"),
        (HEAD + "mesh: n\npeers: 2\n", "t.yaml:2:1: mesh: this key was already given at line 1"),
        (HEAD + "peers: 0\n", "t.yaml:2:8: peers: should be 1 to 256 peers, not 0"),
        (HEAD + "peers: 257\n", "t.yaml:2:8: peers: should be 1 to 256 peers, not 257"),
        (HEAD + "peers: []\n", "t.yaml:2:8: peers: should be 1 to 256 peers, not 0"),
        (HEAD + "peers: a\n", "t.yaml:2:8: peers: should be a list of peers, or how many"),
        (HEAD + "peers: true\n", "t.yaml:2:8: peers: should be a list of peers, or how many"),
        (HEAD + "peers: [{name: a, address: 'x:1'}]\n", "t.yaml:2:28: peers[0].address: should be"),
        (HEAD + "peers: [{name: a, address: 1.2.3}]\n", "t.yaml:2:28: peers[0].address: should be"),
        (HEAD + "peers: 2\nlisten: eth0\n", "t.yaml:3:9: listen: should be an IP address of this"),
        (HEAD + "peers: 2\nbroker: moskitto\n", "t.yaml:3:9: broker: should be embedded, mosq"),
        (
            HEAD + "peers: 2\nbroker: mqtts://h\n",
            "t.yaml:3:9: broker: a shared broker is reached without TLS",
        ),
        (HEAD + "peers: 2\nbroker: mqtt://h:99999\n", "t.yaml:3:9: broker: should be embedded"),
        (HEAD + "peers: 2\nbroker: mqtt://u:p@h\n", "t.yaml:3:9: broker: should be embedded"),
        (HEAD + "peers: 2\nseed: -1\n", "t.yaml:3:7: seed: should be greater than or equal to 0"),
        (HEAD + "peers: 2\ngraph: {kind: rng}\n", "t.yaml:3:15: graph.kind: should be 'ring', "),
        (HEAD + "peers: 4\ngraph: {kind: torus, rows: 2}\n", "t.yaml:3:8: graph.cols: is missing"),
        (HEAD + "peers: 4\ngraph: {kind: ring, rows: 2}\n", "t.yaml:3:27: graph.rows: does not"),
        (
            HEAD + "peers: 5\ngraph: {kind: torus, rows: 2, cols: 2}\n",
            "t.yaml:3:8: graph: a torus of 2 × 2 does not hold 5 peers",
        ),
        (
            HEAD + "peers: 5\ngraph: {kind: small-world, degree: 3, rewire: 0.1}\n",
            "t.yaml:3:36: graph.degree: should be even and from 2 to 4 among 5 peers, not 3",
        ),
        (
            HEAD + "peers: 5\ngraph: {kind: small-world, degree: 2, rewire: 1.5}\n",
            "t.yaml:3:47: graph.rewire: should be less than or equal to 1, not 1.5",
        ),
        (
            HEAD + "peers: 5\ngraph: {kind: random-regular, degree: 3}\n",
            "t.yaml:3:39: graph.degree: should be from 2 to 4 among 5 peers, and peers × degree",
        ),
        (
            HEAD + "peers: 3\ngraph: {edges: [[peer-1, pear-2]]}\n",
            "t.yaml:3:26: graph.edges[0][1]: 'pear-2' is not a peer; did you mean 'peer-2'?",
        ),
        (
            HEAD + "peers: 3\ngraph: {edges: [[peer-1, peer-1]]}\n",
            "t.yaml:3:17: graph.edges[0]: joins 'peer-1' to itself",
        ),
        (
            HEAD + "peers: 3\ngraph: {edges: [[peer-1, peer-2], [peer-2, peer-1]]}\n",
            "t.yaml:3:35: graph.edges[1]: is the same edge as graph.edges[0]",
        ),
        (
            HEAD + "peers: 2\nrounds: {quorum: 0}\n",
            "t.yaml:3:18: rounds.quorum: should be greater than 0, not 0",
        ),
        (
            HEAD + "peers: 2\nrounds: {quorum: 1.1}\n",
            "t.yaml:3:18: rounds.quorum: should be less than or equal to 1, not 1.1",
        ),
        (
            HEAD + "peers: 2\nrounds: {linger: 200h}\n",
            "t.yaml:3:18: rounds.linger: should be at most 168h, not 200h",
        ),
        (
            HEAD + "peers: 2\ntask: {probes: {count: 10, per_round: 11}}\n",
            "t.yaml:3:39: task.probes.per_round: should be at most count (10)",
        ),
        (
            HEAD + "peers: 2\nmethod: {name: fd, tally: plurality}\n",
            "t.yaml:3:27: method.tally: means nothing to method fd, only to tally",
        ),
        (
            HEAD + "peers: 2\nmethod: {bits: 4}\n",
            "t.yaml:3:16: method.bits: means nothing to method tally, only to fd",
        ),
        (
            HEAD + "peers: 2\nmethod: {name: fd, bridge: {every: 5}}\n",
            "t.yaml:3:28: method.bridge: means nothing to method fd, only to tally",
        ),
        (
            HEAD + "peers: 2\nmethod: {bridge: {density: 0}}\n",
            "t.yaml:3:28: method.bridge.density: should be greater than 0",
        ),
        (
            HEAD + "peers: 2\nmethod: {bridge: {values: int4}}\n",
            "t.yaml:3:27: method.bridge.values: should be 'int8', 'float16' or 'sign', not 'int4'; "
            "did you mean 'int8'?",
        ),
        (
            HEAD + "peers: 2\nmethod: {bridge: {every: 5}, privacy: {per_vote: 4}}\n",
            "t.yaml:3:18: method.bridge: tells what privacy hides: its noise covers votes and no "
            "parameters",
        ),
        (
            HEAD + "peers: 2\nmethod: {name: fedavg, witness: false}\n",
            "t.yaml:3:33: method.witness: means nothing to method fedavg, only to tally and fd",
        ),
        (
            HEAD + "peers: [a, {name: b, model: resnet8}]\nmethod: {name: fedavg}\n",
            "t.yaml:2:29: peers[1].model: should be mlp, as task.model is: method fedavg averages "
            "models of one kind, not resnet8",
        ),
        (
            HEAD + "peers: 3\ngraph: star\nmethod: {name: cfd, hops: 2}\n",
            "t.yaml:4:27: method.hops: should be 1: on a star cfd's labels go to the hub and from "
            "it, no further",
        ),
        (
            HEAD + "peers: 2\ntask: {data: 'folder:/x'}\nmethod: {name: centralised}\n",
            "t.yaml:3:14: task.data: cannot be pooled by method centralised: only public sets that "
            "a simulation deals out can",
        ),
        (
            HEAD + "peers: 2\nmethod: {name: local, tally: plurality}\n",
            "t.yaml:3:30: method.tally: means nothing to method local, only to tally",
        ),
        (
            HEAD + "peers: 2\nmethod: {select: margin}\n",
            "t.yaml:3:18: method.select: chooses nothing where all probes are voted on: "
            "task.probes.per_round should be a number",
        ),
        (
            HEAD + "peers: 4\ngraph: ring\ntask: {probes: {per_round: 9}}\n"
            "method: {hops: 1, select: margin}\n",
            "t.yaml:5:27: method.select: margin needs a mesh in which every peer hears every other",
        ),
        (
            HEAD + "peers: 2\ntask: {model: lenet5}\n",
            "t.yaml:3:15: task.model: lenet5 needs images of 12 × 12 or more, digits have 8 × 8",
        ),
        (
            HEAD + "peers: [a, {name: b, model: lenet5}]\n",
            "t.yaml:2:29: peers[1].model: lenet5 needs images of 12 × 12 or more",
        ),
        (
            HEAD + "peers: 2\ntask: {momentum: 0.9}\n",
            "t.yaml:3:18: task.momentum: means nothing to adam, only to sgd",
        ),
        (
            HEAD + "peers: 2\nmethod: {name: fd, privacy: {per_vote: 4}}\n",
            "t.yaml:3:29: method.privacy: means nothing to method fd, only to tally",
        ),
        (
            HEAD + "peers: 2\nmethod: {privacy: {per_vote: 4, per_round: 4}}\n",
            "t.yaml:3:19: method.privacy: should state ε once: either per_vote or per_round",
        ),
        (
            HEAD + "peers: 2\nmethod: {privacy: {}}\n",
            "t.yaml:3:19: method.privacy: should state ε once: either per_vote or per_round",
        ),
        (
            HEAD + "peers: 2\nmethod: {privacy: {per_vote: 0}}\n",
            "t.yaml:3:30: method.privacy.per_vote: should be greater than 0",
        ),
        (
            HEAD + "peers: 2\nmethod: {privacy: {per_round: 4, delta: 1}}\n",
            "t.yaml:3:41: method.privacy.delta: should be less than 1",
        ),
        (
            HEAD + "peers: 2\nmethod: {levels: 2, privacy: {per_vote: 4}}\n",
            "t.yaml:3:18: method.levels: should be 1 with privacy: its noise covers classes",
        ),
        (
            HEAD + "peers: 2\nmethod: {levels: 2, sampled_from: 4}\n",
            "t.yaml:3:18: method.levels: should be 1 with sampled_from: a sampled vote says",
        ),
        (
            HEAD + "peers: 2\nmethod: {byzantine: 0, sampled_from: 4}\n",
            "t.yaml:3:21: method.byzantine: guards labels, and where learners vote (sampled_from) "
            "histograms teach",
        ),
        (
            HEAD + "peers: 2\nmethod: {sampled_from: soon}\n",
            "t.yaml:3:24: method.sampled_from: should be a whole number from 1 to 1000000, or auto "
            "or never, not 'soon'",
        ),
        (
            HEAD + "peers: 2\nmethod: {name: fd, sampled_from: 4}\n",
            "t.yaml:3:34: method.sampled_from: means nothing to method fd, only to tally",
        ),
        (
            HEAD + "peers: 2\nrounds: {save_every: 2}\nmethod: {privacy: {per_vote: 4}}\n",
            "t.yaml:3:22: rounds.save_every: should be 1 with method.privacy: a killed peer would",
        ),
        (
            HEAD + "peers: 2\ntask: {data: 'a:b', probes: {data: mnist}}\n",
            "t.yaml:3:36: task.probes.data: means nothing to a:b, which has its own: only to "
            "digits, mnist and fashion-mnist",
        ),
        (
            HEAD + "peers: [a, {name: b, data: 'folder:/x'}]\ntask: {probes: {data: mnist}}\n",
            "t.yaml:3:23: task.probes.data: means nothing to folder:/x, which has its own: only",
        ),
        (
            HEAD + "peers: 2\ntask: {data: 'folder:~nobody-here/x'}\n",
            "t.yaml:3:14: task.data: begins with a home that this machine does not know: "
            "'~nobody-here/x'",
        ),
        (
            HEAD + "peers: 2\ntask: {data_dir: ~nobody-here/x}\n",
            "t.yaml:3:18: task.data_dir: begins with a home that this machine does not know: "
            "'~nobody-here/x'",
        ),
        (HEAD + "peers: 2\ntask: {data: 'folder:'}\n", "t.yaml:3:14: task.data: folder: lacks"),
        (
            HEAD + "peers: 2\ndiscovery: A_b\n",
            "t.yaml:3:12: discovery: should be true, false or a name of 1 to 32 of a-z, 0-9 and -, "
            "not 'A_b'",
        ),
        (
            HEAD + "peers: [a, b]\ngraph: {edges: [[a, b], b]}\n",
            "t.yaml:3:25: graph.edges[1]: should be a pair of peers, such as [a, b], not 'b'",
        ),
        (
            HEAD + "peers: 2\nmethod: {witness: perhaps}\n",
            "t.yaml:3:19: method.witness: should be true or false, not 'perhaps'",
        ),
        (HEAD + "peers: 2\nseed:\n", "t.yaml:3:6: seed: should be a whole number, not nothing"),
        (HEAD + "peers: 2\nrounds: 3\n", "t.yaml:3:9: rounds: should be a mapping (key: value)"),
    ],
)
def test_single_error(text: str | bytes, line: str, tmp_path: Path) -> None:
    """Each kind of mistake is one line that starts with its place and says what to change."""
    lines = refusal(tmp_path, text)
    assert len(lines) == 1
    assert lines[0].startswith(line)


@pytest.mark.parametrize(
    ("peers", "lines"),
    [
        (
            "  - a\n  - b\n  - {name: a}\n",
            [
                "t.yaml:3:5: peers[0].name: 'a' is also the name of peers[2]",
                "t.yaml:5:12: peers[2].name: 'a' is also the name of peers[0]",
            ],
        ),
        (
            "  - {name: a, address: 127.0.0.1}\n  - {name: b, address: 127.0.0.1, port: 1883}\n",
            [
                "t.yaml:3:24: peers[0].address: '127.0.0.1' is also the address of peers[1]",
                "t.yaml:4:24: peers[1].address: '127.0.0.1' is also the address of peers[0]",
            ],
        ),
        (
            f"  - {{name: a, id: {ID_A}}}\n  - {{name: b, id: {ID_A}}}\n",
            [
                f"t.yaml:3:19: peers[0].id: '{ID_A}' is also the id of peers[1]",
                f"t.yaml:4:19: peers[1].id: '{ID_A}' is also the id of peers[0]",
            ],
        ),
    ],
)
def test_duplicates_are_shown_at_both_places(peers: str, lines: list[str], tmp_path: Path) -> None:
    """Two peers of one name, or of one address and port, are named with the lines of both."""
    assert refusal(tmp_path, f"mesh: m\npeers:\n{peers}") == lines


TRUST = "; on a network that you trust, say so with `insecure: lab-network`"


@pytest.mark.parametrize(
    ("setting", "place"),
    [
        ("listen: 0.0.0.0", "t.yaml:4:9: listen: 0.0.0.0"),
        ("broker: mqtt://10.0.0.1", "t.yaml:4:9: broker: 10.0.0.1"),
        ("listen: '::'", "t.yaml:4:9: listen: ::"),
        ("peers: [{name: a, address: pi.local}]", "t.yaml:4:28: peers[0].address: pi.local"),
    ],
)
def test_insecure_loopback_is_held_to_its_word(setting: str, place: str, tmp_path: Path) -> None:
    """What says that it stays on loopback may not name anything else."""
    peers = "" if setting.startswith("peers") else "peers: 2"
    text = f"mesh: m\ninsecure: loopback\n{peers}\n{setting}\n"
    why = f"is not loopback, but the file says `insecure: loopback`{TRUST}"
    assert refusal(tmp_path, text) == [f"{place} {why}"]
    load(tmp_path, text.replace("insecure: loopback", "insecure: lab-network"))


@pytest.mark.parametrize(
    "text",
    [
        "mesh: m\npeers: 2\nbroker: mqtt://10.0.0.1\n",
        f"mesh: m\npeers: [{{name: a, id: {ID_A}}}, b]\nbroker: mqtt://127.0.0.1\n",
    ],
)
def test_a_shared_broker_cannot_hold_what_pins_promise(text: str, tmp_path: Path) -> None:
    """Where peers are pinned, or would have to be, a shared broker is refused unless told so."""
    why = f"broker: a shared broker cannot check peers against their pinned IDs{TRUST}"
    assert refusal(tmp_path, text) == [f"t.yaml:3:9: {why}"]
    load(tmp_path, text + "insecure: lab-network\n")


def test_ids_are_read_as_people_type_them(tmp_path: Path) -> None:
    """Any case, with or without dashes; the mesh holds the canonical text."""
    typed = ID_A.lower().replace("-", " ")
    mesh = load(tmp_path, f"mesh: m\npeers: [{{name: a, id: {typed}}}, b]\n")
    assert [peer.id for peer in mesh.peers] == [ID_A, None]


def test_a_mistyped_id_is_shown_at_its_place_with_its_group(tmp_path: Path) -> None:
    """A wrong check character and a wrong length are both errors at their lines and columns."""
    wrong = ID_A[:-1] + "Z"
    text = f"mesh: m\npeers:\n  - {{name: a, id: {wrong}}}\n  - {{name: b, id: TALLY-12}}\n"
    assert refusal(tmp_path, text) == [
        "t.yaml:3:19: peers[0].id: group 8 (24GKZ): does not match its check character, so it is "
        "mistyped",
        "t.yaml:4:19: peers[1].id: should be TALLY and 8 groups of 5 characters, as `tallynode id` "
        "prints it, not 7 characters",
    ]


def test_absent_and_oversized_files_are_named(tmp_path: Path) -> None:
    """A file that is not there, is a folder, or cannot be a topology is named."""
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read: No such file"):
        load_mesh(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_mesh(tmp_path)
    lines = refusal(tmp_path, "#" * (FILE_BYTES_MAX + 1))
    assert lines == [f"t.yaml: larger than {FILE_BYTES_MAX} bytes: not a topology file"]


def test_an_epoch_is_part_of_what_peers_call_their_mesh(tmp_path: Path) -> None:
    """The first is not said, so that it changes nothing; each later one makes another mesh."""
    assert load(tmp_path, "mesh: m\npeers: 2\nepoch: 0").called == "m"
    assert load(tmp_path, "mesh: m\npeers: 2\nepoch: 12").called == "m#12"
    long = f"mesh: {'m' * 31}\npeers: 2\nepoch: 1"
    why = f"should be shorter: {'m' * 31}#1 has more than 32 characters"
    assert refusal(tmp_path, long) == [f"t.yaml:1:7: mesh: {why}"]


def test_plain_words_keep_their_meaning(tmp_path: Path) -> None:
    """Peers may be named `no`, 1e-3 is a number, 010 is ten, and yes and no are still answers."""
    text = "mesh: m\ndiscovery: no\npeers: [no, on, 'null']\nseed: 010\ntask: {learning_rate: 1e-3}"
    mesh = load(tmp_path, text)
    assert mesh.names == ("no", "on", "null")
    assert (mesh.discovery, mesh.seed, mesh.task.learning_rate) == (False, 10, 1e-3)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("2s", 2.0), ("1.5m", 90.0), ("10m", 600.0), ("1h", 3600.0), ("0s", 0.0)],
)
def test_durations_are_seconds(text: str, seconds: float, tmp_path: Path) -> None:
    """A duration is read with its unit."""
    mesh = load(tmp_path, f"mesh: m\npeers: 2\nrounds: {{linger: {text}}}\n")
    assert mesh.rounds.linger == seconds


def test_graph_shorthands(tmp_path: Path) -> None:
    """`graph: star` is a kind alone, and edges alone are a custom graph."""
    assert load(tmp_path, "mesh: m\npeers: 3\ngraph: star\n").graph.kind == "star"
    graph = load(tmp_path, "mesh: m\npeers: [a, b]\ngraph: {edges: [[a, b]]}\n").graph
    assert graph.kind == "custom"
    assert graph.parameters() == {"edges": (("a", "b"),)}


def test_folders_are_relative_to_the_file(tmp_path: Path) -> None:
    """Data folders mean the same from every working directory."""
    text = "mesh: m\npeers: [{name: a, data: 'folder:mine'}]\ntask: {data_dir: sets}\n"
    settings = load(tmp_path, text).data_settings(0)
    assert settings.source == f"folder:{tmp_path}/mine"
    assert settings.data_dir == tmp_path / "sets"
    assert settings.share is None


def test_the_folder_of_data_is_of_the_task_s_set(tmp_path: Path) -> None:
    """A peer that brings another set does not take the task's files for it."""
    text = "mesh: m\npeers: [{name: a, data: mnist}]\ntask: {data: fashion-mnist, data_dir: x}\n"
    settings = load(tmp_path, text).data_settings(0)
    assert (settings.source, settings.bare) == ("mnist", "fashion-mnist")


def test_a_simulated_peer_gets_its_share(tmp_path: Path) -> None:
    """A public data set is dealt out with the mesh's seed, a share a peer."""
    mesh = load(tmp_path, "mesh: m\npeers: 4\nseed: 3\ntask: {partition: {dirichlet: 0.1}}\n")
    settings = mesh.data_settings(2)
    assert (settings.share, settings.partition_seed, settings.dirichlet) == ((2, 4), 3, 0.1)


def test_a_limit_on_the_test_samples_reaches_the_data(tmp_path: Path) -> None:
    """`task.test` bounds the test samples; without it, all that the source has count."""
    assert load(tmp_path, "mesh: m\npeers: 2\ntask: {test: 40}\n").data_settings(0).test == 40
    assert load(tmp_path, "mesh: m\npeers: 2\n").data_settings(0).test is None


def test_a_peer_may_have_its_own_model(tmp_path: Path) -> None:
    """Models may differ between peers; everything else comes from the mesh."""
    mesh = load(
        tmp_path,
        "mesh: m\npeers: [{name: a, model: resnet8}, b]\n"
        "rounds: {local_steps: 4}\nmethod: {target: histogram, witness: false}\n",
    )
    first, second = (mesh.train_settings(peer) for peer in mesh.peers)
    assert (first.model, second.model) == ("resnet8", "mlp")
    assert (first.local_steps, first.target, first.witness) == (4, "histogram", False)


def test_peers_are_found_by_name_and_by_host(tmp_path: Path) -> None:
    """A host finds its peer with or without its domain; otherwise the names are listed."""
    mesh = load(tmp_path, "mesh: m\npeers: [pi-1, pi-2]\n")
    assert mesh.peer("pi-2").name == "pi-2"
    assert mesh.peer_for_host("Pi-1.local").name == "pi-1"
    with pytest.raises(ConfigError, match=r"no peer 'pi-3'; did you mean .* pi-1, pi-2"):
        mesh.peer("pi-3")
    with pytest.raises(ConfigError, match=r"\('laptop'\): choose one with --peer: pi-1, pi-2"):
        mesh.peer_for_host("laptop")


@pytest.mark.parametrize(
    ("broker", "address"),
    [
        ("embedded", None),
        ("mqtt://localhost", ("localhost", 1883)),
        ("mqtt://127.0.0.1:1884", ("127.0.0.1", 1884)),
        ("mqtt://[::1]:1884", ("::1", 1884)),
    ],
)
def test_shared_broker_address(
    broker: str, address: tuple[str, int] | None, tmp_path: Path
) -> None:
    """A shared broker is a host and a port, MQTT's where none is given."""
    mesh = load(tmp_path, f"mesh: m\npeers: 2\nbroker: {broker}\n")
    assert mesh.shared_broker == address


def test_discovery_may_keep_to_a_realm(tmp_path: Path) -> None:
    """mDNS answers to the mesh's name, to a realm of its own, or not at all."""
    realms = [
        load(tmp_path, f"mesh: m\ndiscovery: {word}\npeers: 2\n").realm
        for word in ("true", "m-run-7", "no")
    ]
    assert realms == ["m", "m-run-7", None]


def test_the_service_is_given_time_to_end_a_round() -> None:
    """Systemd kills no peer in a round that its neighbours would still wait for."""
    unit = (Path(__file__).parents[1] / "systemd" / "tallynode@.service").read_text()
    found = re.search(r"^TimeoutStopSec=(\d+)min$", unit, re.MULTILINE)
    assert found
    assert int(found[1]) * 60 > default_mesh().rounds.deadline.max
