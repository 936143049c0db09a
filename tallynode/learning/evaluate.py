"""What a net says (votes) and how often it is right (accuracy), in batches that bound memory."""

import numpy as np
import torch
from torch import Tensor, nn

EVALUATE_BATCH = 512  # images; bounds the activations held at once


def votes(net: nn.Module, x: Tensor) -> np.ndarray:
    """Return the argmax class of each image: (n, ch, h, w) float32 -> (n,) int64."""
    net.eval()
    with torch.inference_mode():
        parts = [net(batch).argmax(dim=1) for batch in torch.split(x, EVALUATE_BATCH)]
    return torch.cat(parts).numpy()


def probabilities(net: nn.Module, x: Tensor) -> np.ndarray:
    """Return the softmax over classes: (n, ch, h, w) float32 -> (n, classes) float32."""
    net.eval()
    with torch.inference_mode():
        parts = [net(batch).softmax(dim=1) for batch in torch.split(x, EVALUATE_BATCH)]
    return torch.cat(parts).numpy()


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
