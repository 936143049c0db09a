"""A peer's own data from a function: `data: examples.own_data:load` in topology.yaml.

Here two noisy patterns stand in for a sensor; every peer draws the same probes and its own rest.
"""

import platform
import zlib

import torch

from tallynode.learning.data import PeerData, Samples

CLASSES = ("rising", "falling")


def draw(count: int, seed: int) -> Samples:
    """Draw `count` labelled 8 × 8 images from a seed."""
    noise = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (count,), generator=noise)
    ramp = torch.linspace(-1, 1, 8).expand(8, 8)
    signs = (1.0 - 2.0 * y).view(-1, 1, 1, 1)
    return Samples(signs * ramp + torch.randn(count, 1, 8, 8, generator=noise), y)


def load() -> PeerData:
    """Return this peer's private samples, the probes that all share, and test samples."""
    own = draw(100, seed=zlib.crc32(platform.node().encode()))  # in earnest: read a sensor
    probes = draw(200, seed=0)  # the same on every peer
    return PeerData(classes=CLASSES, private=own, probes=probes.x, test=draw(100, seed=1))
