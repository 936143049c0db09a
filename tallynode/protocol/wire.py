"""Messages to bytes and back; no other module knows the bytes.

A message is a msgpack array (the head) and, for a ballot or a piece, coded bytes right behind it:

    ballot  [0x11, mesh tag (16 bits), origin, round, probe tag (32 bits), hops left, coding] votes
            with its origin's signature (64 bytes) as an eighth element where ballots are signed
            where peers choose probes, the probe tag is xor the tag of the choice
            where learners may vote, what the voter holds follows the votes: holdings.py
    hello   [0x12, mesh, origin, probe digest (8 bytes), classes, probes a round, method, state]
    ask     [0x13, mesh tag, origin, round]
    key     [0x14, mesh tag, origin, public key (32 bytes)]
    proof   [0x15, mesh tag, origin, round, digest (32 bytes), signature, digest, signature]
    piece   [0x16, mesh tag, origin, round, index, count, model tag (32 bits)] bytes of a delta

The first element is 16 · version + kind. Tags are the first bits of a BLAKE2b digest: enough to
tell a stray message from ours, while Hello compares the whole. Topics on a peer's outbox:

    h             its Hello, retained
    v/<origin>    the latest ballot of an origin, its own or relayed, retained
    q/<peer>      asks to that neighbour
    a/<peer>      answers to that neighbour: ballots, oldest first
    k/<origin>    the key of an origin, retained
    x/<origin>    the proof that an origin has voted twice, retained
    d/<origin>/<index>    a piece of its own latest delta, retained; see deltas.py
"""

from dataclasses import replace
from typing import Any

import msgpack

from tallynode.errors import RemoteError
from tallynode.protocol import limits
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.heads import HEAD_BYTES_MAX as HEAD_BYTES_MAX
from tallynode.protocol.heads import check_mesh, is_bytes, is_count, is_name, split
from tallynode.protocol.heads import mesh_tag as mesh_tag
from tallynode.protocol.messages import (
    Ask,
    Ballot,
    Hello,
    Key,
    Message,
    Piece,
    Proof,
    Signed,
    State,
)

VERSION = 1
KIND_BALLOT = VERSION * 16 + 1
KIND_HELLO = VERSION * 16 + 2
KIND_ASK = VERSION * 16 + 3
KIND_KEY = VERSION * 16 + 4
KIND_PROOF = VERSION * 16 + 5
KIND_PIECE = VERSION * 16 + 6
HELLO_TOPIC = "h"
PROBE_TAG_BYTES = 4
PROBE_TAG_MAX = (1 << 8 * PROBE_TAG_BYTES) - 1
CODING_MAX = max(Coding)  # looked up once: it is asked of each ballot


def ballot_topic(origin: str) -> str:
    """The topic on which an outbox carries the ballots of `origin`."""
    return f"v/{origin}"


def ask_topic(peer: str) -> str:
    """The topic on which an outbox carries asks to `peer`."""
    return f"q/{peer}"


def answer_topic(peer: str) -> str:
    """The topic on which an outbox carries answers to `peer`."""
    return f"a/{peer}"


def key_topic(origin: str) -> str:
    """The topic on which an outbox carries the key of `origin`."""
    return f"k/{origin}"


def proof_topic(origin: str) -> str:
    """The topic on which an outbox carries the proof against `origin`."""
    return f"x/{origin}"


def piece_topic(origin: str, index: int) -> str:
    """The topic on which an outbox carries a piece of its peer's latest delta."""
    return f"d/{origin}/{index}"


def probe_tag(probe_digest: bytes) -> int:
    """32 bits that tell ballots on these probes from those on others."""
    return int.from_bytes(probe_digest[:PROBE_TAG_BYTES])


def encode_ballot(ballot: Ballot, mesh: str, probe_digest: bytes) -> bytes:
    """A ballot as bytes."""
    head = [
        KIND_BALLOT,
        mesh_tag(mesh),
        ballot.origin,
        ballot.round,
        probe_tag(probe_digest) ^ ballot.choice,
        ballot.hops_left,
        int(ballot.coding),
        *([ballot.signature] if ballot.signature else []),
    ]
    return bytes(msgpack.packb(head)) + ballot.body


def encode_ask(ask: Ask, mesh: str) -> bytes:
    """An ask as bytes."""
    return bytes(msgpack.packb([KIND_ASK, mesh_tag(mesh), ask.origin, ask.round]))


def encode_key(key: Key, mesh: str) -> bytes:
    """A key as bytes."""
    return bytes(msgpack.packb([KIND_KEY, mesh_tag(mesh), key.origin, key.public_key]))


def encode_proof(proof: Proof, mesh: str) -> bytes:
    """A proof as bytes."""
    head = [
        KIND_PROOF,
        mesh_tag(mesh),
        proof.origin,
        proof.round,
        proof.first.digest,
        proof.first.signature,
        proof.second.digest,
        proof.second.signature,
    ]
    return bytes(msgpack.packb(head))


def encode_piece(piece: Piece, mesh: str) -> bytes:
    """A piece as bytes."""
    head = [
        KIND_PIECE,
        mesh_tag(mesh),
        piece.origin,
        piece.round,
        piece.index,
        piece.count,
        piece.model,
    ]
    return bytes(msgpack.packb(head)) + piece.body


def encode_hello(hello: Hello) -> bytes:
    """A hello as bytes."""
    head = [
        KIND_HELLO,
        hello.mesh,
        hello.origin,
        hello.probe_digest,
        hello.classes,
        hello.per_round,
        hello.method,
        int(hello.state),
    ]
    return bytes(msgpack.packb(head))


