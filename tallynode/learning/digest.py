"""Eight bytes by which two peers know that they mean the same probes and the same classes.

A vote is an index of a class on an index of a probe: it means nothing to a peer whose probes or
class list differ, so every message carries this digest and a foreign one is refused. The digest
covers the exact values: an image that another decoder or another resize rounds differently counts
as a different probe. Lossless images (PNG) at their final size are safe on every platform.
"""

import hashlib
from collections.abc import Sequence

from torch import Tensor

DIGEST_BYTES = 8  # an accident between two probe sets: 1 in 2^64; no defence against a forger


def probe_digest(probes: Tensor, classes: Sequence[str]) -> bytes:
    """Digest probes (p, ch, h, w) float32 and the ordered class names into 8 bytes."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    names = "\0".join(classes)  # a name cannot hold \0: it is a folder's or a line's
    digest.update(f"{tuple(probes.shape)}\0{len(classes)}\0{names}\0".encode())
    digest.update(probes.contiguous().numpy().astype("<f4", copy=False).tobytes())
    return digest.digest()
