"""Signed meshes on paper: what is believed, what is not, and what becomes of who votes twice."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallynode.errors import RemoteError
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import graph, wire
from tallynode.protocol.coding import packed
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.messages import Ballot, Key, Proof, Signed
from tallynode.protocol.peer import Peer
from tallynode.protocol.settings import RoundSettings
from tallynode.protocol.signing import Signatures, digest_of

from .conftest import DIGEST, PaperSigner, Play, key_of, settings_for

LINE = graph.of_pairs([("a", "b"), ("b", "c"), ("c", "d")])
RING = graph.of_pairs([("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")])
VOTES = np.arange(12) % 3
NEIGHBOURS = {"a": ("b",), "b": ("a", "c"), "c": ("b",)}  # as a sees it: c lies beyond b


def signed(
    votes: np.ndarray = VOTES,
    *,
    origin: str = "c",
    round_: int = 1,
    by: str = "",
    hops_left: int = 1,
    **mesh: Any,
) -> bytes:
    """A ballot of c's as b relays it, signed by whom and for which mesh a test says."""
    view = settings_for("c", NEIGHBOURS, 2, RoundSettings(), **mesh)
    signatures = Signatures(replace(view, name=origin), PaperSigner(by or origin))
    ballot = Ballot(
        origin=origin,
        round=round_,
        hops_left=hops_left,
        coding=Coding.PACKED,
        body=packed.encode(votes, 3),
        signature=signatures.sign(round_, votes),
    )
    return wire.encode_ballot(ballot, "play", DIGEST)


@pytest.fixture
def peer() -> Peer:
    """Peer a of the line a - b - c, in round 1; it has c's key from b."""
    made = Peer(settings_for("a", NEIGHBOURS, 3, RoundSettings()), signer=PaperSigner("a"))
    made.step(ev.Started(), 0.0)
    made.step(ev.LinkUp(neighbour="b"), 0.0)
    for origin in "bc":
        key = wire.encode_key(Key(origin=origin, public_key=key_of(origin)), "play")
        hear(made, key, f"k/{origin}")
    return made


def judge_of(key: Key) -> Signatures:
    """A peer that has heard a key and nothing else."""
    made = Signatures(settings_for("a", NEIGHBOURS, 2, RoundSettings()), PaperSigner("a"))
    made.learn("b", key)
    return made


def hear(peer: Peer, data: bytes, topic: str = "v/c", now: float = 1.0) -> list[ef.Effect]:
    """What peer a does about a message from b."""
    return peer.step(ev.Received(neighbour="b", topic=topic, data=data), now)


def test_a_signed_mesh_hears_everybody(play: Callable[..., Play]) -> None:
    """Over three hops all ballots count in every round, each is signed, and none is refused."""
    scene = play(LINE, pinned=True, rounds=RoundSettings(count=6))
    scene.start()
    scene.run()
    for name in scene.names:
        assert [report["voters"] for report in scene.reports(name).values()] == [4] * 6
        assert scene.refusals(name) == []
        assert all(len(ballot.signature) == 64 for ballot in scene.ballots(name))


@pytest.mark.parametrize(
    ("method", "extra", "content"),
    [
        ("fd", {"bits": 0}, np.full((12, 3), 1 / 3)),
        ("fd", {"bits": 4}, np.linspace(0.1, 1, 36).reshape(12, 3)),
        ("fedavg", {"parameters": 5}, np.linspace(-1, 1, 6)),
    ],
)
def test_other_contents_are_signed_as_they_are_read(
    method: str, extra: dict[str, Any], content: np.ndarray
) -> None:
    """What a receiver decodes has the digest that the sender signed, whatever is sent."""
    if method == "fd":
        content = content / content.sum(axis=1, keepdims=True)
    view = settings_for("a", NEIGHBOURS, 2, RoundSettings(), method=method, **extra)
    sender, reader = Peer(view).hearing.contents, Peer(view).hearing.contents
    held = sender.encode(1, content.astype(np.float32))
    again = reader.decode("b", 1, held.coding, held.coded)
    assert digest_of(again.content) == digest_of(held.content)


def test_one_hop_sends_no_signatures(play: Callable[..., Play]) -> None:
    """Ballots that do not travel are believed by their connection, and by no other one."""
    scene = play(graph.of_pairs([("a", "b"), ("b", "c"), ("a", "c")]), hops=1, pinned=True)
    scene.start()
    scene.run(until=lambda: scene.round_of("a") == 3)
    assert {ballot.signature for ballot in scene.ballots("a")} == {b""}
    forged = wire.encode_ballot(replace(scene.ballots("c")[-1], round=50), "play", DIGEST)
    scene.tell("a", ev.Received(neighbour="b", topic="v/c", data=forged))
    assert ("b", "sent a ballot of c, but none travel here") in scene.refusals("a")


