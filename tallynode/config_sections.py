"""The sections of topology.yaml, key by key; each checks itself when it is built."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tallynode import config_fields as fields
from tallynode.config_yaml import Where
from tallynode.learning.settings import Device, Target, TrainSettings
from tallynode.protocol import limits
from tallynode.protocol.privacy import DELTA, Budget


class Section(BaseModel):
    """A mapping of the file: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Peer(Section):
    """One peer; `id` pins its key, `address` only where mDNS does not reach."""

    name: fields.Name
    id: fields.DeviceId | None = None
    address: fields.Address | None = None
    port: fields.Port | None = None
    model: Literal["mlp", "lenet5", "resnet8"] | None = None  # None: the task's
    device: Device | None = None  # None: the task's
    data: fields.Data | None = None  # None: the task's


class Probes(Section):
    """The public, unlabelled samples that peers vote on."""

    count: fields.Count = 500
    per_round: fields.CountOrAll = "all"
    data: Literal["digits", "mnist", "fashion-mnist"] | None = None  # another set than the task's

    @model_validator(mode="after")
    def _sample_fits(self) -> Self:
        if self.per_round != "all" and self.per_round > self.count:
            fields.refuse_all([(("per_round",), f"should be at most count ({self.count})")])
        return self


class Partition(Section):
    """How a simulation deals one public data set out; real peers bring their own data."""

    dirichlet: fields.Positive | None = None  # label skew; None: every peer alike
    seed: fields.Seed | None = None  # None: the mesh's
    per_peer: fields.Count | None = None  # private samples; None: all that remain, split equally


class Task(Section):
    """What is learnt, from what, with which model."""

    data: fields.Data = "digits"
    data_dir: fields.Folder | None = None
    model: Literal["mlp", "lenet5", "resnet8"] = "mlp"
    device: Device = "cpu"  # where the arithmetic is done
    test: fields.Count | None = None  # test samples at most; None: all that the source has
    probes: Probes = Probes()
    partition: Partition = Partition()
    batch_size: fields.Count = TrainSettings().batch_size
    learning_rate: fields.Positive = TrainSettings().learning_rate
    optimiser: Literal["adam", "sgd"] = "adam"
    momentum: Annotated[fields.Share, Field(lt=1)] = 0.0  # of sgd

    @model_validator(mode="after")
    def _momentum_of_sgd(self) -> Self:
        if self.momentum and self.optimiser != "sgd":
            fields.refuse_all([(("momentum",), f"means nothing to {self.optimiser}, only to sgd")])
        return self


class Deadline(Section):
    """Bounds of the adaptive deadline of a round, in seconds."""

    min: fields.Seconds = 2.0
    max: fields.Seconds = 600.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.max >= self.min:
            fields.refuse_all([(("max",), "should be more than 0s and not less than min")])
        return self


class Rounds(Section):
    """How many rounds and how long each may take."""

    count: fields.CountOrNone = 20  # 0: for as long as the daemon runs
    local_epochs: fields.Count = 1
    local_steps: fields.Count | None = None  # instead of local_epochs
    pace: fields.Seconds = 0.0  # least time from one training to the next; spares battery and card
    deadline: Deadline = Deadline()
    quorum: Annotated[fields.Share, Field(gt=0)] = 0.8  # share of the known-alive voters
    staleness: fields.CountOrNone = 2  # rounds that a late ballot still counts
    start_within: fields.Seconds = 10.0
    linger: fields.Seconds = 5.0
    save_every: fields.Count = 1  # rounds; who is killed loses, and sits out, as many at most


Name = Literal[
    "tally",
    "fedct",
    "fd",
    "cfd",
    "fedmd",
    "fedavg",
    "fedprox",
    "feddf",
    "local",
    "centralised",
]
_METHOD_KEYS: dict[str, tuple[str, ...]] = {  # keys that not every method heeds, by who does
    "tally": (
        "tally",
        "byzantine",
        "target",
        "coding",
        "levels",
        "sampled_from",
        "holdings",
        "privacy",
        "witness",
        "select",
        "bridge",
    ),
    "fedct": ("coding", "select"),
    "fd": ("bits", "delta_coding", "temperature", "witness", "select"),
    "cfd": ("bits", "bits_down", "delta_coding", "distil_epochs", "initialise", "select"),
    "fedmd": ("distil_epochs", "select"),
    "fedavg": (),
    "fedprox": ("mu",),
    "feddf": ("distil_epochs",),
    "local": (),
    "centralised": (),
}


class Privacy(Section):
    """How little the votes tell of private data; see protocol/privacy.py for what is promised."""

    per_vote: fields.Epsilon | None = None  # ε of one vote
    per_round: fields.Epsilon | None = None  # ε of a round's ballot, in place of per_vote
    delta: Annotated[fields.Share, Field(gt=0, lt=1)] = DELTA

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        if (self.per_vote is None) == (self.per_round is None):
            fields.refuse("should state ε once: either per_vote or per_round")
        return self

    def budget(self) -> Budget:
        """Return it as the protocol takes it."""
        return Budget(per_vote=self.per_vote, per_round=self.per_round, delta=self.delta)


class Bridge(Section):
    """How often learners are merged, and how much of each is sent; see methods/merge.py."""

    every: fields.Count = 10  # rounds
    density: Annotated[fields.Share, Field(gt=0)] = 0.05  # of the parameters; 1: a full merge
    full: fields.Count | None = None  # every so many bridges is a full one; None: density says
    values: Literal["int8", "float16", "sign"] = "int8"


