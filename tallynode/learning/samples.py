"""What a peer has to learn from: its private samples, the mesh's probes, and a test set.

Private samples never leave the peer. Probes are unlabelled and the same on every peer, which the
digest proves; the test samples only measure. The three are disjoint.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tallynode.errors import DataError


@dataclass(frozen=True, slots=True)
class Samples:
    """Labelled images."""

    x: Tensor  # (n, channels, height, width) float32
    y: Tensor  # (n,) int64

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerData:
    """Everything that one peer trains on, votes on and is measured by."""

    classes: tuple[str, ...]  # names in the order of the labels, the same on every peer
    private: Samples
    probes: Tensor  # (p, channels, height, width) float32, the same on every peer
    test: Samples
    probe_labels: Tensor | None = None  # (p,) int64; measures the tally, never trains

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.probes.shape[1:]
        return channels, height, width

    def to(self, device: str) -> "PeerData":
        """The same with all that a net sees on this device; what only measures stays."""
        if self.probes.device.type == device:
            return self
        return replace(
            self,
            private=Samples(self.private.x.to(device), self.private.y.to(device)),
            probes=self.probes.to(device),
            test=replace(self.test, x=self.test.x.to(device)),
        )


def to_images(pixels: np.ndarray, maximum: int) -> Tensor:
    """Turn (n, h, w) or (n, h, w, ch) integer pixels into (n, ch, h, w) float32 in [0, 1]."""
    tensor = torch.from_numpy(np.array(pixels, dtype=np.float32) / np.float32(maximum))
    return tensor.unsqueeze(1) if tensor.dim() == 3 else tensor.permute(0, 3, 1, 2).contiguous()


def checked(data: PeerData, origin: str) -> PeerData:
    """Return `data` if its shapes, types and labels fit together.

    Raises:
        DataError: names `origin` and the part that does not fit.
    """
    if not data.classes or len(set(data.classes)) != len(data.classes):
        raise DataError(f"{origin}: class names must be given and differ: {data.classes}")
    for name in data.classes:
        if not _is_text(name):
            raise DataError(f"{origin}: the name of class {name!a} is not UTF-8: rename it")
    _check_images(data.probes, data.probes, f"{origin}: probes")
    for name, samples in (("private", data.private), ("test", data.test)):
        _check_images(samples.x, data.probes, f"{origin}: {name}.x")
        _check_labels(samples.y, len(samples.x), len(data.classes), f"{origin}: {name}.y")
    if data.probe_labels is not None:
        name = f"{origin}: probe_labels"
        _check_labels(data.probe_labels, len(data.probes), len(data.classes), name)
    return data


def _is_text(name: str) -> bool:
    """Whether a name has bytes; that of a folder in another encoding has none."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_images(x: Tensor, like: Tensor, name: str) -> None:
    if not isinstance(x, Tensor) or x.dim() != 4 or x.dtype != torch.float32:
        raise DataError(f"{name} must be a float32 tensor (samples, channels, height, width)")
    if len(x) == 0:
        raise DataError(f"{name} is empty")
    if x.shape[1:] != like.shape[1:]:
        raise DataError(f"{name} has images {tuple(x.shape[1:])}, probes {tuple(like.shape[1:])}")
    if not bool(torch.isfinite(x).all()):
        raise DataError(f"{name} contains NaN or infinity")


def _check_labels(y: Tensor, count: int, classes: int, name: str) -> None:
    if not isinstance(y, Tensor) or y.dtype != torch.int64 or y.shape != (count,):
        raise DataError(f"{name} must be an int64 tensor of {count} labels")
    if int(y.min()) < 0 or int(y.max()) >= classes:
        raise DataError(f"{name} has labels outside 0 to {classes - 1}")
