"""A peer's own images in folders.

    PATH/private/<class>/*.png|jpg    what only this peer has
    PATH/probes/*.png|jpg             what every peer has, unlabelled, the same files everywhere
    PATH/test/<class>/*.png|jpg       optional; else a seeded tenth of the private ones is held out
    PATH/classes.txt                  optional; one class a line, the same list on every peer: one
                                      that lacks a class still agrees on what the votes mean

All images take the size that the settings state, else that of the first probe, and are grey or
coloured as the first probe is. Probes are ordered by file name. An image that lies in two of the
three parts, or under two classes, is refused: the parts must be disjoint.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from tallynode.errors import DataError
from tallynode.learning.samples import PeerData, Samples, to_images
from tallynode.learning.settings import DataSettings

SUFFIXES = (".png", ".jpg", ".jpeg")
GREY_MODES = ("1", "L", "LA")
HELD_OUT = 10  # one private image in so many measures, where there is no test folder
VALUES_MAX = 1 << 30  # values of one part, 4 GiB of float32; bounds what a wrong size would ask for


@dataclass(frozen=True, slots=True)
class _Format:
    """What every image is turned into."""

    width: int
    height: int
    mode: str  # L | RGB


@dataclass(frozen=True, slots=True)
class _Labelled:
    paths: list[Path]
    labels: list[int]


def load(settings: DataSettings, progress: Callable[[str], None]) -> PeerData:
    """Load the folder that `settings.source` (folder:PATH) names.

    Raises:
        DataError: names the file or folder that is missing, unreadable or in two parts.
    """
    root = _root(settings)
    with _readable(root):
        return _load(root, settings, progress)


def fingerprint(settings: DataSettings) -> bytes:
    """What changes when images are added to private/, removed or replaced there.

    Raises:
        DataError: names the folder that cannot be read.
    """
    private = _root(settings) / "private"
    with _readable(private):
        folders = _folders(private) if private.is_dir() else []
        stats = [(str(path), *_seen(path)) for folder in folders for path in _images(folder)]
    return hashlib.blake2b(repr(stats).encode(), digest_size=16).digest()


def _root(settings: DataSettings) -> Path:
    return Path(settings.source.removeprefix("folder:")).expanduser()


@contextmanager
def _readable(root: Path) -> Iterator[None]:
    """Turn what the operating system refuses below `root` into a line that names it."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be read: {error.strerror}") from error


def _load(root: Path, settings: DataSettings, progress: Callable[[str], None]) -> PeerData:
    for needed in (root, root / "private", root / "probes"):
        if not needed.is_dir():
            raise DataError(f"{needed}: no such folder; {root} needs private/<class>/ and probes/")
    classes = _classes(root)
    probes = _images(root / "probes")
    if not probes:
        raise DataError(f"{root / 'probes'}: no PNG or JPEG images")
    seen = {_digest(path): path for path in probes}
    private = _labelled(root / "private", classes, seen, progress)
    if (root / "test").is_dir():
        test = _labelled(root / "test", classes, seen, progress)
    else:
        private, test = _held_out(private, settings.partition_seed, root)
    progress(f"reading {len(private.paths) + len(test.paths) + len(probes)} images from {root}")
    shape = _format(probes[0], settings.image_size)
    return PeerData(
        classes=classes,
        private=Samples(_pixels(private.paths, shape), torch.tensor(private.labels)),
        probes=_pixels(probes, shape),
        test=Samples(_pixels(test.paths, shape), torch.tensor(test.labels)),
    )


