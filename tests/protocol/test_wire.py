"""The wire: golden bytes, round trips, and what strangers send: a message or a RemoteError."""

import json
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tallynode.errors import LocalError, RemoteError
from tallynode.protocol import limits, wire
from tallynode.protocol.coding import packed
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.messages import Ask, Ballot, Hello, Message, Piece, State

# Added, never edited: other versions of the program out there speak these bytes.
GOLDEN = json.loads((Path(__file__).parent / "golden" / "wire-v1.json").read_text())
DIGEST = bytes(range(8))
MODEL = 3_735_928_559

names = st.text(min_size=1, max_size=32).filter(
    lambda s: len(s.encode(errors="replace")) <= 32 and s.isprintable()
)
ballots = st.builds(
    Ballot,
    origin=names,
    round=st.integers(1, limits.ROUND_MAX),
    hops_left=st.integers(0, limits.HOPS_MAX),
    coding=st.just(Coding.PACKED),
    body=st.binary(max_size=400),
)
hellos = st.builds(
    Hello,
    mesh=names,
    origin=names,
    probe_digest=st.binary(min_size=8, max_size=8),
    classes=st.integers(2, limits.CLASSES_MAX),
    per_round=st.integers(1, limits.PROBES_MAX),
    method=st.text(alphabet="abcxyz-", max_size=60),
    state=st.sampled_from(State),
)

pieces = st.integers(1, limits.PIECES_MAX).flatmap(
    lambda count: st.builds(
        Piece,
        origin=names,
        round=st.integers(1, limits.ROUND_MAX),
        index=st.integers(0, count - 1),
        count=st.just(count),
        model=st.integers(0, 2**32 - 1),
        body=st.binary(min_size=1, max_size=400),
    )
)


@pytest.mark.parametrize("vector", GOLDEN["ballots"], ids=lambda v: v["why"])
def test_golden_ballots(vector: dict[str, Any]) -> None:
    """Known ballots have known bytes, both ways."""
    digest = bytes.fromhex(vector["probe_digest"])
    coded = packed.encode(np.array(vector["votes"]), vector["classes"])
    ballot = Ballot(
        origin=vector["origin"],
        round=vector["round"],
        hops_left=vector["hops_left"],
        coding=Coding(vector["coding"]),
        body=coded,
    )
    data = bytes.fromhex(vector["hex"])
    assert wire.encode_ballot(ballot, vector["mesh"], digest).hex() == data.hex()
    assert wire.decode(data, "x", vector["mesh"], digest) == ballot
    assert packed.decode(coded, len(vector["votes"]), vector["classes"]).tolist() == vector["votes"]


@pytest.mark.parametrize("vector", GOLDEN["hellos"], ids=lambda v: v["why"])
def test_golden_hellos(vector: dict[str, Any]) -> None:
    """Known hellos have known bytes, both ways."""
    fields = {k: v for k, v in vector.items() if k not in ("why", "hex")}
    fields["probe_digest"] = bytes.fromhex(fields["probe_digest"])
    hello = Hello(**(fields | {"state": State[fields["state"]]}))
    assert wire.encode_hello(hello).hex() == vector["hex"]
    assert wire.decode(bytes.fromhex(vector["hex"]), "x", "m", DIGEST) == hello


@pytest.mark.parametrize("vector", GOLDEN["asks"], ids=lambda v: v["why"])
def test_golden_asks(vector: dict[str, Any]) -> None:
    """Known asks have known bytes, both ways."""
    ask = Ask(origin=vector["origin"], round=vector["round"])
    assert wire.encode_ask(ask, vector["mesh"]).hex() == vector["hex"]
    assert wire.decode(bytes.fromhex(vector["hex"]), "x", vector["mesh"], DIGEST) == ask


@pytest.mark.parametrize("vector", GOLDEN["pieces"], ids=lambda v: v["why"])
def test_golden_pieces(vector: dict[str, Any]) -> None:
    """Known pieces have known bytes, both ways."""
    fields = {k: v for k, v in vector.items() if k not in ("why", "mesh", "hex")}
    piece = Piece(**(fields | {"body": bytes.fromhex(fields["body"])}))
    assert wire.encode_piece(piece, vector["mesh"]).hex() == vector["hex"]
    assert wire.decode(bytes.fromhex(vector["hex"]), "x", vector["mesh"], DIGEST) == piece