class Method(Section):
    """What peers publish and what they learn from the tally."""

    name: Name = "tally"
    tally: Literal["plurality", "reliability", "dawid-skene"] = "reliability"
    byzantine: fields.CountOrNone | None = None  # liars that no label may depend on
    target: Target = "hard"
    levels: Annotated[int, Field(ge=1, le=limits.LEVELS_MAX)] = 1  # of sureness in a vote
    sampled_from: fields.CountOrWhen = "auto"  # round from which learners vote, or auto or never
    holdings: bool = True  # whether ballots of learners say what each holds of the classes
    coding: Literal["context", "packed"] = "context"  # packed: always ceil(log2 C) bits a vote
    bits: Annotated[int, Field(ge=0, le=16)] = 0  # of a soft label's entry; 0: float32
    bits_down: Annotated[int, Field(ge=0, le=16)] | None = None  # of the aggregate; None: as bits
    delta_coding: bool = True  # of soft labels against the ones before
    privacy: Privacy | None = None  # None: votes are sent as they are
    bridge: Bridge | None = None  # None: models stay at home
    temperature: fields.Positive | None = None  # of DS-FL's aggregation; None: the plain mean
    initialise: Literal["keep", "shared", "random"] = "keep"  # what cfd distils from
    mu: fields.Positive = TrainSettings().mu
    distil_epochs: fields.Count = TrainSettings().distil_epochs
    select: Literal["random", "entropy", "certainty", "margin"] = "random"  # a round's probes
    hops: fields.Hops = "all"  # edges that a ballot travels
    witness: bool = True
    prior: bool = True

    @model_validator(mode="after")
    def _keys_of_method(self) -> Self:
        problems: list[tuple[Where, str]] = [
            ((key,), f"means nothing to method {self.name}, only to {_heeding(key)}")
            for key in sorted({key for keys in _METHOD_KEYS.values() for key in keys})
            if key not in _METHOD_KEYS[self.name]
            and getattr(self, key) != type(self).model_fields[key].default
        ]
        if self.privacy is not None and self.levels > 1:
            why = "should be 1 with privacy: its noise covers classes and no sureness"
            problems.append((("levels",), why))
        if self.privacy is not None and self.bridge is not None:
            why = "tells what privacy hides: its noise covers votes and no parameters"
            problems.append((("bridge",), why))
        if isinstance(self.sampled_from, int) and self.levels > 1:
            why = "should be 1 with sampled_from: a sampled vote says nothing of sureness"
            problems.append((("levels",), why))
        if isinstance(self.sampled_from, int) and self.byzantine is not None:
            why = "guards labels, and where learners vote (sampled_from) histograms teach"
            problems.append((("byzantine",), why))
        fields.refuse_all(problems)
        return self

    @property
    def sampling(self) -> int | Literal["auto"] | None:
        """From when learners vote; auto where nothing else asks for the votes of witnesses."""
        if self.sampled_from == "never":
            return None
        plain = self.name == "tally" and self.levels == 1 and self.witness
        trusting = self.privacy is None and self.byzantine is None
        return self.sampled_from if self.sampled_from != "auto" or (plain and trusting) else None

    @property
    def says_holdings(self) -> bool:
        """Whether ballots say what their voters hold of each class: where learners may vote."""
        return self.holdings and self.sampling is not None and self.privacy is None


def _heeding(key: str) -> str:
    """The methods that heed a key, in words."""
    *others, last = [method for method, keys in _METHOD_KEYS.items() if key in keys]
    return f"{', '.join(others)} and {last}" if others else last


def peer_list(value: Any) -> Any:
    """Read the shorthands: a number of peers, and a bare name for a peer."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= limits.PEERS_MAX:
            fields.refuse(f"should be 1 to {limits.PEERS_MAX} peers, not {value}")
        return [{"name": f"peer-{i + 1}"} for i in range(value)]
    if not isinstance(value, list | tuple):
        fields.refuse("should be a list of peers, or how many there are")
    if not 1 <= len(value) <= limits.PEERS_MAX:
        fields.refuse(f"should be 1 to {limits.PEERS_MAX} peers, not {len(value)}")
    return [{"name": item} if isinstance(item, str) else item for item in value]


def distinct(peers: tuple[Peer, ...]) -> tuple[Peer, ...]:
    """Refuse two peers of one name, ID, or address and port, at the places of both."""
    problems: list[tuple[Where, str]] = []
    for key, of in (("name", _name_of), ("id", _id_of), ("address", _outbox_of)):
        places: dict[object, list[int]] = {}
        for i, peer in enumerate(peers):
            if of(peer) is not None:
                places.setdefault(of(peer), []).append(i)
        for same in places.values():
            for i in same if len(same) > 1 else ():
                others = " and ".join(f"peers[{j}]" for j in same if j != i)
                value = getattr(peers[i], key)
                problems.append(((i, key), f"'{value}' is also the {key} of {others}"))
    fields.refuse_all(problems)
    return peers


def _name_of(peer: Peer) -> object:
    return peer.name


def _id_of(peer: Peer) -> object:
    return peer.id


def _outbox_of(peer: Peer) -> object:
    return peer.address and (peer.address, peer.port or fields.MQTT_PORT)
