"""MNIST-like files: found in the known places, read gzipped and raw, refused when damaged."""

import gzip
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tallynode.errors import DataError
from tallynode.learning import idx
from tallynode.learning.data import load_peer_data, prefetch
from tallynode.learning.settings import DataSettings


def _idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def _write(folder: Path, compress: bool) -> None:
    """Write a small set: 60 train and 20 test images of 6 × 5, each filled with its number."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", 60), ("t10k", 20)):
        numbers = np.arange(count)
        images = np.broadcast_to(numbers[:, None, None], (count, 6, 5))
        for name, array in (("images-idx3", images), ("labels-idx1", numbers % 10)):
            file = folder / f"{part}-{name}-ubyte"
            if compress:
                file.with_suffix(".gz").write_bytes(gzip.compress(_idx(array)))
            else:
                file.write_bytes(_idx(array))


def _settings(folder: Path) -> DataSettings:
    return DataSettings(source="mnist", data_dir=folder, probes=20, per_peer=5, share=(2, 4))


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("inside", ["", "MNIST/raw"])
def test_gzipped_and_raw_files_load_alike(tmp_path: Path, compress: bool, inside: str) -> None:
    """Both forms, flat or as torchvision lays them out; probes and private come from train."""
    _write(tmp_path / inside, compress)
    data = load_peer_data(_settings(tmp_path))
    assert data.shape == (1, 6, 5)
    assert len(data.private) == 5
    assert len(data.test) == 20
    numbers = np.rint(data.private.x[:, 0, 0, 0].numpy() * 255).astype(int)
    assert (numbers % 10 == data.private.y.numpy()).all()
    probes = np.rint(data.probes[:, 0, 0, 0].numpy() * 255).astype(int)
    assert not set(numbers) & set(probes)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train-images-idx3-ubyte", b"\0\0\x08\x03", "not an IDX file of bytes in 3 dimensions"),
        ("train-images-idx3-ubyte", b"PNG", "not an IDX file"),
        ("train-labels-idx1-ubyte", _idx(np.zeros(60))[:-1], "59 values where its header"),
        ("train-labels-idx1-ubyte", _idx(np.zeros(59)), "do not belong together"),
        ("train-labels-idx1-ubyte", _idx(np.full(60, 10)), "do not belong together"),
        ("t10k-images-idx3-ubyte.gz", gzip.compress(b"x" * 999)[:-9], "cannot be read"),
        ("t10k-images-idx3-ubyte.gz", b"no gzip", "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    """Truncated, foreign or mismatched files end in one line with their path."""
    _write(tmp_path, compress=False)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_peer_data(_settings(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_a_folder_without_the_files_says_which_and_what_helps(tmp_path: Path) -> None:
    """The error names the folder, the missing file and the remedy."""
    _write(tmp_path, compress=False)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"mnist needs train-labels-idx1-ubyte there; put the four"):
        prefetch(_settings(tmp_path))


@pytest.mark.parametrize("place", ["data/MNIST/raw", "cache/tallynode/MNIST/raw"])
def test_bare_files_are_those_of_one_set(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fashion-MNIST that lies in data_dir is not taken for the MNIST of the probes or of a peer."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _write(tmp_path / "data", compress=False)
    _write(tmp_path / place, compress=False)
    images = tmp_path / place / "train-images-idx3-ubyte"
    images.write_bytes(_idx(np.full((60, 6, 5), 200)))
    settings = replace(_settings(tmp_path / "data"), source="fashion-mnist", probe_source="mnist")
    data = load_peer_data(settings)
    assert float(data.private.x.max()) * 255 < 60
    assert set((data.probes * 255).round().flatten().tolist()) == {200.0}
    own = load_peer_data(replace(settings, source="mnist", bare="fashion-mnist", probe_source=None))
    assert set((own.private.x * 255).round().flatten().tolist()) == {200.0}
    prefetch(settings)


def test_without_a_network_the_remedies_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing found and nothing to download from: Debian's package and data_dir are offered."""
    known = replace(idx.SETS["fashion-mnist"], debian=tmp_path / "none")
    monkeypatch.setitem(idx.SETS, "fashion-mnist", known)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # a closed port: nothing leaves here
    told: list[str] = []
    with pytest.raises(DataError, match=r"apt install dataset-fashion-mnist; .* task.data_dir"):
        load_peer_data(DataSettings(source="fashion-mnist"), told.append)
    assert told[0].startswith("downloading fashion-mnist to ")


@pytest.mark.skipif(
    not (idx.SETS["fashion-mnist"].debian or Path("/none")).is_dir(),
    reason="needs Debian's package dataset-fashion-mnist",
)
def test_debians_package_is_found_by_itself() -> None:
    """Fashion-MNIST needs no setting where Debian's package is installed."""
    settings = DataSettings(source="fashion-mnist", probes=50, per_peer=20, share=(0, 3))
    data = load_peer_data(settings)
    assert data.shape == (1, 28, 28)
    assert data.classes[9] == "Ankle boot"
    assert len(data.test) == 10_000


def test_peers_of_one_process_share_what_is_read(tmp_path: Path) -> None:
    """In there a file is read once and cannot be written to; outside, each time anew."""
    _write(tmp_path, compress=False)
    with idx.reading_once():
        pixels, labels = idx.read(tmp_path, "train")
        again = idx.read(tmp_path, "train")
    assert again[0] is pixels
    assert again[1] is labels
    assert not pixels.flags.writeable
    assert idx.read(tmp_path, "train")[0] is not pixels
