"""What a peer learns and how: frozen settings, free of torch, for the configuration to build."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Target = Literal["hard", "histogram", "weighed", "posterior"]
Device = Literal["cpu", "cuda"]  # where the arithmetic is done


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """Which data, and this peer's share of it.

    `share` is (index, of how many) in a simulation, where one public data set is dealt out to all
    peers; None for a real peer, whose data is its own.
    """

    source: str  # digits | mnist | fashion-mnist | folder:PATH | package.module:function
    data_dir: Path | None = None  # where mnist / fashion-mnist lie; None: look in the known places
    bare: str | None = None  # the set whose files are those in data_dir itself; None: the source
    probes: int = 500  # public probes in all
    probe_source: str | None = None  # another set that they come from; None: the same
    test: int | None = None  # test samples at most, a seeded draw; None: all that the source has
    per_peer: int | None = None  # private samples a peer; None: all that remain, split equally
    dirichlet: float | None = None  # label skew of the partition; None: IID
    partition_seed: int = 7
    pooled: bool = False  # all peers' private samples in place of this one's
    share: tuple[int, int] | None = None
    image_size: tuple[int, int] | None = None  # height, width of folder images; None: first probe's


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How a peer trains."""

    model: str = "mlp"  # mlp | lenet5 | resnet8
    device: Device = "cpu"
    local_epochs: int = 1
    local_steps: int | None = None  # instead of local_epochs
    batch_size: int = 32  # samples
    learning_rate: float = 3e-3  # with Adam good for mlp and lenet5 alike
    optimiser: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.0  # of sgd
    prior: bool = True  # take the peer's own class prior out of the loss (logit adjustment)
    witness: bool = True  # a second copy, trained on private data alone, casts the votes
    target: Target = "hard"
    holdings: bool = False  # whether votes come with what the voter holds of each class
    levels: int = 1  # of sureness that a vote carries
    temperature: float | None = None  # of fd's aggregation; None: the plain mean
    initialise: Literal["keep", "shared", "random"] = "keep"  # what a net of cfd distils from
    place: Literal["peer", "hub", "leaf"] = "peer"  # on a star, in a method that knows a hub
    mu: float = 0.01  # how strongly fedprox pulls towards the last average
    distil_epochs: int = 5  # passes over the probes, where distilling is a step of its own
    sampled_from: int | Literal["auto"] | None = None  # round from which the learner votes
