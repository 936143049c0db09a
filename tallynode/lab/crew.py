"""The peers of a virtual mesh shared out over processes, so that every core has work.

Made-up time stands still while a peer trains, so what others do in the same moment of it can be
done beside it: a job begins when it is given, and its answer is waited for when it is due. Answers
do not depend on where they are made: a run has the same bits on any number of cores.
"""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import cast

from tallynode.config import Mesh
from tallynode.lab.processes import end_with_parent, hear, tell, warm_context
from tallynode.lab.work import Disguise, Worker, employ
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol.settings import PeerSettings


class Member:
    """A peer whose jobs are done in another process."""

    def __init__(self, settings: PeerSettings, hand: "_Hand") -> None:
        self.settings = settings
        self._hand = hand

    def train(self, job: ef.Train) -> Callable[[], ev.Trained]:
        """Begin to train; what is returned waits for the answer."""
        return cast(Callable[[], ev.Trained], self._hand.ask(self.settings.name, job))

    def learn(self, job: ef.Learn) -> Callable[[], ev.Learned]:
        """Begin to learn; what is returned waits for the answer."""
        return cast(Callable[[], ev.Learned], self._hand.ask(self.settings.name, job))


@contextmanager
def crew(mesh: Mesh, disguise: Disguise, size: int) -> Iterator[Mapping[str, Member]]:
    """So many processes that build the peers of a mesh and do their jobs.

    Args:
        mesh: the mesh.
        disguise: who works in whose place; it goes to the processes, so it must be picklable.
        size: how many processes; peers are dealt out evenly.
    """
    hands: list[_Hand] = []
    try:
        for first in range(size):
            hands.append(_Hand(mesh, mesh.names[first::size], disguise))
        built = {name: Member(of, hand) for hand in hands for name, of in hand.settings().items()}
        yield {name: built[name] for name in mesh.names}
    finally:
        for hand in hands:
            hand.end()


class _Hand:
    """One process, with a thread here that speaks with it: one question, then its answer."""

    def __init__(self, mesh: Mesh, names: Sequence[str], disguise: Disguise) -> None:
        context = warm_context()
        self._names = names
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(mesh, names, disguise, theirs), daemon=True
        )
        self._process.start()
        theirs.close()
        self._thread = ThreadPoolExecutor(max_workers=1)

    def settings(self) -> dict[str, PeerSettings]:
        """The peers that it has built, once it has."""
        return cast(dict[str, PeerSettings], self._heard())

    def ask(self, name: str, job: ef.Train | ef.Learn) -> Callable[[], object]:
        """Hand a peer's job over; what is returned waits for the answer."""
        return self._thread.submit(self._exchange, name, job).result

    def end(self) -> None:
        """End it in the middle of whatever it does."""
        self._process.terminate()
        self._process.join()
        self._thread.shutdown(cancel_futures=True)
        self._pipe.close()

    def _exchange(self, name: str, job: ef.Train | ef.Learn) -> object:
        with suppress(BrokenPipeError):  # it is gone, as we are about to hear
            self._pipe.send((name, job))
        return self._heard()

    def _heard(self) -> object:
        return hear(self._pipe, self._process, f"{', '.join(self._names)}: their process")


def _work(mesh: Mesh, names: Sequence[str], disguise: Disguise, pipe: Connection) -> None:
    """The life of such a process: until there is nobody to ask it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells all; the first one decides
    end_with_parent()
    at_work: dict[str, Worker] = {}

    def build() -> dict[str, PeerSettings]:
        built = employ(mesh, names, disguise)
        at_work.update({name: worker for name, (_, worker) in built.items()})
        return {name: parts.settings for name, (parts, _) in built.items()}

    tell(pipe, build)
    with suppress(EOFError, ConnectionResetError):
        while True:
            name, job = pipe.recv()
            worker = at_work[name]
            tell(pipe, partial(worker.train if isinstance(job, ef.Train) else worker.learn, job))
