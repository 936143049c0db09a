"""A binary range coder on integers: 32 bits of range, 16-bit probabilities, carries propagated.

After Martin's range coder and LZMA's, without the latter's leading zero byte. Encoder and Decoder
have the same method `code`, so one model drives both: it hands in the bit, which the decoder
ignores, and takes back the bit that was coded.

One list of bits has one encoding: the encoder ends on the value of its last interval that takes the
fewest bytes, and the decoder demands just that value and that length. So no bytes but one string
mean these bits, and decoding stops as soon as more bits are asked for than were sent. Damage that
happens to be the encoding of other bits cannot be seen: the transport guards against that.
"""

from typing import Protocol

from tallynode.protocol.coding import DecodeError

PROBABILITY_BITS = 16
ONE = 1 << PROBABILITY_BITS
_TOP = 1 << 24  # below this range a byte is shifted out
_MASK = 0xFFFF_FFFF


class Coder(Protocol):
    """Either direction."""

    def code(self, bit: int, one: int) -> int:
        """Code a bit that is 1 with probability `one` / 65,536, 0 < one < 65,536; return it."""
        ...


class Encoder:
    """Bits to bytes."""

    def __init__(self) -> None:
        self._low = 0
        self._range = _MASK
        self._out = bytearray()

    def code(self, bit: int, one: int) -> int:
        """Append a 1, or a 0 for 0, where 1 was expected with probability `one` / 65,536."""
        bound = (self._range >> PROBABILITY_BITS) * one
        if bit:
            self._range = width = bound
        else:
            self._range = width = self._range - bound
            self._low += bound
            if self._low > _MASK:
                self._low &= _MASK
                self._carry()
        while width < _TOP:
            self._out.append(self._low >> 24)
            self._low = (self._low << 8) & _MASK
            self._range = width = width << 8
        return 1 if bit else 0

    def finish(self) -> bytes:
        """Return the bytes; the coder is spent."""
        value, tail = _last(self._low, self._range)
        if value > _MASK:
            self._carry()
        self._out += (value & _MASK).to_bytes(4, "big")[:tail]
        return bytes(self._out)

    def _carry(self) -> None:
        at = len(self._out) - 1
        while self._out[at] == 0xFF:
            self._out[at] = 0
            at -= 1
        self._out[at] += 1


class Decoder:
    """Bytes to bits.

    Args:
        data: what an Encoder made, and maybe not.

    Raises:
        DecodeError: nothing is coded like that.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data + bytes(4)
        self._shifted = 0  # bytes that the encoder had put out by now
        self._value = int.from_bytes(self._data[:4], "big")  # minus the encoder's low
        self._range = _MASK
        if self._value >= self._range:
            raise DecodeError("coded bits begin as no encoder begins")

    def code(self, _: int, one: int) -> int:
        """Return the next bit, expected to be 1 with probability `one` / 65,536.

        Raises:
            DecodeError: the bytes are used up.
        """
        bound = (self._range >> PROBABILITY_BITS) * one
        if self._value < bound:
            bit, width = 1, bound
        else:
            bit, width = 0, self._range - bound
            self._value -= bound
        while width < _TOP:
            if self._shifted + 4 >= len(self._data):
                raise DecodeError("coded bits end too early")
            self._value = self._value << 8 | self._data[self._shifted + 4]
            self._shifted += 1
            width <<= 8
        self._range = width
        return bit

    def finish(self) -> None:
        """Check the end.

        Raises:
            DecodeError: not the bytes that an Encoder makes of these bits.
        """
        window = int.from_bytes(self._data[self._shifted : self._shifted + 4], "big")
        value, tail = _last((window - self._value) & _MASK, self._range)
        if (value & _MASK) != window or len(self._data) - 4 != self._shifted + tail:
            raise DecodeError("coded bits do not end as they should")


def _last(low: int, width: int) -> tuple[int, int]:
    """The value in [low, low + width) with the fewest leading bytes before zeros; how many."""
    for tail in range(4):
        mask = _MASK >> 8 * tail
        value = (low + mask) & ~mask
        if value < low + width:
            return value, tail
    return low, 4