REFUSED = [
    (signed(by="b"), "forged by the relay"),
    (signed(mesh="other"), "replayed from another mesh"),
    (signed(seed=8), "replayed from the mesh as it was begun before"),
    (signed(probe_digest=bytes(8)), "replayed from other probes"),
    (signed(origin="b", by="b").replace(b"\xa1b", b"\xa1c"), "the relay's own, renamed"),
    (signed(round_=2).replace(b"\xa1c\x02", b"\xa1c\x01"), "an old round's, renumbered"),
    (signed()[:-1] + b"\x00", "with other votes"),
    (
        wire.encode_ballot(
            Ballot(
                origin="c",
                round=1,
                hops_left=1,
                coding=Coding.PACKED,
                body=packed.encode(VOTES, 3),
            ),
            "play",
            DIGEST,
        ),
        "not signed",
    ),
]


@pytest.mark.parametrize(("data", "what"), REFUSED, ids=[what for _, what in REFUSED])
def test_what_its_origin_has_not_signed_is_refused(peer: Peer, data: bytes, what: str) -> None:
    """The relay is named and charged, nothing is held, nothing goes on, and the true one counts."""
    (log,) = hear(peer, data)
    assert isinstance(log, ef.Log)
    assert log.fields == {"peer": "b", "why": "sent a ballot of c that c has not signed"}
    assert peer.hearing.box.get("c", 1) is None
    assert any(isinstance(effect, ef.Publish) for effect in hear(peer, signed()))
    assert peer.hearing.box.get("c", 1) is not None


def test_an_old_round_says_nothing(peer: Peer) -> None:
    """A true ballot that is played again later is a duplicate: neither held nor passed on."""
    hear(peer, signed(round_=1))
    hear(peer, signed(round_=9))
    peer.hearing.round = 9
    peer.hearing.box.forget_before(8)
    assert hear(peer, signed(round_=1)) == []
    assert peer.hearing.box.get("c", 1) is None


def test_a_key_that_is_not_pinned_does_not_count(peer: Peer) -> None:
    """Whoever relays a false key changes nothing about the true one, nor is it passed on."""
    false = wire.encode_key(Key(origin="c", public_key=key_of("b")), "play")
    assert hear(peer, false, "k/c") == []
    hear(peer, signed(by="b"))
    assert peer.hearing.box.get("c", 1) is None


class TwoFaced(Play):
    """A play in which c hears other ballots of d than everybody else, all of them signed by d."""

    def _deliver(self, reader: str, outbox: str, topic: str, data: bytes) -> None:
        ballot = self.decode(data)
        at = (reader, outbox, topic) == ("c", "d", "v/d")
        if at and isinstance(ballot, Ballot) and ballot.round > 5:
            data = signed((VOTES + 1) % 3, origin="d", round_=ballot.round, hops_left=2)
        super()._deliver(reader, outbox, topic, data)


def test_keys_and_proofs_mean_nothing_where_nothing_is_signed() -> None:
    """An unpinned peer refuses them; found by scripts/fuzz_messages, which ended one by a key."""
    made = Peer(settings_for("a", NEIGHBOURS, 2, RoundSettings()))
    made.step(ev.Started(), 0.0)
    key = wire.encode_key(Key(origin="c", public_key=key_of("c")), "play")
    one, other = (Signed(digest=bytes([n]) * 32, signature=bytes(64)) for n in (1, 2))
    proof = wire.encode_proof(Proof(origin="c", round=1, first=one, second=other), "play")
    for topic, data in (("k/c", key), ("x/c", proof)):
        (log,) = hear(made, data, topic)
        assert isinstance(log, ef.Log)
        assert "nothing is signed here" in str(log.fields["why"])


def test_who_votes_twice_is_left_out_by_all() -> None:
    """Each neighbour hears one ballot only, but they compare: all learn it, restarted ones too."""
    scene = TwoFaced(RING, pinned=True, rounds=RoundSettings(count=60))
    scene.start()
    scene.run(until=lambda: min(scene.round_of(n) for n in scene.names) == 40)
    for name in "abc":
        assert scene.said(name).count("voted twice in one round: left out") == 1
        last = list(scene.reports(name).values())[-1]
        assert (last["voters"], last["left_out"]) == (3, ["d"])
    scene.kill("b")
    scene.start("b")
    scene.run(until_s=scene.now + 2)
    assert scene.said("b").count("voted twice in one round: left out") == 2
    assert list(scene.reports("b").values())[-1]["voters"] == 3


def test_a_proof_that_proves_nothing_is_refused(peer: Peer) -> None:
    """Nobody can talk a voter out of the mesh: neither by a forged ballot nor by a replayed one."""
    signatures = Signatures(settings_for("c", NEIGHBOURS, 2, RoundSettings()), PaperSigner("c"))
    first, second = (
        wire.decode(signed(votes, **how), "x", "play", DIGEST)
        for votes, how in ((VOTES, {}), ((VOTES + 1) % 3, {"by": "b"}))
    )
    assert isinstance(first, Ballot)
    assert isinstance(second, Ballot)
    proof = signatures.contradiction(second, (VOTES + 1) % 3, first.signature, VOTES)
    (log,) = hear(peer, wire.encode_proof(proof, "play"), "x/c")
    assert isinstance(log, ef.Log)
    assert log.fields == {"peer": "b", "why": "sent a proof against c that proves nothing"}
    assert peer.hearing.signatures.left_out == []


