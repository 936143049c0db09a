"""Loading by source name: the bundled digits, a deal, a peer's own function."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tallynode.errors import DataError, IoError
from tallynode.learning.data import PeerData, load_peer_data
from tallynode.learning.digest import DIGEST_BYTES, probe_digest
from tallynode.learning.settings import DataSettings

DIGITS = DataSettings(source="digits", probes=500, per_peer=125, dirichlet=0.1)


def _rows(x: torch.Tensor) -> list[bytes]:
    return [row.numpy().tobytes() for row in x]


@pytest.fixture(scope="module")
def mesh() -> list[PeerData]:
    """Eight peers' parts of the digits."""
    return [load_peer_data(replace(DIGITS, share=(index, 8))) for index in range(8)]


def test_digits_have_the_sizes_that_the_settings_ask_for(mesh: list[PeerData]) -> None:
    """Eight peers of 125, 500 probes and the 297 samples left over to test."""
    for data in mesh:
        assert data.private.x.shape == (125, 1, 8, 8)
        assert data.probes.shape == (500, 1, 8, 8)
        assert len(data.test) == 297
        assert data.shape == (1, 8, 8)
        assert 0 <= float(data.probes.min()) < float(data.probes.max()) == 1


def test_digits_are_dealt_disjoint(mesh: list[PeerData]) -> None:
    """No image is in two of: the parts of the peers, the probes, the test samples."""
    parts = [data.private.x for data in mesh] + [mesh[0].probes, mesh[0].test.x]
    rows = [row for part in parts for row in _rows(part)]
    assert len(rows) == len(set(rows)) == 1797


def test_all_peers_hold_the_same_probes_and_test(mesh: list[PeerData]) -> None:
    """Votes are comparable: probes, classes and their digest agree across peers."""
    digests = {probe_digest(data.probes, data.classes) for data in mesh}
    assert len(digests) == 1
    assert all(torch.equal(data.test.x, mesh[0].test.x) for data in mesh)


def test_a_digit_keeps_its_label(mesh: list[PeerData]) -> None:
    """Images and labels are dealt together: nearest class means find most labels again."""
    train, test = mesh[0], mesh[1].test
    x, y = train.probes.flatten(1), train.probe_labels
    assert y is not None
    means = torch.stack([x[y == c].mean(dim=0) for c in range(10)])
    found = torch.cdist(test.x.flatten(1), means).argmin(dim=1)
    assert float((found == test.y).float().mean()) > 0.8


def test_without_a_share_one_peer_has_the_whole_pool() -> None:
    """A real peer on a public set gets everything beside probes and test."""
    data = load_peer_data(DataSettings(source="digits", probes=100))
    assert len(data.private) == 1797 - 100 - 297


def test_fewer_test_samples_are_the_same_for_every_deal() -> None:
    """A limit on the test samples draws the same ones whatever the partition is."""
    some = [
        load_peer_data(replace(DIGITS, test=40, share=(1, 8), dirichlet=alpha)).test
        for alpha in (0.1, None)
    ]
    assert len(some[0]) == 40
    assert torch.equal(some[0].x, some[1].x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "digit"}, "unknown source 'digit', known are digits, mnist"),
        ({"per_peer": 1000, "share": (0, 8)}, "has 1500 samples .* not 500 probes and 8 × 1000"),
        ({"probes": 1600, "per_peer": None}, "has 1500 samples"),
        ({"probes": 0}, "has 1500 samples"),
        ({"share": (8, 8)}, "share 8 of 8"),
        ({"test": 0}, "test must be 1 or more"),
        ({"source": "no.such.module:load"}, "cannot import 'no.such.module'"),
        ({"source": "math:nothing"}, "math has no function 'nothing'"),
        ({"source": "platform:node"}, "returned str, not PeerData"),
        ({"source": ":load"}, "cannot import ''"),
    ],
)
def test_what_cannot_be_loaded_is_named(change: dict[str, object], message: str) -> None:
    """Each wrong setting ends in one line that says what is wrong."""
    with pytest.raises(DataError, match=message):
        load_peer_data(replace(DIGITS, **change))  # type: ignore[arg-type]


