"""What neighbours say of themselves in their Hello: whether they agree with us, and go on."""

from collections.abc import Iterable

from tallynode.errors import RemoteError
from tallynode.protocol.members import Members
from tallynode.protocol.messages import Hello, State
from tallynode.protocol.settings import PeerSettings


class Greetings:
    """The last Hello of each neighbour.

    Args:
        settings: this peer's view of the mesh.
        members: the voters.
    """

    def __init__(self, settings: PeerSettings, members: Members) -> None:
        self._settings = settings
        self._members = members
        self._states: dict[str, State] = {}
        self._mismatched: set[str] = set()  # neighbours whose votes cannot count here

    def running(self, linked: Iterable[str]) -> list[str]:
        """Linked neighbours that have not said that they are done, and may need to hear us."""
        return [n for n in linked if self._states.get(n, State.RUNNING) is State.RUNNING]

    def differs(self, origin: str) -> bool:
        """Whether a neighbour's votes cannot count here."""
        return origin in self._mismatched

    def forget(self, neighbour: str) -> State:
        """The link to a neighbour is lost; what it said last of itself."""
        return self._states.pop(neighbour, State.RUNNING)

    def hear(self, neighbour: str, hello: Hello) -> None:
        """Compare a Hello with our own.

        Raises:
            RemoteError: it differs; says in what, with both values.
        """
        if hello.origin != neighbour:
            raise RemoteError(neighbour, f"says that it is {hello.origin}")
        mine = self._settings
        pairs = {
            "mesh": (hello.mesh, mine.mesh),
            "probe set or class list": (hello.probe_digest.hex(), mine.probe_digest.hex()),
            "number of classes": (hello.classes, mine.classes),
            "probes a round": (hello.per_round, mine.per_round or mine.probes),
            "method": (hello.method, mine.said),
        }
        differing = [f"{what} ({a}, ours {b})" for what, (a, b) in pairs.items() if a != b]
        if differing:
            self._mismatched.add(neighbour)
            self._members.gone(neighbour)
            why = "votes do not count here, it differs in " + ", ".join(differing)
            raise RemoteError(neighbour, why, differs=True)
        self._mismatched.discard(neighbour)
        self._states[neighbour] = hello.state
        if hello.state is State.LEAVING:
            self._members.gone(neighbour)
