"""The lines of rounds.jsonl: what a peer says of one round, and a peer's lines put in order.

A process that starts again counts from zero: a resumed round, or a counter that falls, begins a new
process, and the old total is carried on. A round that was done twice counts once, as it was done
last.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, NotRequired, TypedDict, cast

Counter = tuple[str, str | None]  # a field of a record, and the key inside it

PLAIN = ("relayed_bytes", "refused")  # counters that are numbers
KEYED = ("payload_bytes", "coded_bytes", "payload_received", "wire_bytes")  # numbers by a key
COUNTERS = (*PLAIN, *KEYED)


class PayloadBytes(TypedDict):
    """Bytes that the codec made, by class of message."""

    ballot: int
    delta: int
    soft: int
    control: int


class WireBytes(TypedDict):
    """Bytes that the kernel moved; source `none` means that nobody counted (a virtual mesh)."""

    sent: int
    received: int
    source: str


class Published(TypedDict):
    """What a record and a peer of summary.json both say of the bytes published."""

    payload_bytes: PayloadBytes
    relayed_bytes: int


class Record(TypedDict):
    """One line of rounds.jsonl: one peer, one round; byte counters run from the process's start."""

    peer: str
    round: int  # counted from 1
    t_s: float  # seconds since the peer started
    accuracy: float | None
    per_class: NotRequired[Sequence[float | None]]  # recall, see learning/evaluate.py
    tally_accuracy: float | None
    tally: dict[str, Any] | None  # what was tallied, see learning/diagnose.py
    privacy: NotRequired[dict[str, float] | None]  # ε spent, see methods/responses.py
    agreement: float | None  # share of own votes equal to the consensus; None when alone
    voters: int
    late: int
    closed_by: str  # all | quorum | deadline | alone
    resumed: bool  # the round that was open when an earlier process ended, closed again
    round_s: float
    gather_s: float  # of it, from the own vote to the close
    neighbours_linked: int
    payload_bytes: PayloadBytes  # published on the own outbox, relays included
    relayed_bytes: int
    coded_bytes: dict[str, int]  # the votes alone in what was published, by coding
    payload_received: dict[str, int]
    wire_bytes: WireBytes
    refused: int
    rss_mib: float
    lateness_ms: float
    tasks: int  # of the event loop
    troubles: list[str]  # what the peer could not do just then: save, …


def tidy(peers: Sequence[str], records: Iterable[Record]) -> dict[str, list[Record]]:
    """Each peer's records, one a round in order of round, counters carried over restarts."""
    rounds: dict[str, dict[int, Record]] = {name: {} for name in peers}
    earlier: dict[str, dict[Counter, int]] = {}  # what the peer's earlier processes counted
    last: dict[str, dict[Counter, int]] = {}
    for record in records:
        name, now = record["peer"], _counters(record)
        if name in last and (record["resumed"] or _fell(last[name], now)):
            ended = earlier.setdefault(name, {})
            for counter, count in last[name].items():
                ended[counter] = ended.get(counter, 0) + count
        last[name] = now
        rounds[name][record["round"]] = _raised(record, earlier.get(name, {}))
    return {name: [of[number] for number in sorted(of)] for name, of in rounds.items()}


def ended(
    records: Sequence[Mapping[str, Any]], counted: Mapping[str, Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The records, each peer's last with all that its last process had counted when it ended.

    A record is written when its round has been learnt from, and a peer speaks once more after its
    last one. A process that ended before its first record closes the last one of its predecessor.
    """
    last = {record["peer"]: i for i, record in enumerate(records)}
    found = list(records)
    for peer, counters in counted.items():
        if peer in last:
            record = found[last[peer]]
            closed = {**record, **{name: counters[name] for name in COUNTERS if name in counters}}
            if _fell(_counters(cast(Record, record)), _counters(cast(Record, closed))):
                found.append({**closed, "resumed": True})
            else:
                found[last[peer]] = closed
    return found


def own_ballot_bytes(of: Published) -> int:
    """Bytes of the peer's own ballots: what it published less what it only passed on."""
    return max(0, of["payload_bytes"]["ballot"] - of["relayed_bytes"])


def payload_total(of: Published) -> int:
    """All payload bytes that the peer published."""
    payload = of["payload_bytes"]
    return payload["ballot"] + payload["delta"] + payload["soft"] + payload["control"]


def format_bytes(count: float) -> str:
    """Three digits and a unit a person reads: 812 B, 1.24 kB, 56.1 MB (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            digits = 0 if unit == "B" or count >= 99.95 else 1 if count >= 9.995 else 2
            return f"{count:.{digits}f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def format_share(share: float | None) -> str:
    """A share as a percentage with one decimal, or a dash."""
    return "–" if share is None else f"{100 * share:.1f} %"


def _counters(record: Record) -> dict[Counter, int]:
    """The record's running counters by where they stand in it; they hold integers alone."""
    fields: Mapping[str, Any] = record
    counters: dict[Counter, int] = {(name, None): fields[name] for name in PLAIN}
    for name in KEYED:
        for kind, count in fields[name].items():
            if kind != "source":
                counters[name, kind] = count
    return counters


def _fell(last: Mapping[Counter, int], now: Mapping[Counter, int]) -> bool:
    """Whether a counter went back; wire bytes do not tell, for they may end with a connection."""
    return any(
        now.get(counter, 0) < count for counter, count in last.items() if counter[0] != "wire_bytes"
    )


def _raised(record: Record, earlier: Mapping[Counter, int]) -> Record:
    """The record with what the peer's earlier processes counted added."""
    if not earlier:
        return record
    raised: dict[str, Any] = dict(deepcopy(record))
    for (name, kind), count in earlier.items():
        if kind is None:
            raised[name] += count
        else:
            raised[name][kind] = raised[name].get(kind, 0) + count
    return cast(Record, raised)