@given(pieces, names)
def test_pieces_round_trip(piece: Piece, mesh: str) -> None:
    """Any piece survives."""
    assert wire.decode(wire.encode_piece(piece, mesh), "x", mesh, DIGEST) == piece


@given(st.data())
def test_damaged_pieces_are_a_message_or_refused(data: st.DataObject) -> None:
    """Flipped, cut and inserted bytes, and any field replaced, raise nothing but RemoteError."""
    good = bytearray(wire.encode_piece(data.draw(pieces), "m"))
    at = data.draw(st.integers(0, len(good)))
    good[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    decode_or_refuse(bytes(good))
    head: list[object] = [wire.KIND_PIECE, wire.mesh_tag("m"), "a", 3, 0, 1, MODEL]
    head[data.draw(st.integers(1, len(head) - 1))] = data.draw(json_like)
    message = decode_or_refuse(msgpack.packb(head) + b"body")
    assert message is None or wire.encode_piece(message, "m") == msgpack.packb(head) + b"body"


@pytest.mark.parametrize(
    ("field", "value"),
    [(2, ""), (3, 0), (4, 1), (4, -1), (5, 0), (5, limits.PIECES_MAX + 1), (6, 2**32), (6, 1.0)],
)
def test_pieces_out_of_range_are_refused(field: int, value: object) -> None:
    """Each field has its bounds, and there is no empty piece."""
    head: list[object] = [wire.KIND_PIECE, wire.mesh_tag("m"), "a", 3, 0, 1, MODEL]
    with pytest.raises(RemoteError, match="field out of range"):
        wire.decode(msgpack.packb(head), "s", "m", DIGEST)
    head[field] = value
    with pytest.raises(RemoteError, match="field out of range"):
        wire.decode(msgpack.packb(head) + b"x", "s", "m", DIGEST)


@given(ballots, names)
def test_ballots_round_trip(ballot: Ballot, mesh: str) -> None:
    """Any ballot survives."""
    assert wire.decode(wire.encode_ballot(ballot, mesh, DIGEST), "x", mesh, DIGEST) == ballot


@given(hellos)
def test_hellos_round_trip(hello: Hello) -> None:
    """Any hello survives."""
    assert wire.decode(wire.encode_hello(hello), "x", "m", DIGEST) == hello


def decode_or_refuse(data: bytes) -> Message | None:
    """The message, or None where it was refused in the only way there is."""
    try:
        return wire.decode(data, "stranger", "m", DIGEST)
    except RemoteError:
        return None


HOSTILE_HEADS: list[object] = [
    [],
    {},
    None,
    17,
    17.0,
    [17.0, 1, 2],
    [True],
    [None],
    [[[[[[]]]]]],
    [2**64 - 1],
    [-(2**63)],
    ["x" * 64],
    [b"x" * 8],
    [msgpack.Timestamp(0)],
    [msgpack.ExtType(5, b"")],
    [float("nan")],
    [0x21, "later", "version"],
    [wire.KIND_BALLOT, [], {}, None, [], {}, 1.5],
    [wire.KIND_HELLO, [], {}, None, [], {}, 1.5, True],
]


@given(st.binary(max_size=300))
@example(b"")
@example(b"\xc1")
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\xdb\xff\xff\xff\xff")
@example(b"\xc6\xff\xff\xff\xff")
@example(b"\xdf\xff\xff\xff\xff")
@example(b"\x91" * 256)
@example(b"\x91\xa3\xed\xa0\x80")
@example(b"\x81\x90\x01")
@example(b"\x91\xd6\xff\x00\x00\x00\x00")
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    """Whatever a stranger sends, decode returns a message or raises RemoteError about it."""
    decode_or_refuse(data)


@pytest.mark.parametrize("head", HOSTILE_HEADS, ids=repr)
def test_hostile_heads_are_refused(head: object) -> None:
    """Every well-formed msgpack value that is no message of ours is refused."""
    with pytest.raises(RemoteError):
        wire.decode(msgpack.packb(head), "stranger", "m", DIGEST)


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=70)
    | st.binary(max_size=10),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


