"""Signed messages: golden bytes by real keys, round trips, and what they add to a ballot."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from tallynode.errors import LocalError, RemoteError
from tallynode.protocol import limits, wire
from tallynode.protocol.coding import packed
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.messages import Ballot, Key, Proof, Signed
from tallynode.protocol.settings import PeerSettings
from tallynode.protocol.signing import Signatures

# Added, never edited: other versions of the program out there speak these bytes.
GOLDEN = json.loads((Path(__file__).parent / "golden" / "wire-v1-signed.json").read_text())
SIGNATURE_ADDS_MAX = 72  # bytes
DIGEST = bytes(range(8))


class GoldenSigner:
    """A private key of one byte, 32 times."""

    def __init__(self, byte: int) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes([byte]) * 32)
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """As the library does."""
        return self._key.sign(message)

    def verify(self, public_key: bytes, signature: bytes, message: bytes) -> bool:
        """Raises where it does not hold."""
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        return True

    def owns(self, origin: str, public_key: bytes) -> bool:
        """The one key that there is."""
        return public_key == self.public_key


def signatures(vector: dict[str, Any], name: str) -> Signatures:
    """What a peer of the vector's mesh has."""
    settings = PeerSettings(
        mesh=vector["mesh"],
        name=name,
        reach={"x": {"x": 1}},
        hops=2,
        classes=vector["classes"],
        probes=12,
        per_round=None,
        probe_digest=bytes.fromhex(vector["probe_digest"]),
        method="tally",
        seed=vector["seed"],
    )
    return Signatures(settings, GoldenSigner(vector["key"]))


def ballot_of(vector: dict[str, Any]) -> Ballot:
    """The ballot that a vector describes, signed anew."""
    votes = np.array(vector["votes"])
    return Ballot(
        origin=vector["origin"],
        round=vector["round"],
        hops_left=vector["hops_left"],
        coding=Coding(vector["coding"]),
        body=packed.encode(votes, vector["classes"]),
        signature=signatures(vector, vector["origin"]).sign(vector["round"], votes),
    )


@pytest.mark.parametrize("vector", GOLDEN["ballots"], ids=lambda v: v["why"])
def test_golden_signed_ballots(vector: dict[str, Any]) -> None:
    """Known keys make known bytes, and these are believed."""
    ballot, digest = ballot_of(vector), bytes.fromhex(vector["probe_digest"])
    data = wire.encode_ballot(ballot, vector["mesh"], digest)
    assert data.hex() == vector["hex"]
    assert wire.decode(data, "x", vector["mesh"], digest) == ballot
    reader = signatures(vector, "reader")
    key = GoldenSigner(vector["key"]).public_key
    reader.learn("x", Key(origin=vector["origin"], public_key=key))
    reader.check("x", ballot, np.array(vector["votes"]))


@pytest.mark.parametrize("vector", GOLDEN["ballots"], ids=lambda v: v["why"])
def test_a_signature_adds_little(vector: dict[str, Any]) -> None:
    """No more than the bound that the README gives."""
    ballot, digest = ballot_of(vector), bytes.fromhex(vector["probe_digest"])
    bare = wire.encode_ballot(replace(ballot, signature=b""), vector["mesh"], digest)
    signed = wire.encode_ballot(ballot, vector["mesh"], digest)
    assert 64 < len(signed) - len(bare) <= SIGNATURE_ADDS_MAX


@pytest.mark.parametrize("vector", GOLDEN["keys"], ids=lambda v: v["why"])
def test_golden_keys(vector: dict[str, Any]) -> None:
    """Known keys have known bytes, both ways."""
    key = Key(origin=vector["origin"], public_key=GoldenSigner(vector["key"]).public_key)
    assert wire.encode_key(key, vector["mesh"]).hex() == vector["hex"]
    assert wire.decode(bytes.fromhex(vector["hex"]), "x", vector["mesh"], DIGEST) == key


@pytest.mark.parametrize("vector", GOLDEN["proofs"], ids=lambda v: v["why"])
def test_golden_proofs(vector: dict[str, Any]) -> None:
    """A known proof is read, convinces, and is written again in the same bytes."""
    proof = wire.decode(bytes.fromhex(vector["hex"]), "x", vector["mesh"], DIGEST)
    assert isinstance(proof, Proof)
    assert wire.encode_proof(proof, vector["mesh"]).hex() == vector["hex"]
    reader = signatures(vector, "reader")
    key = GoldenSigner(vector["key"]).public_key
    reader.learn("x", Key(origin=vector["origin"], public_key=key))
    assert reader.convict("x", proof)
    assert reader.left_out == [vector["origin"]]


digests = st.binary(min_size=32, max_size=32)
signed = st.builds(Signed, digest=digests, signature=st.binary(min_size=64, max_size=64))
origins = st.text(alphabet="abcä-9", min_size=1, max_size=16)
proofs = st.tuples(origins, st.integers(1, limits.ROUND_MAX), signed, signed).filter(
    lambda t: t[2].digest != t[3].digest
)


@given(proofs)
def test_proofs_round_trip(parts: tuple[str, int, Signed, Signed]) -> None:
    """Any proof survives, and fits the buffer of the unpacker."""
    origin, round_, first, second = parts
    proof = Proof(origin=origin, round=round_, first=first, second=second)
    data = wire.encode_proof(proof, "m")
    assert len(data) <= wire.HEAD_BYTES_MAX
    assert wire.decode(data, "x", "m", DIGEST) == proof


@given(origins, digests)
def test_keys_round_trip(origin: str, public_key: bytes) -> None:
    """Any key survives."""
    key = Key(origin=origin, public_key=public_key)
    assert wire.decode(wire.encode_key(key, "m"), "x", "m", DIGEST) == key


def test_two_signatures_of_one_ballot_are_no_proof() -> None:
    """Neither made here nor believed from others."""
    one = Signed(digest=bytes(32), signature=bytes(64))
    with pytest.raises(LocalError, match="proves nothing"):
        Proof(origin="a", round=1, first=one, second=one)
    other = Signed(digest=bytes(31) + b"\x01", signature=bytes(64))
    data = wire.encode_proof(Proof(origin="a", round=1, first=one, second=other), "m")
    with pytest.raises(RemoteError, match="a proof with a field out of range"):
        wire.decode(data.replace(other.digest, one.digest), "x", "m", DIGEST)
