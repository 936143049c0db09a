"""What a net says (votes) and how often it is right (accuracy), in batches that bound memory."""

import numpy as np
import torch
from torch import Tensor, nn

EVALUATE_BATCH = 128  # images; bounds the activations held at once


def votes(net: nn.Module, x: Tensor) -> np.ndarray:
    """Return the argmax class of each image: (n, ch, h, w) float32 -> (n,) int64."""
    net.eval()
    with torch.inference_mode():
        parts = [net(batch).argmax(dim=1) for batch in torch.split(x, EVALUATE_BATCH)]
    return torch.cat(parts).cpu().numpy()


def logits(net: nn.Module, x: Tensor) -> np.ndarray:
    """Return the scores before any softmax: (n, ch, h, w) float32 -> (n, classes) float32."""
    net.eval()
    with torch.inference_mode():
        parts = [net(batch) for batch in torch.split(x, EVALUATE_BATCH)]
    return torch.cat(parts).cpu().numpy()


def probabilities(net: nn.Module, x: Tensor) -> np.ndarray:
    """Return the softmax over classes: (n, ch, h, w) float32 -> (n, classes) float32."""
    net.eval()
    with torch.inference_mode():
        parts = [net(batch).softmax(dim=1) for batch in torch.split(x, EVALUATE_BATCH)]
    return torch.cat(parts).cpu().numpy()


def drawn_votes(net: nn.Module, x: Tensor, doubt: float, at: np.ndarray) -> np.ndarray:
    """Draw a class for each image from softmax(logits / doubt): (n, ch, h, w) -> (n,) int64.

    A class holds as long a piece of [0, 1) as it is likely, in the order of the classes; drawn is
    that on whose piece `at` (n,) falls.
    """
    scores = logits(net, x).astype(np.float64) / doubt
    upto = np.exp(scores - scores.max(axis=1, keepdims=True)).cumsum(axis=1)
    drawn: np.ndarray = (upto <= at[:, None] * upto[:, -1:]).sum(axis=1)
    return drawn


def sure_votes(net: nn.Module, x: Tensor, levels: int) -> np.ndarray:
    """Return each image's class k and level of sureness l as k * levels + l, (n,) int64.

    Levels split the answers into equal parts, the surest last: a net's own ranking of them.
    """
    said = probabilities(net, x)
    rank = np.empty(len(said), dtype=np.int64)
    rank[np.argsort(said.max(axis=1), kind="stable")] = np.arange(len(said))
    symbols: np.ndarray = said.argmax(axis=1) * levels + rank * levels // max(len(said), 1)
    return symbols


def accuracy(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of equal entries of two (n,) label arrays."""
    return float((predicted == truth).mean())


def per_class_accuracy(
    predicted: np.ndarray, truth: np.ndarray, classes: int
) -> tuple[float | None, ...]:
    """Return the recall of each class, None where `truth` (n,) lacks it."""
    seen = np.bincount(truth, minlength=classes)
    right = np.bincount(truth[predicted == truth], minlength=classes)
    return tuple(float(r / s) if s else None for r, s in zip(right, seen, strict=True))