def test_a_peer_whose_disk_lost_its_vote_does_not_vote_again(play: Callable[..., Play]) -> None:
    """The mesh remembers: who comes back without its state goes on after its last signed round."""
    scene = play(LINE, pinned=True, train_s={"b": 0.05})
    scene.start()
    scene.run(until=lambda: min(scene.round_of(n) for n in scene.names) == 5)
    cast = {ballot.round: ballot.body for ballot in scene.ballots("b")}
    scene.kill("b")
    scene.saved.pop("b")
    scene.start("b")
    scene.run(until_s=scene.now + 3)
    later = scene.ballots("b")[len(cast) :]
    assert later
    assert min(ballot.round for ballot in later) > max(cast)
    for name in "acd":
        assert scene.peers[name].hearing.signatures.left_out == []


def test_a_peer_whose_disk_lost_its_last_vote_ends_without_another(
    play: Callable[..., Play],
) -> None:
    """Also in the last round, after which there is none to vote in instead."""
    rounds = RoundSettings(count=8, linger_s=30.0, deadline_min_s=5.0)
    scene = play(LINE, pinned=True, rounds=rounds, train_s={"d": 3.0})
    scene.start()
    scene.run(until=lambda: scene.round_of("b") == 4)
    old = scene.saved["b"]
    scene.run(until=lambda: scene.ballots("b")[-1].round == 8)
    scene.run(until_s=scene.now + 0.1)
    scene.kill("b")
    scene.saved["b"] = old
    scene.votes = lambda index, round_, probes: (probes + index + round_) % 3  # another learner
    cast = len(scene.ballots("b"))
    scene.start("b")
    scene.run(until_s=scene.now + 20)
    assert {ballot.round for ballot in scene.ballots("b")[cast:]} == {3}  # as it stood on the disk
    assert scene.finished()
    for name in "acd":
        assert scene.peers[name].hearing.signatures.left_out == []


def test_a_proof_against_oneself_ends_nothing(peer: Peer) -> None:
    """A device whose disk was copied hears that it votes twice, and goes on for itself."""
    peer.step(ev.Trained(round=1, content=VOTES), 1.0)
    signatures = Signatures(settings_for("a", NEIGHBOURS, 3, RoundSettings()), PaperSigner("a"))
    both = (VOTES, (VOTES + 1) % 3)
    first, second = (
        Signed(digest=digest_of(votes), signature=signatures.sign(1, votes)) for votes in both
    )
    proof = Proof(origin="a", round=1, first=first, second=second)
    hear(peer, wire.encode_proof(proof, "play"), "x/a", now=2.0)
    assert peer.hearing.signatures.left_out == ["a"]
    effects = peer.step(ev.Tick(), 10_000.0)
    assert [effect.round for effect in effects if isinstance(effect, ef.Learn)] == [1]


def test_a_pinned_peer_without_voters_looks_at_nobody() -> None:
    """Audits are of others: alone, a peer goes through its rounds."""
    made = Peer(settings_for("a", {"a": ()}, 3, RoundSettings(count=5)), signer=PaperSigner("a"))
    effects = made.step(ev.Started(), 0.0) + made.step(ev.Tick(), 1_000.0)
    for round_ in range(1, 6):
        assert [e.round for e in effects if isinstance(e, ef.Train)] == [round_]
        made.step(ev.Trained(round=round_, content=VOTES), 1_000.0 + round_)
        effects = made.step(ev.Learned(round=round_, metrics={}), 1_000.5 + round_)
    assert any(isinstance(effect, ef.Finish) for effect in effects)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(0, 2), min_size=12, max_size=12),
    st.lists(st.integers(0, 2), min_size=12, max_size=12),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_two_ballots_are_a_proof_if_and_only_if_they_differ_in_one_round(
    one: list[int], other: list[int], r: int, s: int
) -> None:
    """Whatever is voted: the proof that comes out convinces another peer, and nothing else does."""
    made = Peer(settings_for("a", NEIGHBOURS, 3, RoundSettings()), signer=PaperSigner("a"))
    key = Key(origin="c", public_key=key_of("c"))
    hear(made, wire.encode_key(key, "play"), "k/c")
    hear(made, signed(np.array(one), round_=r))
    out = hear(made, signed(np.array(other), round_=s))
    proofs = [effect.data for effect in out if isinstance(effect, ef.Publish)]
    proofs = [data for data in proofs if data[1] == wire.KIND_PROOF]
    assert bool(proofs) == (r == s and one != other) == bool(made.hearing.signatures.left_out)
    for data in proofs:
        proof = wire.decode(data, "b", "play", DIGEST)
        assert isinstance(proof, Proof)
        assert judge_of(key).convict("b", proof)
        with pytest.raises(RemoteError, match="proves nothing"):
            judge_of(key).convict("b", replace(proof, round=r + 1))
