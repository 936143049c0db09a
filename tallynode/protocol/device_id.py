"""The device ID: the hash of a peer's public key in a form that a person can read out and type.

    TALLY-2K7QX-…  eight groups of five: four characters of hash (20 bits) and a check character

160 bits of SHA-256 over the key's SubjectPublicKeyInfo: to stand in for a peer, somebody must find
a second key for a given ID, 2^160 hashes. The alphabet is Crockford's base 32, in which what looks
alike is read alike (O is 0; I and L are 1) and U does not occur.

A check character makes its group a codeword over GF(32): with α a primitive element, the sum of
α^i · character i over the five places (i = 0 at the check) must be the number of the group. Any one
wrong character changes the sum, since α^i is not 0; so does any swap within a group, since α^i and
α^j differ; a swap across a border is one wrong character in each of two groups; whole groups that
changed places sum to the other's number. The wrong group is known by name.
"""

import hashlib

HASH_BYTES = 20  # bytes of SHA-256 that an ID keeps
GROUPS = 8
GROUP_DATA = 4  # characters of hash in a group; one check character follows

PREFIX = "TALLY"
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_REDUCTION = 0b100101  # x^5 + x^2 + 1, primitive over GF(2): α = x has order 31
_GROUP = GROUP_DATA + 1


class DeviceIdError(ValueError):
    """A text that is no device ID; says which group is wrong where that is known."""


def of_public_key(spki: bytes) -> str:
    """The ID of a public key, given as DER SubjectPublicKeyInfo."""
    return write(hashlib.sha256(spki).digest()[:HASH_BYTES])


def write(digest: bytes) -> str:
    """The canonical text of a hash of HASH_BYTES bytes."""
    bits = int.from_bytes(digest, "big")
    count = GROUPS * GROUP_DATA
    values = [bits >> 5 * (count - 1 - i) & 31 for i in range(count)]
    groups = []
    for number in range(GROUPS):
        data = values[number * GROUP_DATA : (number + 1) * GROUP_DATA]
        whole = [*data, _sum([*data, 0]) ^ number]
        groups.append("".join(_ALPHABET[value] for value in whole))
    return "-".join([PREFIX, *groups])


def read(text: str) -> str:
    """The canonical text of an ID as a person types it: any case, dashes and spaces or none.

    Raises:
        DeviceIdError: a character, the length or a check is wrong.
    """
    typed = text.upper().replace("-", "").replace(" ", "")
    if len(typed) == len(PREFIX) + GROUPS * _GROUP:
        typed = typed.removeprefix(PREFIX)
    if len(typed) != GROUPS * _GROUP:
        raise DeviceIdError(
            f"should be {PREFIX} and {GROUPS} groups of {_GROUP} characters, "
            f"as `tallynode id` prints it, not {len(typed)} characters"
        )
    values: list[int] = []
    for place, character in enumerate(typed):
        if character not in _VALUES:
            raise DeviceIdError(
                f"{_named(typed, place // _GROUP)} has {character!r}: never in an ID"
            )
        values.append(_VALUES[character])
    wrong = [
        number
        for number in range(GROUPS)
        if _sum(values[number * _GROUP : (number + 1) * _GROUP]) != number
    ]
    if wrong:
        names = " and ".join(_named(typed, number) for number in wrong)
        raise DeviceIdError(f"{names}: does not match its check character, so it is mistyped")
    canonical = "".join(_ALPHABET[value] for value in values)
    groups = [canonical[i : i + _GROUP] for i in range(0, len(canonical), _GROUP)]
    return "-".join([PREFIX, *groups])


def _sum(values: list[int]) -> int:
    """Sum of α^i · value over a group, the check character (i = 0) last: Horner's scheme."""
    total = 0
    for value in values:
        total = (total << 1 ^ (_REDUCTION if total & 16 else 0)) ^ value
    return total


def _named(typed: str, number: int) -> str:
    return f"group {number + 1} ({typed[number * _GROUP : (number + 1) * _GROUP]})"
