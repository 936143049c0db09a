"""A peer's own images in folders.

    PATH/private/<class>/*.png|jpg    what only this peer has
    PATH/probes/*.png|jpg             what every peer has, unlabelled, the same files everywhere
    PATH/test/<class>/*.png|jpg       optional; else a seeded tenth of the private ones is held out
    PATH/classes.txt                  optional; one class a line, the same list on every peer: one
                                      that lacks a class still agrees on what the votes mean

All images take the size that the settings state, else that of the first probe, and are grey or
coloured as the first probe is. Probes are ordered by file name. An image that lies in two of the
three parts, or under two classes, is refused: the parts must be disjoint. A private image that
cannot be decoded is left out; a probe or a test image is not, since others have the same.
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
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
LEFT_BY_TOOLS = (".", "@", "__MACOSX")  # how names begin: thumbnails, notebooks' copies, archives
GREY_MODES = ("1", "L", "LA")
HELD_OUT = 10  # one private image in so many measures, where there is no test folder
VALUES_MAX = 1 << 30  # values of one part, 4 GiB of float32; bounds what a wrong size would ask for


@dataclass(frozen=True, slots=True)
class _Format:
    """What every image is turned into."""

    width: int
    height: int
    mode: str  # L | RGB

    @property
    def channels(self) -> int:
        return 1 if self.mode == "L" else 3


@dataclass(frozen=True, slots=True)
class _Picture:
    path: Path
    digest: bytes  # of the file
    pixels: np.ndarray  # (height, width, channels) uint8
    label: int = -1  # of a class, where it has one


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
    private = _labelled(root / "private", classes)
    test = _labelled(root / "test", classes) if (root / "test").is_dir() else {}
    progress(f"reading {len(private) + len(test) + len(probes)} images from {root}")
    shape = _format(probes[0], settings.image_size)
    for paths in (probes, list(private), list(test)):
        _check_fits(paths, shape)
    shown = [_picture(path, shape) for path in probes]
    seen = {picture.digest: picture.path for picture in shown}
    own = _apart(_whole(private, shape, progress), seen, progress)
    if not own:
        raise DataError(f"{root / 'private'}: none of its {len(private)} images can be decoded")
    if test:
        measuring = [_picture(path, shape, label) for path, label in test.items()]
        measuring = _apart(measuring, seen, progress)
    else:
        own, measuring = _held_out(own, settings.partition_seed, root)
    return PeerData(
        classes=classes, private=_samples(own), probes=_tensor(shown), test=_samples(measuring)
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
    if any(name.startswith(LEFT_BY_TOOLS) for name in names):
        raise DataError(
            f"{listed}: folders that begin with {' or '.join(LEFT_BY_TOOLS)} are no class"
        )
    return tuple(names)


def _folders(folder: Path) -> list[Path]:
    """Return the class folders in `folder`, by name."""
    return [path for path in _entries(folder) if path.is_dir()]


def _images(folder: Path) -> list[Path]:
    """Return the images directly in `folder`, by name."""
    return [path for path in _entries(folder) if path.suffix.lower() in SUFFIXES]


def _entries(folder: Path) -> list[Path]:
    """Return what a person has put into `folder`, by name."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(LEFT_BY_TOOLS))


def _labelled(folder: Path, classes: tuple[str, ...]) -> dict[Path, int]:
    """Return the images in `folder`/<class>/ with the labels of their classes."""
    labels: dict[Path, int] = {}
    for sub in _folders(folder):
        if sub.name not in classes:
            raise DataError(f"{sub}: class {sub.name!r} is not in the list {', '.join(classes)}")
        labels.update(dict.fromkeys(_images(sub), classes.index(sub.name)))
    if not labels:
        raise DataError(f"{folder}: no PNG or JPEG images in class folders")
    return labels


def _whole(
    labels: dict[Path, int], shape: _Format, progress: Callable[[str], None]
) -> Iterator[_Picture]:
    """Decode images, and leave out and tell what a camera or a disk has spoilt."""
    for path, label in labels.items():
        try:
            picture = _picture(path, shape, label)
        except DataError as error:
            progress(f"{error}, left out")
        else:
            yield picture


def _apart(
    pictures: Iterable[_Picture], seen: dict[bytes, Path], progress: Callable[[str], None]
) -> list[_Picture]:
    """Leave copies out; `seen` holds the digests of all parts and grows."""
    kept = []
    for picture in pictures:
        path = picture.path
        earlier = seen.setdefault(picture.digest, path)
        if earlier is path:
            kept.append(picture)
        elif earlier.parent == path.parent:
            progress(f"{path}: the same image as {earlier.name}, left out")
        else:
            raise DataError(f"{path}: the same image as {earlier}; parts must be disjoint")
    return kept


def _held_out(
    private: list[_Picture], seed: int, root: Path
) -> tuple[list[_Picture], list[_Picture]]:
    """Split a seeded tenth, at least one image, off as test.

    An image's own digest decides, so that one that was trained on never becomes a test image when
    more are added later.
    """
    if len(private) < 2:
        raise DataError(f"{root / 'private'}: one image leaves none to test; add {root / 'test'}")
    salt = seed.to_bytes(8)
    draws = [
        int.from_bytes(hashlib.blake2b(picture.digest, digest_size=8, salt=salt).digest())
        for picture in private
    ]
    limit = max(min(draws), (1 << 64) // HELD_OUT)
    parts: tuple[list[_Picture], list[_Picture]] = ([], [])
    for picture, draw in zip(private, draws, strict=True):
        parts[draw <= limit].append(picture)
    if not parts[0]:
        raise DataError(
            f"{root / 'private'}: too few images to set some aside; add {root / 'test'}"
        )
    return parts


def _seen(path: Path) -> tuple[int, int]:
    """Return the time and size of an image, of the link itself where it leads nowhere."""
    try:
        stat = path.stat()
    except OSError:
        stat = path.lstat()
    return stat.st_mtime_ns, stat.st_size


def _bytes(path: Path) -> bytes:
    with _readable(path):
        return path.read_bytes()


def _decoded(raw: bytes, path: Path) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(raw))
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
    image = _decoded(_bytes(first), first)
    height, width = size if size is not None else (image.height, image.width)
    return _Format(width, height, "L" if image.mode in GREY_MODES else "RGB")


def _check_fits(paths: list[Path], shape: _Format) -> None:
    """Refuse more than memory should hold, before any is asked for."""
    if len(paths) * shape.width * shape.height * shape.channels > VALUES_MAX:
        raise DataError(
            f"{paths[0].parent}: {len(paths)} images of {shape.width} × {shape.height} do not fit;"
            " make the probes smaller: every image takes the size of the first of them"
        )


def _picture(path: Path, shape: _Format, label: int = -1) -> _Picture:
    raw = _bytes(path)
    image = _decoded(raw, path).convert(shape.mode)
    if image.size != (shape.width, shape.height):
        image = image.resize((shape.width, shape.height), Image.Resampling.BOX)
    pixels = np.asarray(image).reshape(shape.height, shape.width, shape.channels)
    return _Picture(path, hashlib.blake2b(raw, digest_size=16).digest(), pixels, label)


def _tensor(pictures: list[_Picture]) -> Tensor:
    """Turn pictures into (n, ch, h, w) float32 in [0, 1]."""
    return to_images(np.stack([picture.pixels for picture in pictures]), 255)


def _samples(pictures: list[_Picture]) -> Samples:
    return Samples(_tensor(pictures), torch.tensor([picture.label for picture in pictures]))