@given(st.data())
def test_a_message_with_any_field_replaced_is_a_message_or_refused(data: st.DataObject) -> None:
    """One field of a valid head, made anything at all, never gets past the checks half-read."""
    if data.draw(st.booleans()):
        good = wire.encode_ballot(data.draw(ballots), "m", DIGEST)
    else:
        good = wire.encode_hello(data.draw(hellos))
    unpacker = msgpack.Unpacker()
    unpacker.feed(good)
    head = unpacker.unpack()
    rest = good[unpacker.tell() :]
    head[data.draw(st.integers(0, len(head) - 1))] = data.draw(json_like)
    message = decode_or_refuse(msgpack.packb(head) + rest)
    if message is None:
        return
    if isinstance(message, Ballot):
        assert type(message.round) is int
        assert type(message.hops_left) is int
        assert wire.encode_ballot(message, "m", DIGEST) == msgpack.packb(head) + rest
    else:
        assert wire.encode_hello(message) == msgpack.packb(head)


@given(st.data())
def test_mutated_messages_are_a_message_or_refused(data: st.DataObject) -> None:
    """Flipped, cut and inserted bytes raise nothing but RemoteError."""
    good = bytearray(wire.encode_ballot(data.draw(ballots), "m", DIGEST))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(good)))
        good[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    decode_or_refuse(bytes(good))


HEAD = [wire.KIND_BALLOT, wire.mesh_tag("m"), "a", 3, wire.probe_tag(DIGEST), 1, 0]


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        (0, 0x21, "speaks wire version 2, this peer 1"),
        (0, 0x13, "unknown kind"),
        (1, wire.mesh_tag("other"), "belongs to another mesh"),
        (2, "", "without an origin"),
        (2, "x" * 33, "without an origin"),
        (3, 0, "no valid round"),
        (3, 2**32, "no valid round"),
        (3, 3.0, "no valid round"),
        (3, True, "no valid round"),
        (4, b"\xff" * 4, "another probe set"),
        (5, -1, "no valid hop count"),
        (5, 256, "no valid hop count"),
        (6, 9, "unknown coding"),
    ],
)
def test_refusals_say_which(field: int, value: object, why: str) -> None:
    """A refused ballot is refused for the reason that a person needs to read."""
    head = [*HEAD[:field], value, *HEAD[field + 1 :]]
    with pytest.raises(RemoteError, match=why):
        wire.decode(msgpack.packb(head) + b"votes", "stranger", "m", DIGEST)


def test_a_head_with_other_fields_is_refused() -> None:
    """Fewer or more fields than the version has are refused by their number."""
    with pytest.raises(RemoteError, match="ballot with 6 fields"):
        wire.decode(msgpack.packb(HEAD[:6]), "s", "m", DIGEST)
    with pytest.raises(RemoteError, match="hello with 2 fields"):
        wire.decode(msgpack.packb([wire.KIND_HELLO, "m"]), "s", "m", DIGEST)


def test_a_hello_with_junk_behind_it_is_refused() -> None:
    """Nothing may follow a hello."""
    hello = Hello(
        mesh="m",
        origin="a",
        probe_digest=DIGEST,
        classes=2,
        per_round=1,
        method="tally",
        state=State.RUNNING,
    )
    with pytest.raises(RemoteError, match="unknown kind"):
        wire.decode(wire.encode_hello(hello) + b"\x00", "s", "m", DIGEST)


def test_too_many_bytes_are_refused_unread() -> None:
    """A message above the limit is refused by its length."""
    with pytest.raises(RemoteError, match="more than 262144"):
        wire.decode(b"\x97" * (limits.MESSAGE_BYTES_MAX + 1), "s", "m", DIGEST)


def test_impossible_messages_of_our_own_crash() -> None:
    """A name, round or hop count out of range is our own bug, seen when the message is built."""
    good: dict[str, Any] = {"origin": "a", "round": 1, "hops_left": 0, "body": b""}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"origin": ""}, "name must have"),
        ({"origin": "ä" * 17}, "name must have"),
        ({"round": 0}, "round 0"),
        ({"hops_left": 256}, "256 hops"),
    ]
    for bad, why in cases:
        with pytest.raises(LocalError, match=why):
            Ballot(coding=Coding.PACKED, **(good | bad))
