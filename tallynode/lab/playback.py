"""A virtual run that can be killed and goes on where it was.

The virtual mesh leaves nothing to chance: the same answers of its workers lead to the same run. So
what a worker answers is written down, and its method's state at the end of each round. A run that
is started again is played from its beginning, the rounds that are written down being read instead
of trained, which takes seconds for what took hours.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from torch import Tensor

from tallynode.assemble import Parts
from tallynode.edge.checkpoint import pack, unpack
from tallynode.edge.storage import atomic_write
from tallynode.errors import DataError, LocalError
from tallynode.lab.code import code_digest
from tallynode.lab.work import Worker
from tallynode.methods.method import Method
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev


@dataclass(frozen=True, slots=True)
class Memory:
    """Has every peer's answers remembered, in folders of their own below one."""

    folder: Path
    key: str  # of everything that the run depends on, but for the code
    code: str = field(default_factory=code_digest)

    def of_other_code(self) -> bool:
        """Whether any round that is remembered was answered by other code; DataError as below."""
        states = self.folder.glob("*/state")
        return any(set(_read_state(state)[0]["code"]) - {self.code} for state in states)

    def __call__(self, parts: Parts, worker: Worker) -> Worker:
        """A disguise of run_virtual; errors as in Remembered."""
        folder = self.folder / parts.settings.name
        return Remembered(worker, parts.method, folder, self.key, self.code)


class Remembered:
    """A worker whose answers outlive the process.

    Args:
        worker: who answers first.
        method: what it trains.
        folder: this peer's own; made if it is not there.
        key: of everything that the run depends on.
        code: digest of the code that answers.

    Raises:
        DataError: the folder holds another run, or what it holds is damaged.
    """

    def __init__(self, worker: Worker, method: Method, folder: Path, key: str, code: str) -> None:
        self._worker = worker
        self._method = method
        self._folder = folder
        self._key = key
        self._codes = {code}
        self._known = 0  # rounds that are written down, and covered by the state
        self._said: ev.Trained | None = None  # in the round that goes on
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "state").exists():
            self._go_on()

    def train(self, job: ef.Train) -> ev.Trained:
        """Answer as the worker did, or does."""
        if job.round > self._known:
            self._said = self._worker.train(job)
            return self._said
        was = self._read(job.round)
        content = np.frombuffer(was["content"], was["dtype"]).reshape(was["shape"])
        return ev.Trained(round=job.round, content=content, delta=was["delta"])

    def learn(self, job: ef.Learn) -> ev.Learned:
        """Answer as the worker did; or as it does, and write the round down."""
        if job.round > self._known:
            answer = self._worker.learn(job)
            self._write(answer)
            return answer
        was = self._read(job.round)
        return ev.Learned(round=job.round, metrics=was["metrics"], refused=was["refused"])

    def _go_on(self) -> None:
        found, tensors = _read_state(self._folder / "state")
        if found["key"] != self._key:
            raise DataError(f"{self._folder}: holds another run; name another folder, or remove it")
        self._method.load(tensors)
        self._known = found["round"]
        self._codes |= set(found["code"])

    def _file(self, round_: int) -> Path:
        return self._folder / f"round-{round_:05d}"

    def _read(self, round_: int) -> dict[str, Any]:
        try:
            was: dict[str, Any] = msgpack.unpackb(self._file(round_).read_bytes())
        except (OSError, ValueError, msgpack.UnpackException) as error:
            raise DataError(f"{self._file(round_)}: cannot be read: {error}") from error
        return was

    def _write(self, answer: ev.Learned) -> None:
        """The answers first: a round counts once the state that covers it is there."""
        if self._said is None:
            raise LocalError(f"{self._folder}: round {answer.round} was learnt and not trained")
        said = self._said
        body = {
            "content": said.content.tobytes(),
            "dtype": said.content.dtype.str,
            "shape": said.content.shape,
            "delta": said.delta,
            "metrics": dict(answer.metrics),
            "refused": dict(answer.refused),
        }
        atomic_write(self._file(answer.round), msgpack.packb(body))
        about = {"key": self._key, "round": answer.round, "code": sorted(self._codes)}
        atomic_write(self._folder / "state", pack(msgpack.packb(about), self._method.state()))


def _read_state(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a state says of itself, and the state; DataError if it is damaged."""
    try:
        about, tensors = unpack(file.read_bytes())
        found: dict[str, Any] = {"code": ["unknown"], **msgpack.unpackb(about)}
    except (DataError, ValueError, msgpack.UnpackException) as error:
        raise DataError(f"{file}: {error}") from error
    return found, tensors
