"""Twenty thousand damaged inputs through every decoder; a million by scripts/fuzz_coding."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "scripts" / "fuzz_coding"


def test_damaged_inputs_raise_the_one_error() -> None:
    """No decoder raises anything but DecodeError, or returns what is not of the declared shape."""
    loader = SourceFileLoader("fuzz_coding", str(SCRIPT))
    spec = spec_from_loader("fuzz_coding", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    assert set(module.fuzz(20_000, seed=1)) >= {
        "packed",
        "alone",
        "history",
        "tally",
        "soft",
        "delta",
    }
