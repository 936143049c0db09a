"""Signatures of ballots: what is signed, whose key counts, and what two signatures prove.

A neighbour is known by its connection, but a ballot that travels could be forged by whoever relays
it. Where peers are pinned and ballots travel, an origin therefore signs

    [domain, mesh, seed, probe digest, origin, round, digest of the content]

that is what it votes and not in which bytes: relays and answers code a ballot anew, and its
signature still holds. An origin's public key travels as a message of its own, once; it counts only
where its hash is the ID that is pinned here. Two signatures of one origin for different contents of
one round prove that it has voted twice, to anybody who has its key (and need no ballot to be
shown).

A recorded ballot says nothing in another mesh, on other probes, under another seed or in another
round. A mesh that is begun anew with the same keys, name, seed and probes would hear its own past;
the mesh here is therefore its name with its epoch, as `topology.yaml` counts them.
"""

import hashlib
from typing import Protocol

import msgpack
import numpy as np

from tallynode.errors import LocalError, RemoteError
from tallynode.protocol import limits
from tallynode.protocol.messages import Ballot, Key, Proof, Signed
from tallynode.protocol.settings import PeerSettings

DOMAIN = "tallynode ballot 1"  # a signature of this key under anything else is no vote


class Signer(Protocol):
    """This peer's key, and what it knows of those of others; injected, since it takes a library."""

    @property
    def public_key(self) -> bytes:
        """Of this peer, 32 bytes."""

    def sign(self, message: bytes) -> bytes:
        """This peer's signature, 64 bytes."""

    def verify(self, public_key: bytes, signature: bytes, message: bytes) -> bool:
        """Whether a key has signed a message."""

    def owns(self, origin: str, public_key: bytes) -> bool:
        """Whether that is the key which is pinned for a peer, now."""


def digest_of(content: np.ndarray) -> bytes:
    """Votes (n,) of any integer type, or floats, -> 32 bytes that stand for them anywhere."""
    kind = "<f4" if content.dtype.kind == "f" else "<u4"
    plain = np.ascontiguousarray(content.astype(kind))
    return hashlib.blake2b(plain.tobytes(), digest_size=limits.DIGEST_BYTES).digest()


class Signatures:
    """The keys that are known here, and the proofs against their owners.

    Args:
        settings: this peer's view of the mesh.
        signer: this peer's key; None: peers are not pinned, and nothing is signed.
    """

    def __init__(self, settings: PeerSettings, signer: Signer | None) -> None:
        self._settings = settings
        self._signer = signer
        self._offered: dict[str, dict[str, bytes]] = {}  # origin -> by whom -> key
        self._proofs: dict[str, tuple[bytes, Proof]] = {}  # origin -> the key that signed, proof

    @property
    def used(self) -> bool:
        """Whether ballots are signed: pinned ones that travel."""
        return self._signer is not None and self._settings.hops > 1

    @property
    def left_out(self) -> list[str]:
        """Origins that were proved to vote twice and have got no other key since."""
        return sorted(name for name in self._proofs if self.has_voted_twice(name))

    def has_voted_twice(self, origin: str) -> bool:
        """Whether there is a proof against the key that is pinned for an origin."""
        if origin not in self._proofs or self._signer is None:
            return False
        return self._signer.owns(origin, self._proofs[origin][0])

    def own_key(self) -> Key:
        """What this peer tells of itself."""
        assert self._signer is not None
        return Key(origin=self._settings.name, public_key=self._signer.public_key)

    def key_of(self, origin: str) -> bytes | None:
        """The key that counts for an origin, if it is known."""
        assert self._signer is not None
        if origin == self._settings.name:
            return self._signer.public_key
        for key in self._offered.get(origin, {}).values():
            if self._signer.owns(origin, key):
                return key
        return None

    def learn(self, sender: str, key: Key) -> bool:
        """Take a key in, also one that may be pinned later; whether it counts and was not known.

        Raises:
            RemoteError: keys are of no use here.
        """
        if not self.used:
            raise RemoteError(sender, "sent a key, but nothing is signed here", differs=True)
        known = self.key_of(key.origin)
        self._offered.setdefault(key.origin, {})[sender] = key.public_key
        return known is None and self.key_of(key.origin) is not None

    def sign(self, round_: int, content: np.ndarray) -> bytes:
        """The signature of this peer's own ballot; nothing where none is used."""
        if not self.used:
            return b""
        assert self._signer is not None
        return self._signer.sign(self._statement(self._settings.name, round_, digest_of(content)))

    def check(self, sender: str, ballot: Ballot, content: np.ndarray) -> None:
        """Refuse a ballot that its origin has not signed, where it might be somebody else's.

        Raises:
            RemoteError: about the sender, which should not have passed it on.
        """
        origin = ballot.origin
        if self._signer is None:
            return
        if not self.used:
            if sender != origin:
                raise RemoteError(sender, f"sent a ballot of {origin}, but none travel here")
            return
        key = self.key_of(origin)
        if key is None:
            why = f"sent a ballot of {origin}, whose key is not known here"
            raise RemoteError(sender, why, differs=True)
        signed = Signed(digest=digest_of(content), signature=ballot.signature or bytes(64))
        if not self._holds(key, origin, ballot.round, signed):
            theirs = self._offered.get(origin, {}).get(sender, key)
            why = f"sent a ballot of {origin} that {origin} has not signed"
            raise RemoteError(sender, why, differs=theirs != key)

    def contradiction(
        self, ballot: Ballot, content: np.ndarray, known: bytes, known_content: np.ndarray
    ) -> Proof:
        """The proof that two checked ballots make; `known` is the signature of the earlier one."""
        return Proof(
            origin=ballot.origin,
            round=ballot.round,
            first=Signed(digest=digest_of(known_content), signature=known),
            second=Signed(digest=digest_of(content), signature=ballot.signature),
        )

    def convict(self, sender: str, proof: Proof) -> bool:
        """Check and keep a proof; whether it is new.

        Raises:
            RemoteError: it proves nothing.
        """
        if not self.used:
            raise RemoteError(sender, "sent a proof, but nothing is signed here", differs=True)
        if self.has_voted_twice(proof.origin):
            return False
        key = self.key_of(proof.origin)
        if key is None:
            why = f"sent a proof against {proof.origin}, whose key is not known here"
            raise RemoteError(sender, why, differs=True)
        both = (proof.first, proof.second)
        if not all(self._holds(key, proof.origin, proof.round, signed) for signed in both):
            theirs = self._offered.get(proof.origin, {}).get(sender, key)
            why = f"sent a proof against {proof.origin} that proves nothing"
            raise RemoteError(sender, why, differs=theirs != key)
        self._proofs[proof.origin] = (key, proof)
        return True

    def _holds(self, key: bytes, origin: str, round_: int, signed: Signed) -> bool:
        assert self._signer is not None
        statement = self._statement(origin, round_, signed.digest)
        return self._signer.verify(key, signed.signature, statement)

    def _statement(self, origin: str, round_: int, digest: bytes) -> bytes:
        mine = self._settings
        if len(digest) != limits.DIGEST_BYTES:
            raise LocalError(f"a digest of {len(digest)} bytes")
        fields = [DOMAIN, mine.mesh, str(mine.seed), mine.probe_digest, origin, round_, digest]
        return bytes(msgpack.packb(fields))
