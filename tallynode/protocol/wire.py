"""Messages to bytes and back; no other module knows the bytes.

A message is a msgpack array (the head) and, for a ballot, the coded votes right behind it:

    ballot  [0x11, mesh tag (16 bits), origin, round, probe tag (32 bits), hops left, coding] votes
            with its origin's signature (64 bytes) as an eighth element where ballots are signed
    hello   [0x12, mesh, origin, probe digest (8 bytes), classes, probes a round, method, state]
    ask     [0x13, mesh tag, origin, round]
    key     [0x14, mesh tag, origin, public key (32 bytes)]
    proof   [0x15, mesh tag, origin, round, digest (32 bytes), signature, digest, signature]

The first element is 16 · version + kind. Tags are the first bits of a BLAKE2b digest: enough to
tell a stray message from ours, while Hello compares the whole. Topics on a peer's outbox:

    h             its Hello, retained
    v/<origin>    the latest ballot of an origin, its own or relayed, retained
    q/<peer>      asks to that neighbour
    a/<peer>      answers to that neighbour: ballots, oldest first
    k/<origin>    the key of an origin, retained
    x/<origin>    the proof that an origin has voted twice, retained
"""

import hashlib
from typing import Any

import msgpack

from tallynode.errors import RemoteError
from tallynode.protocol import limits
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.messages import Ask, Ballot, Hello, Key, Message, Proof, Signed, State

VERSION = 1
KIND_BALLOT = VERSION * 16 + 1
KIND_HELLO = VERSION * 16 + 2
KIND_ASK = VERSION * 16 + 3
KIND_KEY = VERSION * 16 + 4
KIND_PROOF = VERSION * 16 + 5
HELLO_TOPIC = "h"
MESH_TAG_BYTES = 2
PROBE_TAG_BYTES = 4
HEAD_BYTES_MAX = 256  # bytes of the msgpack head; the unpacker never buffers more


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


def mesh_tag(mesh: str) -> int:
    """16 bits that tell ballots of this mesh from those of another."""
    return int.from_bytes(hashlib.blake2b(mesh.encode(), digest_size=MESH_TAG_BYTES).digest())


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
        probe_tag(probe_digest),
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


def decode(data: bytes, sender: str, mesh: str, probe_digest: bytes) -> Message:
    """Bytes from the outbox of `sender` -> the message.

    Raises:
        RemoteError: anything but a message of this version, mesh and probe set.
    """
    head, rest = _split(data, sender)
    if head[0] == KIND_BALLOT:
        return _ballot(head, rest, sender, mesh, probe_digest)
    if head[0] == KIND_HELLO and not rest:
        return _hello(head, sender)
    if head[0] == KIND_ASK and not rest:
        return _ask(head, sender, mesh)
    if head[0] == KIND_KEY and not rest:
        return _key(head, sender, mesh)
    if head[0] == KIND_PROOF and not rest:
        return _proof(head, sender, mesh)
    if head[0] >> 4 != VERSION:
        why = f"speaks wire version {head[0] >> 4}, this peer {VERSION}"
        raise RemoteError(sender, why, differs=True)
    raise RemoteError(sender, "sent a message of an unknown kind")


def _split(data: bytes, sender: str) -> tuple[list[Any], bytes]:
    """The msgpack head and what follows it."""
    if len(data) > limits.MESSAGE_BYTES_MAX:
        raise RemoteError(sender, f"sent {len(data)} bytes, more than {limits.MESSAGE_BYTES_MAX}")
    unpacker = msgpack.Unpacker(
        max_buffer_size=HEAD_BYTES_MAX,
        max_array_len=8,
        max_map_len=0,
        max_str_len=limits.NAME_BYTES_MAX * 2,
        max_bin_len=limits.SIGNATURE_BYTES,
        max_ext_len=0,
    )
    unpacker.feed(data[:HEAD_BYTES_MAX])
    try:
        head = unpacker.unpack()
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise RemoteError(sender, "sent bytes that are not a message") from error
    if not isinstance(head, list) or not head or type(head[0]) is not int:
        raise RemoteError(sender, "sent bytes that are not a message")
    return head, data[unpacker.tell() :]


