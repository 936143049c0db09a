"""What a peer puts on its outbox: messages as bytes, each counted as it is made."""

from tallynode.errors import LocalError
from tallynode.protocol import effects as ef
from tallynode.protocol import wire
from tallynode.protocol.counters import Counters
from tallynode.protocol.deltas import cut
from tallynode.protocol.messages import Ask, Ballot, Hello, Key, Proof, State
from tallynode.protocol.settings import PeerSettings


class Speaking:
    """Makes the Publish effects of one peer; of one without neighbours nothing is counted.

    Args:
        settings: this peer's view of the mesh.
        counters: where the bytes are counted.
    """

    def __init__(self, settings: PeerSettings, counters: Counters) -> None:
        self._settings = settings
        self._counters = counters if settings.reach else Counters()  # what nobody reads is free
        self._pieces = 0  # of the delta that stands on the outbox

    def hello(self, state: State) -> ef.Effect:
        """Announce what must agree, and what this peer is doing."""
        mine = self._settings
        hello = Hello(
            mesh=mine.mesh,
            origin=mine.name,
            probe_digest=mine.probe_digest,
            classes=mine.classes,
            per_round=mine.per_round or mine.probes,
            method=mine.said,
            state=state,
        )
        return self._control(wire.HELLO_TOPIC, wire.encode_hello(hello))

    def ask(self, neighbour: str, ask: Ask) -> ef.Effect:
        """Ask a neighbour for what leads to a ballot."""
        data = wire.encode_ask(ask, self._settings.mesh)
        return self._control(wire.ask_topic(neighbour), data, retain=False)

    def key(self, key: Key) -> ef.Publish:
        """Tell or pass on by which key an origin signs."""
        return self._control(wire.key_topic(key.origin), wire.encode_key(key, self._settings.mesh))

    def proof(self, proof: Proof) -> ef.Publish:
        """Tell or pass on that an origin has voted twice."""
        data = wire.encode_proof(proof, self._settings.mesh)
        return self._control(wire.proof_topic(proof.origin), data)

    def ballot(self, ballot: Ballot) -> ef.Effect:
        """Put the latest ballot of an origin on this peer's outbox."""
        return self._ballot(wire.ballot_topic(ballot.origin), ballot, retain=True)

    def answer(self, neighbour: str, ballot: Ballot) -> ef.Effect:
        """Answer a neighbour with a ballot."""
        return self._ballot(wire.answer_topic(neighbour), ballot, retain=False)

    def delta(self, round_: int, data: bytes) -> list[ef.Effect]:
        """Put this peer's delta of a round on its outbox, in place of the one before."""
        mine = self._settings
        if mine.bridge is None:
            raise LocalError("a delta where there is no bridge")
        out: list[ef.Effect] = []
        for piece in cut(mine.name, round_, mine.bridge.model, data):
            coded = wire.encode_piece(piece, mine.mesh)
            self._counters.delta += len(coded)
            out.append(ef.Publish(topic=wire.piece_topic(mine.name, piece.index), data=coded))
        now = len(out)
        for index in range(now, self._pieces):
            out.append(ef.Publish(topic=wire.piece_topic(mine.name, index), data=b""))
        self._pieces = now
        return out

    def _ballot(self, topic: str, ballot: Ballot, *, retain: bool) -> ef.Effect:
        data = wire.encode_ballot(ballot, self._settings.mesh, self._settings.probe_digest)
        of, coding = self._counters, ballot.coding.name.lower()
        of.ballot += len(data)
        of.by_coding[coding] = of.by_coding.get(coding, 0) + len(ballot.body)
        if ballot.origin != self._settings.name:
            of.relayed += len(data)
        return ef.Publish(topic=topic, data=data, retain=retain)

    def _control(self, topic: str, data: bytes, *, retain: bool = True) -> ef.Publish:
        self._counters.control += len(data)
        return ef.Publish(topic=topic, data=data, retain=retain)
