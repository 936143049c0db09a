"""Damage, as a fuzzer does it: real bytes with a few things changed."""

import random
from collections.abc import Sequence


def mutant(seeds: Sequence[bytes], draw: random.Random) -> bytes:
    """One to four mutations of a seed."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.randint(1, 4)):
        at = draw.randint(0, len(data))
        match draw.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 1 if at < len(data):
                data[at] = draw.choice([0, 1, 127, 128, 254, 255])
            case 2:
                del data[at : at + draw.randint(1, 8)]
            case 3:
                data[at:at] = draw.randbytes(draw.randint(1, 8))
            case 4:
                data[at:at] = data[at : at + 16] * draw.randint(1, 4)
            case _:
                other = draw.choice(seeds)
                data[at:] = other[draw.randint(0, len(other)) :]
    return bytes(data)