def test_the_example_of_a_function_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped example works by the name that its docstring gives, from the project's folder."""
    monkeypatch.chdir(Path(__file__).parents[2])
    data = load_peer_data(DataSettings(source="examples.own_data:load"))
    assert data.classes == ("rising", "falling")
    assert data.probes.shape == (200, 1, 8, 8)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("probes=torch.zeros(3, 8, 8)", "probes must be a float32 tensor"),
        ("probes=torch.zeros(0, 1, 8, 8)", "probes is empty"),
        ("probes=torch.full((3, 1, 8, 8), float('nan'))", "probes contains NaN"),
        ("probes=torch.zeros(3, 1, 9, 9)", r"private.x has images \(1, 8, 8\), probes \(1, 9, 9\)"),
        ("test=Samples(GOOD.x, GOOD.y + 1)", "test.y has labels outside 0 to 1"),
        ("test=Samples(GOOD.x, GOOD.y[:1])", "test.y must be an int64 tensor of 2 labels"),
        ("probe_labels=torch.zeros(2)", "probe_labels must be an int64 tensor of 3"),
        ("classes=('a', 'a')", "class names must be given and differ"),
    ],
)
def test_a_function_that_returns_nonsense_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, message: str
) -> None:
    """A user's PeerData is checked part by part; the error names the function and the part."""
    name = f"own_{abs(hash(broken))}"
    (tmp_path / f"{name}.py").write_text(
        "import torch\n"
        "from tallynode.learning.data import PeerData, Samples\n"
        "GOOD = Samples(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]))\n"
        "def load():\n"
        "    parts = dict(classes=('a', 'b'), private=GOOD, test=GOOD,"
        " probes=torch.zeros(3, 1, 8, 8))\n"
        f"    return PeerData(**(parts | dict({broken})))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=f"{name}:load: {message}"):
        load_peer_data(DataSettings(source=f"{name}:load"))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def load(): return {}[3]", r"load failed: KeyError: 3 \(.*own_.*\.py:1\)"),
        ("raise RuntimeError('no camera')", r"cannot import .*: RuntimeError: no camera \(.*:1\)"),
        ("def load(: pass", r"cannot import .*: SyntaxError: [^<]*$"),
        ("def load(): raise ValueError('a\\nb')", r"load failed: ValueError: a b \(.*:1\)"),
    ],
)
def test_a_function_that_raises_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    """Whatever a user's module raises is one line that names it, the error and the place."""
    name = f"own_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=f"data: {name}:") as raised:
        load_peer_data(DataSettings(source=f"{name}:load"))
    assert re.search(message, str(raised.value))
    assert raised.value.__cause__ is not None


def test_what_is_ours_to_say_is_said_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function that refuses in words of ours, or loads by them, keeps these and the exit code."""
    code = "from tallynode.errors import IoError\ndef load(): raise IoError('the camera is off')\n"
    (tmp_path / "own_camera.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(IoError, match=r"^the camera is off$"):
        load_peer_data(DataSettings(source="own_camera:load"))


def test_the_digest_sees_values_order_shape_and_classes() -> None:
    """Any difference that would change what a vote means changes the eight bytes."""
    probes = torch.arange(32, dtype=torch.float32).reshape(2, 1, 4, 4)
    other = [
        probe_digest(probes.flip(0), ["a", "b"]),
        probe_digest(torch.nextafter(probes, probes + 1), ["a", "b"]),
        probe_digest(probes.reshape(2, 1, 2, 8), ["a", "b"]),
        probe_digest(probes, ["b", "a"]),
        probe_digest(probes, ["ab"]),
    ]
    own = probe_digest(probes, ["a", "b"])
    assert own == probe_digest(probes.clone(), ("a", "b"))
    assert len(own) == DIGEST_BYTES
    assert len({own, *other}) == 1 + len(other)


def test_the_digest_of_known_probes_never_changes() -> None:
    """Golden value: a change here splits meshes of different versions."""
    probes = torch.from_numpy(np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2))
    assert probe_digest(probes, ("zero", "one")).hex() == "fb2abfe30f19ad81"
