"""Device IDs: what a slip of the finger or the ear can do, and that it is always noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallynode.protocol import device_id
from tallynode.protocol.device_id import DeviceIdError

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
hashes = st.binary(min_size=device_id.HASH_BYTES, max_size=device_id.HASH_BYTES)


def characters(text: str) -> list[str]:
    """The characters that carry something, without prefix and dashes."""
    return list(text.replace("-", "").removeprefix("TALLY"))


def group_names(error: DeviceIdError) -> set[int]:
    """The groups that an error blames, counted from 1."""
    words = str(error).replace(":", " ").split()
    return {int(words[i + 1]) for i, word in enumerate(words) if word == "group"}


@pytest.mark.parametrize(
    ("digest", "text"),
    [
        (bytes(20), "TALLY-00000-00001-00002-00003-00004-00005-00006-00007"),
        (
            bytes(range(20)),
            "TALLY-000G5-40R4C-0M30Z-E209T-185GF-R38EX-1W81A-24GKE",
        ),
    ],
)
def test_golden(digest: bytes, text: str) -> None:
    """What is pinned in somebody's file today is read by every later version."""
    assert device_id.write(digest) == text


@given(hashes)
def test_what_is_written_is_read(digest: bytes) -> None:
    """Reading gives the canonical text back, and different hashes have different texts."""
    text = device_id.write(digest)
    assert device_id.read(text) == text
    bits = "".join(f"{ALPHABET.index(c):05b}" for i, c in enumerate(characters(text)) if i % 5 != 4)
    assert int(bits, 2) == int.from_bytes(digest, "big")


@given(hashes, st.data())
def test_a_person_may_type_it_in_many_ways(digest: bytes, data: st.DataObject) -> None:
    """Lower case, other dashes and spaces, no prefix, O for 0 and I or L for 1 are all one ID."""
    text = device_id.write(digest)
    typed = "".join(characters(text))
    typed = "".join({"0": "O", "1": data.draw(st.sampled_from("IL1"))}.get(c, c) for c in typed)
    if data.draw(st.booleans()):
        typed = "TALLY" + typed
    if data.draw(st.booleans()):
        typed = typed.lower()
    gap = data.draw(st.sampled_from(["", "-", " "]))
    step = data.draw(st.integers(1, 9))
    typed = gap.join(typed[i : i + step] for i in range(0, len(typed), step))
    assert device_id.read(typed) == text


@given(hashes, st.integers(0, 39), st.sampled_from(ALPHABET))
def test_any_wrong_character_is_caught_in_its_group(digest: bytes, place: int, other: str) -> None:
    """One wrong character anywhere, the check character included, and its group is named."""
    typed = characters(device_id.write(digest))
    if typed[place] == other:
        return
    typed[place] = other
    with pytest.raises(DeviceIdError) as caught:
        device_id.read("".join(typed))
    assert group_names(caught.value) == {place // 5 + 1}


@given(hashes, st.integers(0, 38))
def test_any_swap_of_neighbours_is_caught(digest: bytes, place: int) -> None:
    """Two characters that changed places are caught, across the border of two groups as well."""
    typed = characters(device_id.write(digest))
    if typed[place] == typed[place + 1]:
        return
    typed[place], typed[place + 1] = typed[place + 1], typed[place]
    with pytest.raises(DeviceIdError) as caught:
        device_id.read("".join(typed))
    assert group_names(caught.value) == {place // 5 + 1, (place + 1) // 5 + 1}


@given(hashes, st.permutations(range(8)))
def test_groups_in_another_order_are_caught(digest: bytes, order: list[int]) -> None:
    """Each group knows its place, whatever stands in it."""
    if order == sorted(order):
        return
    groups = device_id.write(digest).split("-")[1:]
    with pytest.raises(DeviceIdError):
        device_id.read("".join(groups[i] for i in order))


@pytest.mark.parametrize(
    "text", ["", "TALLY", "TALLY-12345", "0" * 39, "0" * 41, "U" + "0" * 39, "é" * 40]
)
def test_what_is_no_id_is_refused(text: str) -> None:
    """Too short, too long, or with characters that no ID has."""
    with pytest.raises(DeviceIdError):
        device_id.read(text)
