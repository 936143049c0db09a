"""Small nets by name, initialised from a seed of their own.

`mlp` has one hidden layer: 4,810 parameters on the 8 × 8 digits. `lenet5` is LeCun et al. 1998
with ReLU and max-pooling; its size follows the image. `resnet8` is the ResNet of 8 layers (He et
al. 2016) that distillation papers use, 78k parameters, with group instead of batch normalisation:
the running statistics of a skewed peer's small batches would not hold for the probes.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from tallynode.errors import ConfigError

Shape = tuple[int, int, int]  # channels, height, width

MLP_HIDDEN = 64  # units
GROUP_CHANNELS = 8  # channels that are normalised together


def build(name: str, shape: Shape, classes: int, seed: int, device: str = "cpu") -> nn.Module:
    """Build the named net; equal arguments give equal weights, the global generator is untouched.

    Args:
        name: a key of `MODELS`.
        shape: channels, height and width of an image.
        classes: number of outputs.
        seed: of the initial weights.
        device: where the net is in the end.

    Raises:
        ConfigError: no such net, or it cannot take images of this shape.
    """
    if name not in MODELS:
        raise ConfigError(f"model: unknown {name!r}, known are {', '.join(MODELS)}")
    with torch.device("meta"):  # shapes only, so that nothing is drawn yet
        net = MODELS[name](shape, classes)
    net.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        _initialise(module, generator)
    for parameter in net.parameters():
        if parameter.dim() == 4:  # channels last: a third less time for lenet5
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return net.to(device)


def _initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Fill a layer as torch's own defaults do, from `generator`."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        fan_in = module.weight[0].numel()
        nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
        if module.bias is not None:
            bound = 1 / math.sqrt(fan_in)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    elif isinstance(module, nn.GroupNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def _mlp(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(shape), MLP_HIDDEN),
        nn.ReLU(),
        nn.Linear(MLP_HIDDEN, classes),
    )


class _Halve(nn.Module):
    """2 × 2 max-pooling; without gradients by comparing slices: lenet5 says twice as much a second.

    On a CPU torch's own looks for the place of each maximum, one channel at a time.
    """

    def forward(self, x: Tensor) -> Tensor:  # (n, channels, h, w) -> (n, channels, h // 2, w // 2)
        if torch.is_grad_enabled() or x.is_cuda:
            return functional.max_pool2d(x, 2)
        height, width = (side // 2 * 2 for side in x.shape[2:])
        rows = torch.maximum(x[:, :, 0:height:2], x[:, :, 1:height:2])
        return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])


def _lenet5(shape: Shape, classes: int) -> nn.Module:
    channels, height, width = shape
    rows, columns = (height // 2 - 4) // 2, (width // 2 - 4) // 2
    if rows < 1 or columns < 1:
        raise ConfigError(f"model: lenet5 needs images of 12 × 12 or more, not {height} × {width}")
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2),
        _Halve(),  # before the ReLU: the same net and gradients, a fifth less time
        nn.ReLU(),
        nn.Conv2d(6, 16, 5),
        _Halve(),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * rows * columns, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, classes),
    )


class _Block(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(inputs, outputs, stride), nn.ReLU(), _conv(outputs, outputs, 1)
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (n, inputs, h, w) -> (n, outputs, h', w')
        y: Tensor = torch.relu(self.body(x) + self.shortcut(x))
        return y


def _conv(inputs: int, outputs: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(outputs // GROUP_CHANNELS, outputs))


def _resnet8(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(
        _conv(shape[0], 16, 1),
        nn.ReLU(),
        _Block(16, 16, 1),
        _Block(16, 32, 2),
        _Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, classes),
    )


MODELS: dict[str, Callable[[Shape, int], nn.Module]] = {
    "mlp": _mlp,
    "lenet5": _lenet5,
    "resnet8": _resnet8,
}
