"""Local training with the peer's own class prior taken out, and batches drawn from a seed.

Under label skew a plain classifier learns first of all which classes its peer has most of, and
votes for those. Logit adjustment (Menon et al. 2021, arXiv 2007.07314; balanced softmax, Ren et al.
2020) adds the log of the prior to the logits inside the loss only, so that the net itself is left
with the evidence in the image: cross_entropy(net(x) + log prior, y).
"""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from tallynode.errors import ConfigError
from tallynode.learning.samples import Samples

PRIOR_FLOOR = 0.5  # samples; stands in for the count of a class that the peer has never seen


def use_threads(count: int) -> None:
    """Let torch's arithmetic use so many threads; call once before training.

    One gives equal bits everywhere, since the order of a threaded sum depends on the number of
    threads, and is what peers that share cores need: two threads a peer were five to ten times
    slower with two peers on two cores.
    """
    torch.set_num_threads(count)


def check_device(device: str, name: str) -> None:
    """Refuse a GPU that is not there; ConfigError names the peer."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"{name}: device: cuda, but torch {torch.__version__} finds no GPU here (a build of "
            "torch for the CPU never does)"
        )


def seed_of(*parts: int | str) -> int:
    """Derive an independent 63-bit seed from what it is for, such as (mesh seed, peer, round)."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def log_prior(y: Tensor, classes: int) -> Tensor:
    """Return the log of the smoothed class frequencies of `y` (n,) int64, (classes,) float32."""
    counts = torch.bincount(y, minlength=classes).float().clamp(min=PRIOR_FLOOR)
    return (counts / counts.sum()).log()


def batches(count: int, size: int, seed: int, device: str = "cpu") -> Iterator[Tensor]:
    """Yield shuffled index batches (size,) int64 for ever, each epoch over all `count` samples."""
    generator = torch.Generator().manual_seed(seed)  # the same order on any device
    while True:
        yield from torch.split(torch.randperm(count, generator=generator).to(device), size)


def private_loss(net: nn.Module, samples: Samples, batch: Tensor, prior: Tensor | None) -> Tensor:
    """Return the mean loss () of the private samples at the indices `batch` (b,)."""
    logits = net(samples.x[batch])
    if prior is not None:
        logits = logits + prior
    return functional.cross_entropy(logits, samples.y[batch])


def step(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    """Take one optimiser step down `loss` ()."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
