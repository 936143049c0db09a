"""Twenty thousand damaged inputs through every decoder; a million by scripts/fuzz_coding."""

from collections.abc import Callable
from types import ModuleType


def test_damaged_inputs_raise_the_one_error(script: Callable[[str], ModuleType]) -> None:
    """No decoder raises anything but DecodeError, or returns what is not of the declared shape."""
    module = script("fuzz_coding")
    assert set(module.fuzz(20_000, seed=1)) >= {
        "packed",
        "alone",
        "history",
        "tally",
        "soft",
        "delta",
    }
