"""What a world did, as a hash that two runs of one seed share, and as lines for a person."""

import hashlib
from collections.abc import Callable, Sequence

from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol.tally import Consensus

Say = Callable[[str], None]


class Trace:
    """Every event and effect, in order.

    Args:
        say: takes a readable line of each, if anybody is to read them.
    """

    def __init__(self, say: Say | None = None) -> None:
        self._hash = hashlib.blake2b(digest_size=8)
        self.say = say
        self.steps = 0

    def step(self, now: float, name: str, event: ev.Event, effects: Sequence[ef.Effect]) -> None:
        """A peer took an event and asked for these effects."""
        self.steps += 1
        self.note(now, name, f"{_event(event)} -> {', '.join(map(_effect, effects))}")

    def note(self, now: float, who: str, what: str) -> None:
        """Anything else."""
        line = f"{now!r} {who} {what}"
        self._hash.update(line.encode())
        if self.say:
            self.say(line)

    def digest(self) -> str:
        """The hash of everything so far."""
        return self._hash.hexdigest()


def _event(event: ev.Event) -> str:
    match event:
        case ev.Received(neighbour=neighbour, topic=topic, data=data):
            return f"received {neighbour} {topic} {data.hex()}"
        case ev.Trained(round=round_) | ev.Learned(round=round_):
            return f"{type(event).__name__.lower()} {round_}"
        case ev.LinkUp(neighbour=neighbour) | ev.LinkDown(neighbour=neighbour):
            return f"{type(event).__name__.lower()} {neighbour}"
        case _:
            return type(event).__name__.lower()


def _effect(effect: ef.Effect) -> str:
    match effect:
        case ef.Publish(topic=topic, data=data):
            return f"publish {topic} {data.hex()}"
        case ef.Subscribe(neighbour=neighbour, topics=topics):
            return f"subscribe {neighbour} {' '.join(topics)}"
        case ef.Unsubscribe(neighbour=neighbour, topics=topics):
            return f"unsubscribe {neighbour} {' '.join(topics)}"
        case ef.Report(fields=fields):
            return f"report {fields['round']} {fields['closed_by']} by {fields['voters']}"
        case ef.Log(event=event, fields=fields):
            return f"log {event} {dict(fields)}"
        case ef.Train(round=round_) | ef.Save(round=round_):
            return f"{type(effect).__name__.lower()} {round_}"
        case ef.Learn(round=round_, outcome=Consensus(labels=labels)):
            return f"learn {round_} {labels.tolist()}"
        case ef.Learn(round=round_):
            return f"learn {round_} alone"
        case ef.Keep(topic=topic, data=data):
            return f"keep {topic} {data.hex()}"
        case ef.Shun(neighbour=neighbour, for_s=for_s):
            return f"shun {neighbour} {for_s!r}"
        case ef.Finish():
            return "finish"
