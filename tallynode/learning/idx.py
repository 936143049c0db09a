"""MNIST and Fashion-MNIST from their IDX files, gzipped or raw.

They are looked for in the folder that the settings name, else where Debian's package puts them,
else in the user's cache, where torchvision downloads them. Reading them takes these few lines;
torchvision's reader would cost each peer a second and 84 MB.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import numpy as np
import platformdirs

from tallynode.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class IdxSet:
    """What is known of one data set before it is read."""

    torchvision: str  # class name in torchvision.datasets, and folder name there
    classes: tuple[str, ...]
    debian: Path | None  # where Debian's package puts it
    remedy: str


SETS = {
    "mnist": IdxSet(
        torchvision="MNIST",
        classes=tuple(str(digit) for digit in range(10)),
        debian=None,
        remedy="put the four IDX files (gzipped or raw) into a folder and name it in task.data_dir",
    ),
    "fashion-mnist": IdxSet(
        torchvision="FashionMNIST",
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        debian=Path("/usr/share/datasets/fashion-mnist"),
        remedy="on Debian: apt install dataset-fashion-mnist; elsewhere put the four IDX files"
        " (gzipped or raw) into a folder and name it in task.data_dir",
    ),
}
FILES = tuple(
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)
VALUES_MAX = 1 << 28  # values in one file; MNIST's images have 47 million


def find(name: str, data_dir: Path | None, progress: Callable[[str], None]) -> Path:
    """Return the folder that holds the four files of the set, downloading them if need be.

    Raises:
        DataError: they are in no known place and cannot be downloaded; says what would help.
    """
    known = SETS[name]
    inside = Path(known.torchvision) / "raw"
    cache = platformdirs.user_cache_path("tallynode")
    roots = [data_dir] if data_dir else [root for root in (known.debian, cache) if root]
    for root in roots:
        for folder in (root, root / inside):
            if all(_file(folder, file) for file in FILES):
                return folder
    if data_dir:
        missing = [file for file in FILES if not _file(data_dir, file)]
        raise DataError(f"{data_dir}: {name} needs {', '.join(missing)} there; {known.remedy}")
    progress(f"downloading {name} to {cache / inside}")
    _download(known, cache, name)
    return cache / inside


Part = tuple[np.ndarray, np.ndarray]  # (n, h, w) uint8 pixels, (n,) int64 labels

_kept: dict[tuple[Path, str], Part] | None = None  # None: a daemon reads once, and lets go


@contextmanager
def reading_once() -> Iterator[None]:
    """Keep in here what was read: the peers of a virtual mesh share a process, and the files."""
    global _kept
    before, _kept = _kept, {}
    try:
        yield
    finally:
        _kept = before


def read(folder: Path, part: str) -> Part:
    """Read one part, train or t10k; what comes may be shared and is not to be written to."""
    if _kept is None:
        return _read(folder, part)
    if (folder, part) not in _kept:
        _kept[folder, part] = _read(folder, part)
    return _kept[folder, part]


def _read(folder: Path, part: str) -> Part:
    pixels = _array(folder, f"{part}-images-idx3-ubyte", 3)
    labels = _array(folder, f"{part}-labels-idx1-ubyte", 1)
    if len(pixels) != len(labels) or labels.max(initial=0) > 9:
        raise DataError(f"{folder}: {part} images and labels do not belong together")
    return pixels, labels.astype(np.int64)


def _file(folder: Path, name: str) -> Path | None:
    return next((f for f in (folder / f"{name}.gz", folder / name) if f.is_file()), None)


def _array(folder: Path, name: str, dimensions: int) -> np.ndarray:
    """Read one IDX file of bytes: magic 0, 0, 8, dimensions; big-endian sizes; values."""
    path = _file(folder, name)
    if path is None:
        raise DataError(f"{folder / name}: not found, gzipped or raw")
    header = 4 + 4 * dimensions
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(header + VALUES_MAX)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if content[:4] != bytes((0, 0, 8, dimensions)) or len(content) < header:
        raise DataError(f"{path}: not an IDX file of bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if math.prod(shape) != len(content) - header:
        raise DataError(f"{path}: {len(content) - header} values where its header says {shape}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _download(known: IdxSet, cache: Path, name: str) -> None:
    """Let torchvision download into the cache; it shows a bar and checks each file's checksum."""
    from tallynode.learning.torchvision_cure import import_torchvision  # costs a second and 84 MB

    data_set = getattr(import_torchvision().datasets, known.torchvision)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        data_set(cache, download=True)
    except (OSError, URLError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise DataError(f"{name}: cannot be downloaded ({reason}); {known.remedy}") from error
