"""What the contents that are plain numbers share: float32 as they are, as the papers count them."""

import numpy as np

from tallynode.protocol.ballots import BallotBox, Held
from tallynode.protocol.coding import DecodeError
from tallynode.protocol.coding.ballot import Coding


class Floats:
    """Codes arrays of one shape.

    Args:
        shape: of every content.
        box: the ballots that are held.
    """

    def __init__(self, shape: tuple[int, ...], box: BallotBox) -> None:
        self._shape = shape
        self._box = box

    def encode(self, round_: int, content: np.ndarray) -> Held:
        """Code this peer's own values."""
        return Held(Coding.FLOATS, self.alone(content), content.astype(np.float32))

    def alone(self, content: np.ndarray) -> bytes:
        """Values as bytes."""
        return content.astype("<f4").tobytes()

    def restore(self, body: bytes) -> np.ndarray:
        """Bytes of `alone` -> the values, float32."""
        count = int(np.prod(self._shape))
        if len(body) != 4 * count:
            raise DecodeError(f"{len(body)} bytes for {count} floats")
        values = np.frombuffer(body, dtype="<f4").reshape(self._shape).astype(np.float32)
        if not np.isfinite(values).all():
            raise DecodeError("a value that is not finite")
        return values

    def decode(self, origin: str, round_: int, coding: Coding, data: bytes) -> Held:
        """Take in the values of `origin`.

        Raises:
            DecodeError: not as many finite values as are sent here.
        """
        if coding is not Coding.FLOATS:
            raise DecodeError("coded as something else than floats")
        return Held(coding, data, self.restore(data))

    def chain(self, origin: str, round_: int) -> list[tuple[int, Coding, bytes]]:
        """Every content stands alone."""
        held = self._box.get(origin, round_)
        return [(round_, held.coding, held.coded)] if held else []
