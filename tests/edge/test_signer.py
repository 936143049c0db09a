"""Real keys under signatures, what is kept of others, and TLS against the shunned."""

from pathlib import Path

import pytest

from tallynode.edge.admission import Admission
from tallynode.edge.identity import Identity, load_or_make
from tallynode.edge.kept import Kept, keep_or_say
from tallynode.edge.signer import DeviceSigner


@pytest.fixture
def devices(tmp_path: Path) -> dict[str, Identity]:
    """Keys of a and b."""
    return {name: load_or_make(tmp_path / name) for name in "ab"}


@pytest.fixture
def signers(tmp_path: Path, devices: dict[str, Identity]) -> dict[str, DeviceSigner]:
    """Of a and b, each pinned by the other."""
    return {
        me: DeviceSigner(Admission(devices[me], {other: devices[other].id}, tmp_path, me=me))
        for me, other in ("ab", "ba")
    }


def test_a_signature_holds_for_its_key_and_message_alone(signers: dict[str, DeviceSigner]) -> None:
    """And what is no key at all verifies nothing, without an exception."""
    a, b = signers["a"], signers["b"]
    signature = a.sign(b"so I vote")
    assert b.verify(a.public_key, signature, b"so I vote")
    assert not b.verify(a.public_key, signature, b"so I voted")
    assert not b.verify(b.public_key, signature, b"so I vote")
    assert not b.verify(b"\xff" * 32, signature, b"so I vote")
    assert a.sign(b"so I vote") == signature


def test_a_key_counts_by_its_pin(tmp_path: Path, devices: dict[str, Identity]) -> None:
    """Of whoever is pinned, as of now, and of this device without a pin."""
    admission = Admission(devices["a"], {"b": devices["b"].id}, tmp_path, me="a")
    signer = DeviceSigner(admission)
    key = DeviceSigner(Admission(devices["b"], {}, tmp_path, me="b")).public_key
    assert signer.owns("b", key)
    assert signer.owns("a", signer.public_key)
    assert not signer.owns("b", signer.public_key)
    assert not signer.owns("a", key)
    assert not signer.owns("c", key)
    admission.set_pins({})
    assert not signer.owns("b", key)


def test_the_shunned_are_let_in_no_more_until_they_are_forgiven(
    tmp_path: Path, devices: dict[str, Identity]
) -> None:
    """Their certificate counts for as little as a stranger's; their pin, so their votes, stay."""
    admission = Admission(devices["a"], {"b": devices["b"].id}, tmp_path, me="a")
    admission._meet("b", devices["b"].certificate)
    assert admission.who(devices["b"].certificate) == "b"
    admission.set_shunned(frozenset("b"))
    assert admission.who(devices["b"].certificate) is None
    assert devices["b"].certificate not in admission.certificates()
    assert admission.pinned == {"b"}
    admission.set_shunned(frozenset())
    assert admission.who(devices["b"].certificate) == "b"


def test_what_is_kept_outlasts_the_process(tmp_path: Path) -> None:
    """A later message on a topic takes the place of the earlier one."""
    kept = Kept(tmp_path / "kept")
    kept.keep("k/b", b"old")
    kept.keep("k/b", b"new")
    kept.keep("x/c", b"proof")
    assert Kept(tmp_path / "kept").messages == {"k/b": b"new", "x/c": b"proof"}


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"\x93\x01\x02\x03", b"\x81\x01\x02", b"\x81"])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, damage: bytes) -> None:
    """The mesh tells it again."""
    path = tmp_path / "kept"
    path.write_bytes(damage)
    kept = Kept(path)
    assert kept.messages == {}
    kept.keep("k/b", b"new")
    assert Kept(path).messages == {"k/b": b"new"}


def test_a_disk_that_refuses_ends_nothing(tmp_path: Path) -> None:
    """It is held for as long as the process lives."""
    kept = Kept(tmp_path / "missing" / "kept")
    keep_or_say(kept, "k/b", b"new")
    assert kept.messages == {"k/b": b"new"}