def decode(
    data: bytes, sender: str, mesh: str, probe_digest: bytes, *, chosen: bool = False
) -> Message:
    """Bytes from the outbox of `sender` -> the message; `chosen`: its probe tag tells a choice.

    Raises:
        RemoteError: anything but a message of this version, mesh and probe set.
    """
    head, rest = split(data, sender)
    if head[0] == KIND_BALLOT:
        ballot = _ballot(head, rest, sender, mesh)
        choice = head[4] ^ probe_tag(probe_digest)
        if choice and not chosen:
            why = f"sent a ballot of {ballot.origin} on another probe set"
            raise RemoteError(sender, why, differs=True)
        return replace(ballot, choice=choice)
    if head[0] == KIND_HELLO and not rest:
        return _hello(head, sender)
    if head[0] == KIND_ASK and not rest:
        return _ask(head, sender, mesh)
    if head[0] == KIND_KEY and not rest:
        return _key(head, sender, mesh)
    if head[0] == KIND_PROOF and not rest:
        return _proof(head, sender, mesh)
    if head[0] == KIND_PIECE:
        return _piece(head, rest, sender, mesh)
    if head[0] >> 4 != VERSION:
        why = f"speaks wire version {head[0] >> 4}, this peer {VERSION}"
        raise RemoteError(sender, why, differs=True)
    raise RemoteError(sender, "sent a message of an unknown kind")


def _ballot(head: list[Any], body: bytes, sender: str, mesh: str) -> Ballot:
    if len(head) not in (7, 8):
        raise RemoteError(sender, f"sent a ballot with {len(head)} fields")
    _, tag, origin, round_, probes, hops_left, coding, *signatures = head
    if not is_name(origin):
        raise RemoteError(sender, "sent a ballot without an origin")
    if type(tag) is not int or tag != mesh_tag(mesh):
        why = f"sent a ballot of {origin} that belongs to another mesh"
        raise RemoteError(sender, why, differs=True)
    if not is_count(probes, 0, PROBE_TAG_MAX):
        raise RemoteError(sender, f"sent a ballot of {origin} on another probe set", differs=True)
    if not is_count(round_, 1, limits.ROUND_MAX):
        raise RemoteError(sender, f"sent a ballot of {origin} with no valid round")
    if not is_count(hops_left, 0, limits.HOPS_MAX):
        raise RemoteError(sender, f"sent a ballot of {origin} with no valid hop count")
    if not is_count(coding, 0, CODING_MAX):
        raise RemoteError(sender, f"sent a ballot of {origin} in an unknown coding")
    if not all(is_bytes(signature, limits.SIGNATURE_BYTES) for signature in signatures):
        raise RemoteError(sender, f"sent a ballot of {origin} with something else for a signature")
    return Ballot(
        origin=origin,
        round=round_,
        hops_left=hops_left,
        coding=Coding(coding),
        body=body,
        signature=signatures[0] if signatures else b"",
    )


def _key(head: list[Any], sender: str, mesh: str) -> Key:
    check_mesh(head, 4, sender, mesh)
    if not (is_name(head[2]) and is_bytes(head[3], limits.PUBLIC_KEY_BYTES)):
        raise RemoteError(sender, "sent a key with a field out of range")
    return Key(origin=head[2], public_key=head[3])


def _proof(head: list[Any], sender: str, mesh: str) -> Proof:
    check_mesh(head, 8, sender, mesh)
    _, _, origin, round_, *signed = head
    fine = (
        is_name(origin)
        and is_count(round_, 1, limits.ROUND_MAX)
        and all(is_bytes(digest, limits.DIGEST_BYTES) for digest in signed[::2])
        and all(is_bytes(signature, limits.SIGNATURE_BYTES) for signature in signed[1::2])
        and signed[0] != signed[2]
    )
    if not fine:
        raise RemoteError(sender, "sent a proof with a field out of range")
    first, second = (Signed(digest=d, signature=s) for d, s in (signed[:2], signed[2:]))
    return Proof(origin=origin, round=round_, first=first, second=second)


def _piece(head: list[Any], body: bytes, sender: str, mesh: str) -> Piece:
    check_mesh(head, 7, sender, mesh)
    _, _, origin, round_, index, count, model = head
    fine = (
        is_name(origin)
        and is_count(round_, 1, limits.ROUND_MAX)
        and is_count(count, 1, limits.PIECES_MAX)
        and is_count(index, 0, count - 1)
        and is_count(model, 0, 2**32 - 1)
        and 1 <= len(body) <= limits.PIECE_BYTES_MAX
    )
    if not fine:
        raise RemoteError(sender, "sent a piece of a delta with a field out of range")
    return Piece(origin=origin, round=round_, index=index, count=count, model=model, body=body)


def _ask(head: list[Any], sender: str, mesh: str) -> Ask:
    check_mesh(head, 4, sender, mesh)
    if not (is_name(head[2]) and is_count(head[3], 1, limits.ROUND_MAX)):
        raise RemoteError(sender, "sent an ask with a field out of range")
    return Ask(origin=head[2], round=head[3])


def _hello(head: list[Any], sender: str) -> Hello:
    if len(head) != 8:
        raise RemoteError(sender, f"sent a hello with {len(head)} fields")
    _, mesh, origin, probe_digest, classes, per_round, method, state = head
    fine = (
        is_name(mesh)
        and is_name(origin)
        and is_bytes(probe_digest, 8)
        and is_count(classes, 2, limits.CLASSES_MAX)
        and is_count(per_round, 1, limits.PROBES_MAX)
        and isinstance(method, str)
        and is_count(state, 0, max(State))
    )
    if not fine:
        raise RemoteError(sender, "sent a hello with a field out of range")
    return Hello(
        mesh=mesh,
        origin=origin,
        probe_digest=probe_digest,
        classes=classes,
        per_round=per_round,
        method=method,
        state=State(state),
    )
