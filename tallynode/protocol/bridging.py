"""The peer's side of a bridge: when deltas are exchanged, and the last one that it made itself."""

from collections.abc import Mapping

from tallynode.errors import RemoteError
from tallynode.protocol import effects as ef
from tallynode.protocol.hearing import Hearing
from tallynode.protocol.settings import PeerSettings
from tallynode.protocol.snapshot import Snapshot


class Bridging:
    """Keeps the delta that stands on this peer's outbox.

    Args:
        settings: this peer's view of the mesh.
        hearing: what it hears, and how it speaks.
        restored: the state saved before a restart, if any.
    """

    def __init__(self, settings: PeerSettings, hearing: Hearing, restored: Snapshot | None) -> None:
        self._bridge = settings.bridge
        self._hearing = hearing
        known = restored is not None and self._bridge is not None
        self.round = restored.bridged if restored and known else 0  # of the last delta; 0: none yet
        self.delta = restored.delta if restored and known else b""
        self._unsaid = bool(self.delta)

    def at(self, round_: int) -> bool:
        """Whether deltas are exchanged in a round."""
        return self._bridge is not None and self._bridge.at(round_)

    def made(self, round_: int, delta: bytes) -> None:
        """The trainer has made a delta."""
        self.round, self.delta, self._unsaid = round_, delta, True

    def publish(self) -> list[ef.Effect]:
        """Put the last delta on the outbox, if it does not stand there.

        The caller saves it first, with the state that it has led to: a restarted peer then goes on
        from what its neighbours hold of it, and says it again.
        """
        if not self._unsaid:
            return []
        self._unsaid = False
        return self._hearing.speaking.delta(self.round, self.delta)

    def waits(self, round_: int, unheard: bool) -> bool:
        """Whether the delta of a neighbour that is waited for may still come in a round."""
        if not self.at(round_):
            return False
        deltas, members = self._hearing.deltas, self._hearing.members
        linked = self._hearing.gossip.linked & members.waited_for(unheard=unheard)
        return any(deltas.lacks(name, round_, members.table[name].latest) for name in linked)

    def refused(self, why_of: Mapping[str, str], now: float) -> list[ef.Effect]:
        """The trainer could not use some neighbours' deltas."""
        out: list[ef.Effect] = []
        for name, why in why_of.items():
            error = RemoteError(name, f"sent a delta that cannot be used: {why}")
            out += self._hearing.refuse(error, name, now)
        return out
