"""Keys and proofs as messages: taken in, passed on, kept over a restart.

A key is passed on before the first ballot that it has signed, and read before ballots are, so that
whoever hears a ballot can check it. A proof is passed on by everybody who finds it true; from then
on the voter has no say here, until another key is pinned for its name.
"""

from collections.abc import Iterable, Mapping

from tallynode.errors import RemoteError
from tallynode.protocol import effects as ef
from tallynode.protocol import wire
from tallynode.protocol.ballots import BallotBox
from tallynode.protocol.members import Members
from tallynode.protocol.messages import Key, Proof
from tallynode.protocol.settings import PeerSettings
from tallynode.protocol.signing import Signatures
from tallynode.protocol.speaking import Speaking

AUDIT_ROUNDS = 4  # rounds between two audits; each costs some copies of one ballot


class Vouching:
    """Who signs by which key, and who has lost its say.

    Args:
        settings: this peer's view of the mesh.
        signatures: the keys and proofs.
        speaking: makes what is published.
        members: the voters.
        box: their ballots.
    """

    def __init__(
        self,
        settings: PeerSettings,
        signatures: Signatures,
        speaking: Speaking,
        members: Members,
        box: BallotBox,
    ) -> None:
        self._settings = settings
        self._signatures = signatures
        self._speaking = speaking
        self._members = members
        self._box = box
        self.expelled: set[str] = set()  # voters; a relay of theirs is at no fault

    def has_say(self, origin: str) -> bool:
        """Whether a voter's ballots are heard here."""
        return origin not in self.expelled and not self._signatures.has_voted_twice(origin)

    def expel(self, origin: str) -> list[ef.Effect]:
        """Forget how a voter has voted; neither wait for it nor hear it, whoever relays it."""
        self.expelled.add(origin)
        self._members.gone(origin)
        self._box.forget(origin)
        return [ef.Log(level="warning", event="not trusted", fields={"voter": origin})]

    def trust(self, origin: str) -> list[ef.Effect]:
        """Hear a voter again."""
        if origin not in self.expelled:
            return []
        self.expelled.remove(origin)
        log = ef.Log(level="info", event="trusted", fields={"voter": origin})
        return [log, *self.pass_on(origin)]

    def audited(self, round_: int) -> list[str]:
        """The voter whose ballots are to be compared at all neighbours now, if any.

        In steady state each ballot is heard once, and two faces would never meet. Nobody knows
        beforehand whom this peer will look at: its own signature of the round decides.
        """
        own = self._box.get(self._settings.name, round_)
        voters = sorted(self._members.table)
        if own is None or not own.signature or not voters or round_ % AUDIT_ROUNDS:
            return []
        return [voters[int.from_bytes(own.signature[:8]) % len(voters)]]

    def introduce(self, kept: Mapping[str, bytes]) -> list[ef.Effect]:
        """Tell this peer's key, and what it kept of an earlier life, by topic."""
        if not self._signatures.used:
            return []
        mine = self._settings
        out: list[ef.Effect] = [self._speaking.key(self._signatures.own_key())]
        for topic, data in sorted(kept.items()):  # keys (k) before the proofs (x) that take them
            try:
                message = wire.decode(data, mine.name, mine.mesh, mine.probe_digest)
                if isinstance(message, Key | Proof):
                    out += self.hear(mine.name, message)
            except RemoteError as error:  # the mesh or its pins have changed since
                fields = {"topic": topic, "why": error.why}
                out.append(ef.Log(level="info", event="not believed any more", fields=fields))
        return out

    def topics(self, origins: Iterable[str]) -> list[str]:
        """What to read at a neighbour before the ballots of these origins."""
        if not self._signatures.used:
            return []
        keys = [wire.key_topic(origin) for origin in origins]
        return keys + [wire.proof_topic(origin) for origin in (*origins, self._settings.name)]

    def hear(self, sender: str, message: Key | Proof) -> list[ef.Effect]:
        """Take a key or a proof in.

        Raises:
            RemoteError: it is about nobody who votes here, or proves nothing.
        """
        origin = message.origin
        if origin != self._settings.name and origin not in self._members.table:
            why = f"sent a key or a proof of {origin}, which has no vote here"
            raise RemoteError(sender, why, differs=True)
        if isinstance(message, Proof):
            return self._convict(sender, message)
        if origin == self._settings.name or not self._signatures.learn(sender, message):
            return []
        return self.pass_on(origin)

    def pass_on(self, origin: str) -> list[ef.Effect]:
        """Tell the key of an origin, if it is known and counts."""
        key = self._signatures.key_of(origin) if self._signatures.used else None
        if key is None:
            return []
        publish = self._speaking.key(Key(origin=origin, public_key=key))
        return [ef.Keep(topic=publish.topic, data=publish.data), publish]

    def _convict(self, sender: str, proof: Proof) -> list[ef.Effect]:
        """Leave out whoever votes twice: a liar, or this very device, whose disk was copied."""
        if not self._signatures.convict(sender, proof):
            return []
        if proof.origin != self._settings.name:  # its own ballot goes on counting here
            self._members.gone(proof.origin)
            self._box.forget(proof.origin)
        fields = {"voter": proof.origin, "round": proof.round, "told_by": sender}
        publish = self._speaking.proof(proof)
        return [
            ef.Log(level="error", event="voted twice in one round: left out", fields=fields),
            ef.Keep(topic=publish.topic, data=publish.data),
            publish,
        ]
