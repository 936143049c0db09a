"""Sparse parameter deltas: the k largest entries, positions and values each made small.

Positions of real deltas cluster (whole neurons move), so their gaps as varints through a general
compressor cost less than log2 C(n, k), the bound for positions without pattern, and much less than
Rice or Elias-Fano codes, which cannot go below it. LZMA took 1 to 7 % less than deflate. Values are
float16, int8 with one scale, or a sign with one scale. What is not sent, quantisation error
included, stays with the sender and is added to its next delta (error feedback; Seide et al. 2014,
Stich et al. 2018): without it accuracy suffers, with it even 1 % at int8 hardly does.

    kind (1) | entries k (u32) | scale (f32) | bytes of positions (u32) | positions | values

Whatever a stranger's bytes claim, no more is unpacked than k <= `entries_max` entries can take.
"""

import lzma
import struct
from enum import IntEnum

import numpy as np

from tallynode.errors import LocalError
from tallynode.protocol.coding import DecodeError

_HEAD = struct.Struct("<BIfI")
_FILTER = {"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0, "dict_size": 1 << 18}
_VARINT_BYTES_MAX = 5  # bytes of one gap below 2**32
SIZE_MAX = 1 << 32  # parameters; what a gap can bridge


class Values(IntEnum):
    """How an entry's value is coded."""

    FLOAT16 = 0
    INT8 = 1
    SIGN = 2


def largest(vector: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` entries of (n,) floats largest in magnitude, ascending; exact."""
    if not 1 <= count <= len(vector):
        raise LocalError(f"{count} of {len(vector)} entries cannot be taken")
    cut = len(vector) - count
    indices: np.ndarray = np.sort(np.argpartition(np.abs(vector), cut)[cut:])
    return indices


def bytes_max(size: int, count: int, kind: Values) -> int:
    """Bytes at most of a delta with `count` of `size` entries.

    A gap takes a byte, and one more for each 128 that it bridges; what does not compress grows by
    less than a thousandth. Where all entries are sent there are no gaps.
    """
    positions = count + size // 128 if count < size else count // 100
    return 1024 + (positions + _coded_bytes(count, kind)) * 1001 // 1000


def encode(vector: np.ndarray, count: int, kind: Values) -> tuple[bytes, np.ndarray]:
    """The `count` largest entries of a delta -> bytes, and what is left of it.

    Args:
        vector: (n,) float32, finite, what the last rounds left over included.
        count: entries to send.
        kind: how exactly.

    Returns:
        the bytes, and (n,) float32 to add to the next delta.
    """
    if len(vector) >= SIZE_MAX or not np.isfinite(vector).all():
        raise LocalError("a delta must be finite and of fewer than 2**32 parameters")
    indices = largest(vector, count)
    values = vector[indices].astype(np.float32)
    scale, coded = _quantise(values, kind)
    gaps = np.diff(indices, prepend=-1) - 1
    positions = _squeeze(_varints(gaps))
    data = _HEAD.pack(kind, count, scale, len(positions)) + positions + _squeeze(coded)
    left = vector.astype(np.float32)
    left[indices] -= _restore(coded, count, scale, kind)
    return data, left


def decode(data: bytes, size: int, entries_max: int) -> tuple[np.ndarray, np.ndarray]:
    """Bytes -> (k,) int64 ascending indices below `size` and (k,) float32 values.

    Args:
        data: perhaps hostile.
        size: parameters of the net.
        entries_max: more entries than this are refused before anything is unpacked.

    Raises:
        DecodeError: not what `encode` makes.
    """
    if len(data) < _HEAD.size:
        raise DecodeError("the head of a delta is cut off")
    kind, count, scale, length = _HEAD.unpack_from(data)
    if kind not in list(Values) or not 1 <= count <= min(entries_max, size):
        raise DecodeError(f"a delta of kind {kind} with {count} entries")
    if not 0 <= scale < np.inf or length > len(data) - _HEAD.size:
        raise DecodeError("a delta with an impossible scale or length")
    body = memoryview(data)[_HEAD.size :]
    gaps = _gaps(_expand(body[:length], count * _VARINT_BYTES_MAX), count)
    indices = np.cumsum(gaps + 1) - 1
    if int(indices[-1]) >= size:
        raise DecodeError(f"an entry at {indices[-1]} of {size}")
    kind = Values(kind)
    wanted = _coded_bytes(count, kind)
    coded = _expand(body[length:], wanted)
    if len(coded) != wanted:
        raise DecodeError(f"{len(coded)} bytes of values for {count} entries")
    values = _restore(coded, count, scale, kind)
    if not np.isfinite(values).all():
        raise DecodeError("a value that is not finite")
    return indices, values


def _quantise(values: np.ndarray, kind: Values) -> tuple[float, bytes]:
    """(k,) float32 -> the scale, a float32 as sent, and the values as bytes."""
    magnitudes = np.abs(values)
    if kind is Values.SIGN:
        return float(np.float32(magnitudes.mean())), np.packbits(values < 0).tobytes()
    if kind is Values.FLOAT16:
        limit = np.finfo(np.float16).max
        halves = np.clip(values, -limit, limit).astype("<f2")
        return 1.0, halves.view(np.uint8).reshape(-1, 2).T.tobytes()  # high bytes compress apart
    scale = np.float32(magnitudes.max()) / np.float32(127) or np.float32(1)
    return float(scale), np.rint(values / scale).astype(np.int8).tobytes()


def _restore(coded: bytes, count: int, scale: float, kind: Values) -> np.ndarray:
    """(k,) float32 as the receiver gets them."""
    raw = np.frombuffer(coded, dtype=np.uint8)
    if kind is Values.SIGN:
        signs: np.ndarray = 1 - 2 * np.unpackbits(raw, count=count).astype(np.float32)
        return signs * np.float32(scale)
    if kind is Values.FLOAT16:
        halves = np.ascontiguousarray(raw.reshape(2, count).T).view("<f2")
        return halves.reshape(-1).astype(np.float32)
    with np.errstate(over="ignore"):  # a hostile scale; the caller looks for infinities
        whole: np.ndarray = raw.view(np.int8).astype(np.float32) * np.float32(scale)
    return whole


def _coded_bytes(count: int, kind: Values) -> int:
    return {Values.FLOAT16: 2 * count, Values.INT8: count, Values.SIGN: (count + 7) // 8}[kind]


def _varints(gaps: np.ndarray) -> bytes:
    """(k,) non-negative int -> base-128 digits, least first, the last without its top bit."""
    digits = np.ones(len(gaps), dtype=np.int64)
    for d in range(1, _VARINT_BYTES_MAX):
        digits += gaps >> 7 * d > 0
    ends = np.cumsum(digits)
    out = np.empty(int(ends[-1]), dtype=np.uint8)
    for d in range(int(digits.max())):
        there = digits > d
        more = np.where(digits[there] > d + 1, 128, 0)
        out[(ends - digits)[there] + d] = (gaps[there] >> 7 * d & 127) | more
    return out.tobytes()


def _gaps(data: bytes, count: int) -> np.ndarray:
    """Undo `_varints`: exactly `count` of them, each in its shortest form."""
    raw = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(raw < 128)
    if len(ends) != count or ends[-1] != len(raw) - 1:
        raise DecodeError(f"{len(ends)} positions for {count} entries")
    digits = np.diff(ends, prepend=-1)
    if int(digits.max()) > _VARINT_BYTES_MAX or ((digits > 1) & (raw[ends] == 0)).any():
        raise DecodeError("a position that is too long")
    gaps = np.zeros(count, dtype=np.int64)
    for d in range(int(digits.max())):
        there = digits > d
        gaps[there] |= (raw[(ends - digits + 1)[there] + d].astype(np.int64) & 127) << 7 * d
    return gaps


def _squeeze(data: bytes) -> bytes:
    return lzma.compress(data, format=lzma.FORMAT_RAW, filters=[_FILTER])


def _expand(data: memoryview, most: int) -> bytes:
    """Undo `_squeeze`, unpacking `most` bytes at most."""
    reader = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=[_FILTER])
    try:
        out = reader.decompress(bytes(data), max_length=most)
        if not reader.eof:  # the end marker may still stand behind the last byte
            out += reader.decompress(b"", max_length=1)
    except (lzma.LZMAError, EOFError) as error:
        raise DecodeError("a delta that does not unpack") from error
    if not reader.eof or reader.unused_data or len(out) > most:
        raise DecodeError("a delta that does not end where it should")
    return out
