"""The two ways through the model of a ballot: plain Python, or the same compiled where it exists.

_fast.c is model.py and rangecoder.py once more, statement by statement, and makes the same bytes.
It is compiled when tallynode is installed where there is a C compiler; without it everything works,
and a ballot of 1,000 probes takes about a millisecond.
"""

import ctypes
from pathlib import Path

import numpy as np

from tallynode.protocol.coding import DecodeError, model
from tallynode.protocol.coding.priors import ONE_OF_ODDS, guess_weights, stay_weights
from tallynode.protocol.coding.rangecoder import Coder, Decoder, Encoder
from tallynode.protocol.coding.reference import Contexts, Reference, contexts

LIBRARY = Path(__file__).with_name("_fast.so")
_FAILED = -1
_ODDS = np.array(ONE_OF_ODDS, dtype=np.int32)


def _load() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(str(LIBRARY))
        library.tallynode_code.restype = ctypes.c_int64
    except (OSError, AttributeError):  # not compiled here, or for another machine
        return None
    return library


_library = _load()
_wanted = True  # measurements and tests of the plain way say otherwise


def available() -> bool:
    """Whether the compiled way is there."""
    return _library is not None


def use(wanted: bool) -> None:
    """Take the compiled way where it is there, or never; the bytes are the same."""
    global _wanted
    _wanted = wanted


def encode(
    votes: np.ndarray, classes: int, reference: Reference | None, *, room: int
) -> bytes | None:
    """(n,) votes -> range-coded bytes, or None where they would be more than `room`."""
    given = contexts(reference) if reference else None
    if _library and _wanted:
        buffer = np.empty(room, dtype=np.uint8)
        size = _call(_library, buffer, votes.astype(np.int32), classes, given, decodes=False)
        return None if size == _FAILED else buffer[:size].tobytes()
    coder = Encoder()
    _through(coder, votes.tolist(), given, classes)
    data = coder.finish()
    return data if len(data) <= room else None


def decode(data: bytes, count: int, classes: int, reference: Reference | None) -> np.ndarray:
    """Range-coded bytes -> (count,) int64 votes.

    Raises:
        DecodeError: not what `encode` makes.
    """
    given = contexts(reference) if reference else None
    if _library and _wanted:
        out = np.zeros(count, dtype=np.int32)
        buffer = np.frombuffer(data, dtype=np.uint8)
        if _call(_library, buffer, out, classes, given, decodes=True) == _FAILED:
            raise DecodeError("not the coding of a ballot")
        return out.astype(np.int64)
    coder = Decoder(data)
    votes = [0] * count
    _through(coder, votes, given, classes)
    coder.finish()
    return np.array(votes, dtype=np.int64)


def _through(coder: Coder, votes: list[int], given: Contexts | None, classes: int) -> None:
    if given is None:
        model.code_alone(coder, votes, classes)
    else:
        model.code_changes(coder, votes, given, classes)


def _call(
    library: ctypes.CDLL,
    buffer: np.ndarray,
    votes: np.ndarray,
    classes: int,
    given: Contexts | None,
    *,
    decodes: bool,
) -> int:
    """Run the compiled coder over `buffer` and `votes` (n,) int32, filling one from the other."""
    if given is None:
        counts, step = model.counts_alone(classes)
        shares = np.zeros(classes, dtype=np.int32)
    else:
        counts, shares, step = model.previous_counts(given.previous, classes)
    tree = model.tree_nodes(counts)
    moves = None
    if given is not None and classes <= model.MOVES_CLASSES_MAX:
        moves = np.zeros((classes, len(tree)), dtype=np.int64)
    arrays: list[np.ndarray | None] = [None] * 6
    if given is not None:
        arrays = [np.ascontiguousarray(array, np.int32) for array in given]
    stay = np.array(stay_weights(), dtype=np.int64)
    of_class = np.zeros(classes, dtype=np.int64)
    guess = np.array(guess_weights(), dtype=np.int64)
    shares = shares.astype(np.int32)
    size: int = library.tallynode_code(
        ctypes.c_int(decodes),
        _at(buffer),
        ctypes.c_int64(len(buffer)),
        _at(votes),
        ctypes.c_int32(len(votes)),
        ctypes.c_int32(classes),
        _at(tree),
        _at(moves),
        ctypes.c_int64(step),
        ctypes.c_int32(len(tree) // 2),
        *(_at(array) for array in arrays),
        *(_at(array) for array in (stay, of_class, guess, _ODDS, shares)),
    )
    return size


def _at(array: np.ndarray | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)
