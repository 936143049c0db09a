"""Import torchvision although its compiled operators do not load.

The registry's torchvision for x86-64 is built for CUDA. Beside a CPU build of torch its compiled
library does not load, and `import torchvision` ends with "operator torchvision::nms does not
exist", because it registers fake (shape-only) kernels for operators that are not there. Leaving
those registrations out during that one import is enough: transforms, the data sets and most models
work; `ops.nms` and `io.decode_*` do not. Where the operators are there, nothing is left out.

Import it late: torchvision costs about a second and 84 MB, and most peers need none of it.
"""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
import torch.library

PREFIX = "torchvision::"


def import_torchvision() -> ModuleType:
    """Return the module torchvision, imported with the registrations of missing operators skipped.

    Not thread-safe: `torch.library.register_fake` is replaced while the import runs.
    """
    register = torch.library.register_fake

    def skip_missing(op: Any, func: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        if isinstance(op, str) and op.startswith(PREFIX) and not _exists(op):
            return func if func is not None else lambda function: function
        return register(op, func, **options)

    torch.library.register_fake = skip_missing
    try:
        return importlib.import_module("torchvision")
    finally:
        torch.library.register_fake = register


def _exists(operator: str) -> bool:
    return hasattr(torch.ops.torchvision, operator.removeprefix(PREFIX))