def _is_count(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_bytes(value: object, size: int) -> bool:
    return isinstance(value, bytes) and len(value) == size


def _is_name(value: object) -> bool:
    return (
        isinstance(value, str) and 1 <= len(value.encode(errors="replace")) <= limits.NAME_BYTES_MAX
    )


def _ballot(head: list[Any], body: bytes, sender: str, mesh: str, probe_digest: bytes) -> Ballot:
    if len(head) not in (7, 8):
        raise RemoteError(sender, f"sent a ballot with {len(head)} fields")
    _, tag, origin, round_, probes, hops_left, coding, *signatures = head
    if not _is_name(origin):
        raise RemoteError(sender, "sent a ballot without an origin")
    if type(tag) is not int or tag != mesh_tag(mesh):
        why = f"sent a ballot of {origin} that belongs to another mesh"
        raise RemoteError(sender, why, differs=True)
    if type(probes) is not int or probes != probe_tag(probe_digest):
        why = f"sent a ballot of {origin} on another probe set"
        raise RemoteError(sender, why, differs=True)
    if not _is_count(round_, 1, limits.ROUND_MAX):
        raise RemoteError(sender, f"sent a ballot of {origin} with no valid round")
    if not _is_count(hops_left, 0, limits.HOPS_MAX):
        raise RemoteError(sender, f"sent a ballot of {origin} with no valid hop count")
    if not _is_count(coding, 0, max(Coding)):
        raise RemoteError(sender, f"sent a ballot of {origin} in an unknown coding")
    if not all(_is_bytes(signature, limits.SIGNATURE_BYTES) for signature in signatures):
        raise RemoteError(sender, f"sent a ballot of {origin} with something else for a signature")
    return Ballot(
        origin=origin,
        round=round_,
        hops_left=hops_left,
        coding=Coding(coding),
        body=body,
        signature=signatures[0] if signatures else b"",
    )


def _check_mesh(head: list[Any], fields: int, sender: str, mesh: str) -> None:
    """Whether a short message has so many fields, and is of this mesh."""
    if len(head) != fields:
        raise RemoteError(sender, f"sent a message with {len(head)} fields")
    if type(head[1]) is not int or head[1] != mesh_tag(mesh):
        raise RemoteError(sender, "sent a message that belongs to another mesh", differs=True)


def _key(head: list[Any], sender: str, mesh: str) -> Key:
    _check_mesh(head, 4, sender, mesh)
    if not (_is_name(head[2]) and _is_bytes(head[3], limits.PUBLIC_KEY_BYTES)):
        raise RemoteError(sender, "sent a key with a field out of range")
    return Key(origin=head[2], public_key=head[3])


def _proof(head: list[Any], sender: str, mesh: str) -> Proof:
    _check_mesh(head, 8, sender, mesh)
    _, _, origin, round_, *signed = head
    fine = (
        _is_name(origin)
        and _is_count(round_, 1, limits.ROUND_MAX)
        and all(_is_bytes(digest, limits.DIGEST_BYTES) for digest in signed[::2])
        and all(_is_bytes(signature, limits.SIGNATURE_BYTES) for signature in signed[1::2])
        and signed[0] != signed[2]
    )
    if not fine:
        raise RemoteError(sender, "sent a proof with a field out of range")
    first, second = (Signed(digest=d, signature=s) for d, s in (signed[:2], signed[2:]))
    return Proof(origin=origin, round=round_, first=first, second=second)


def _ask(head: list[Any], sender: str, mesh: str) -> Ask:
    _check_mesh(head, 4, sender, mesh)
    if not (_is_name(head[2]) and _is_count(head[3], 1, limits.ROUND_MAX)):
        raise RemoteError(sender, "sent an ask with a field out of range")
    return Ask(origin=head[2], round=head[3])


def _hello(head: list[Any], sender: str) -> Hello:
    if len(head) != 8:
        raise RemoteError(sender, f"sent a hello with {len(head)} fields")
    _, mesh, origin, probe_digest, classes, per_round, method, state = head
    fine = (
        _is_name(mesh)
        and _is_name(origin)
        and _is_bytes(probe_digest, 8)
        and _is_count(classes, 2, limits.CLASSES_MAX)
        and _is_count(per_round, 1, limits.PROBES_MAX)
        and isinstance(method, str)
        and _is_count(state, 0, max(State))
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
