"""Load what one peer learns from, by the name of its source.

A public set (digits, mnist, fashion-mnist) is dealt out for simulation: one seeded permutation sets
the probes aside, then the test samples where the set has none of its own, and the rest is the pool
that `partition` deals. Every peer computes the same deal and keeps its own part. A real peer brings
folders of images or a function of its own.
"""

import importlib
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from tallynode.errors import DataError, TallynodeError
from tallynode.learning import folder, idx
from tallynode.learning.partition import partition
from tallynode.learning.samples import PeerData, Samples, checked, to_images
from tallynode.learning.settings import DataSettings

__all__ = ["PeerData", "Samples", "Watch", "load_peer_data", "prefetch"]

PUBLIC = ("digits", *idx.SETS)
DIGITS_MAXIMUM = 16  # grey levels of the bundled digits
DIGITS_TEST = 297  # samples; the same for any number of peers, so that accuracies compare
SOURCES = "digits, mnist, fashion-mnist, folder:PATH or package.module:function"

Progress = Callable[[str], None]


def _silent(_: str) -> None:
    pass


def load_peer_data(settings: DataSettings, progress: Progress = _silent) -> PeerData:
    """Load one peer's private samples, the probes and the test samples.

    Args:
        settings: the source and this peer's share of it.
        progress: told in a line what takes long, such as a download.

    Raises:
        DataError: names the file, folder or function that cannot be used, and what would help.
    """
    source = settings.source
    if source in PUBLIC:
        data = _public(settings, progress)
        return _with_other_probes(data, settings, progress) if settings.probe_source else data
    if source.startswith("folder:"):
        return checked(folder.load(settings, progress), source)
    if ":" in source:
        return checked(_call(source), source)
    raise DataError(f"data: unknown source {source!r}, known are {SOURCES}")


class Watch:
    """Notices new private images of a `folder:` source between two rounds.

    Args:
        settings: the source; any but a folder never changes.
        progress: told of images that are left out.

    Raises:
        DataError: the folder cannot be read.
    """

    def __init__(self, settings: DataSettings, progress: Progress = _silent) -> None:
        self._settings = settings
        self._progress = progress
        self._is_folder = settings.source.startswith("folder:")
        self._seen = folder.fingerprint(settings) if self._is_folder else b""

    def renewed(self) -> PeerData | None:
        """Return the data as they now are if they changed since the last call.

        Raises:
            DataError: they changed and cannot be used; what was loaded before still can.
        """
        if not self._is_folder:
            return None
        now = folder.fingerprint(self._settings)
        if now == self._seen:
            return None
        self._seen = now
        return load_peer_data(self._settings, self._progress)


def prefetch(settings: DataSettings, progress: Progress = _silent) -> None:
    """Download the source once if it must be, before many peers ask for it together."""
    for source in (settings.source, settings.probe_source):
        if source in idx.SETS:
            idx.find(source, _folder_of(source, settings), progress)


def _folder_of(source: str, settings: DataSettings) -> Path | None:
    """Where somebody has put a set; what lies bare in data_dir is one set's and no other's."""
    bare = settings.bare or settings.source
    if settings.data_dir is None or bare not in idx.SETS or source == bare:
        return settings.data_dir
    named = settings.data_dir / idx.SETS[source].torchvision / "raw"
    return named if named.is_dir() else None


def _public(settings: DataSettings, progress: Progress) -> PeerData:
    if settings.source == "digits":
        file = resources.files("tallynode.learning") / "assets" / "digits.npz"
        with file.open("rb") as stream, np.load(stream) as arrays:
            pixels, labels = arrays["x"], arrays["y"].astype(np.int64)
        names = tuple(str(digit) for digit in range(10))
        return _dealt(settings, names, (pixels, labels), None, DIGITS_MAXIMUM)
    where = idx.find(settings.source, _folder_of(settings.source, settings), progress)
    names = idx.SETS[settings.source].classes
    return _dealt(settings, names, idx.read(where, "train"), idx.read(where, "t10k"), 255)


def _with_other_probes(data: PeerData, settings: DataSettings, progress: Progress) -> PeerData:
    """The same data with the probes of another public set, brought to the size of the images.

    Their classes are others: nobody knows the right answers, and there are none.
    """
    if settings.probe_source not in PUBLIC:
        known = ", ".join(PUBLIC)
        raise DataError(f"data: probes from {settings.probe_source!r}: known are {known}")
    share = None if settings.share is None else (0, 1)
    other = replace(
        settings,
        source=settings.probe_source,
        bare=settings.bare or settings.source,
        per_peer=1,
        share=share,
        dirichlet=None,
    )
    probes = functional.interpolate(_public(other, progress).probes, data.shape[1:], mode="area")
    return replace(data, probes=probes, probe_labels=None)


def _dealt(
    settings: DataSettings,
    names: tuple[str, ...],
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray] | None,
    maximum: int,
) -> PeerData:
    """Deal (n, h, w) pixels and (n,) labels out; without `test` some of `train` is held out."""
    pixels, labels = train
    generator = np.random.default_rng(settings.partition_seed)
    order = generator.permutation(len(labels))
    held_out = 0 if test is not None else DIGITS_TEST
    probes, rest, pool = np.split(order, [settings.probes, settings.probes + held_out])
    index, peers = settings.share or (0, 1)
    if not 0 <= index < peers:
        raise DataError(f"data: share {index} of {peers} peers does not exist")
    per_peer = settings.per_peer if settings.per_peer is not None else len(pool) // peers
    if settings.probes < 1 or per_peer < 1 or peers * per_peer > len(pool):
        raise DataError(
            f"data: {settings.source} has {len(labels) - held_out} samples for probes and peers,"
            f" not {settings.probes} probes and {peers} × {max(per_peer, 1)}"
        )
    pool = pool[: peers * per_peer]
    parts = partition(labels[pool], peers, settings.dirichlet, generator)
    mine = pool if settings.pooled else pool[parts[index]]
    test_pixels, test_labels = test if test is not None else (pixels[rest], labels[rest])
    if settings.test is not None and settings.test < 1:
        raise DataError(f"data: test must be 1 or more, not {settings.test}")
    if settings.test is not None:
        draw = np.random.default_rng([settings.partition_seed, len(test_labels)])
        some = draw.permutation(len(test_labels))[: settings.test]
        test_pixels, test_labels = test_pixels[some], test_labels[some]
    return PeerData(
        classes=names,
        private=Samples(to_images(pixels[mine], maximum), torch.from_numpy(labels[mine])),
        probes=to_images(pixels[probes], maximum),
        test=Samples(to_images(test_pixels, maximum), torch.from_numpy(test_labels)),
        probe_labels=torch.from_numpy(labels[probes]),
    )


def _call(source: str) -> PeerData:
    """Import `package.module:function`, also from the working directory, and call it."""
    module_name, _, function_name = source.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a person's own code raises what it likes
        raise DataError(f"data: {source}: cannot import {module_name!r}: {_told(error)}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise DataError(f"data: {source}: {module_name} has no function {function_name!r}")
    try:
        data = function()
    except TallynodeError:  # in words of ours already, as where it loads a folder
        raise
    except Exception as error:  # as above
        raise DataError(f"data: {source} failed: {_told(error)}") from error
    if not isinstance(data, PeerData):
        raise DataError(f"data: {source} returned {type(data).__name__}, not PeerData")
    return data


def _told(error: Exception) -> str:
    """What went wrong in a person's own code, and where, in a line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = "" if last.filename.startswith("<frozen") else f" ({last.filename}:{last.lineno})"
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
