"""Work that equal peers of one process would all do alike, done once.

On a full mesh all peers of an averaging method hold the same model after every round, and FedDF
lets each of them teach it the same. A real peer is alone in its process and never finds anything
here; a virtual mesh of ten does a tenth of the work, with the same bits.
"""

import hashlib
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")

KEY_BYTES = 16  # of the digest; these keys are compared with the last one only


class Once(Generic[T]):
    """The last result, under the digest of all that it follows from."""

    def __init__(self) -> None:
        self._key = b""
        self._result: T

    def of(self, work: Callable[[], T], *follows_from: np.ndarray | str) -> T:
        """The result of `work`, which is called unless it last followed from the same."""
        digest = hashlib.blake2b(digest_size=KEY_BYTES)
        for part in follows_from:
            plain = part.encode() if isinstance(part, str) else np.ascontiguousarray(part).data
            digest.update(f"{len(plain)} ".encode())
            digest.update(plain)
        if digest.digest() != self._key:
            self._result = work()
            self._key = digest.digest()
        return self._result