def _classes(root: Path) -> tuple[str, ...]:
    """Return the class names of classes.txt, else the sorted folders under private/."""
    listed = root / "classes.txt"
    found = [path.name for path in _folders(root / "private")]
    if not listed.is_file():
        if len(found) < 2:
            raise DataError(f"{root / 'private'}: {len(found)} class folders, two are needed")
        return tuple(found)
    try:
        lines = [line.strip() for line in listed.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{listed}: cannot be read: {error}") from error
    names = [line for line in lines if line]
    if len(names) < 2 or len(set(names)) != len(names):
        raise DataError(f"{listed}: needs two or more class names, each once")
    return tuple(names)


def _folders(folder: Path) -> list[Path]:
    """Return the class folders in `folder`, by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _images(folder: Path) -> list[Path]:
    """Return the images directly in `folder`, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _labelled(
    folder: Path, classes: tuple[str, ...], seen: dict[bytes, Path], progress: Callable[[str], None]
) -> _Labelled:
    """List `folder`/<class>/ images; `seen` holds the digests of all parts and grows."""
    paths: list[Path] = []
    labels: list[int] = []
    for sub in _folders(folder):
        if sub.name not in classes:
            raise DataError(f"{sub}: class {sub.name!r} is not in the list {', '.join(classes)}")
        for path in _images(sub):
            earlier = seen.setdefault(_digest(path), path)
            if earlier is path:
                paths.append(path)
                labels.append(classes.index(sub.name))
            elif earlier.parent == sub:
                progress(f"{path}: the same image as {earlier.name}, left out")
            else:
                raise DataError(f"{path}: the same image as {earlier}; parts must be disjoint")
    if not paths:
        raise DataError(f"{folder}: no PNG or JPEG images in class folders")
    return _Labelled(paths, labels)


def _held_out(private: _Labelled, seed: int, root: Path) -> tuple[_Labelled, _Labelled]:
    """Split a seeded tenth, at least one image, off as test.

    An image's own digest decides, so that one that was trained on never becomes a test image when
    more are added later.
    """
    count = len(private.paths)
    if count < 2:
        raise DataError(f"{root / 'private'}: one image leaves none to test; add {root / 'test'}")
    salt = seed.to_bytes(8)
    draws = [
        int.from_bytes(hashlib.blake2b(_digest(path), digest_size=8, salt=salt).digest())
        for path in private.paths
    ]
    limit = max(min(draws), (1 << 64) // HELD_OUT)
    parts: tuple[list[int], list[int]] = ([], [])
    for i, draw in enumerate(draws):
        parts[draw <= limit].append(i)
    rest, test = (
        _Labelled([private.paths[i] for i in part], [private.labels[i] for i in part])
        for part in parts
    )
    if not rest.paths:
        raise DataError(
            f"{root / 'private'}: too few images to set some aside; add {root / 'test'}"
        )
    return rest, test


def _seen(path: Path) -> tuple[int, int]:
    """Return the time and size of an image, of the link itself where it leads nowhere."""
    try:
        stat = path.stat()
    except OSError:
        stat = path.lstat()
    return stat.st_mtime_ns, stat.st_size


def _digest(path: Path) -> bytes:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be decoded: {error}") from error
    return _eight_bits(image, path)


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """The same image at 8 bits a value: Pillow itself would turn all above 255 white."""
    # Mode I has 32 bits and no agreed white, but an older Pillow reads a PNG of 16 bits as it.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        why = "has 32 bits a pixel, and nothing says which value is white: make it 8 or 16 bits"
        raise DataError(f"{path}: {why}")
    return image


def _format(first: Path, size: tuple[int, int] | None) -> _Format:
    """Take size (height, width) from the settings or the first probe, grey or colour from it."""
    image = _open(first)
    height, width = size if size is not None else (image.height, image.width)
    return _Format(width, height, "L" if image.mode in GREY_MODES else "RGB")


def _pixels(paths: list[Path], shape: _Format) -> Tensor:
    """Decode images of one shape: (n, ch, h, w) float32 in [0, 1]."""
    channels = 1 if shape.mode == "L" else 3
    if len(paths) * shape.width * shape.height * channels > VALUES_MAX:
        raise DataError(
            f"{paths[0].parent}: {len(paths)} images of {shape.width} × {shape.height} do not fit;"
            " make the probes smaller: every image takes the size of the first of them"
        )
    pixels = np.empty((len(paths), shape.height, shape.width, channels), dtype=np.uint8)
    for row, path in zip(pixels, paths, strict=True):
        image = _open(path).convert(shape.mode)
        if image.size != (shape.width, shape.height):
            image = image.resize((shape.width, shape.height), Image.Resampling.BOX)
        row[:] = np.asarray(image).reshape(row.shape)
    return to_images(pixels, 255)
