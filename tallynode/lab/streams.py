"""Recorded vote streams, which coding is measured on and tuned by."""

from pathlib import Path

from tallynode.errors import DataError


def streams_in(folder: Path) -> list[Path]:
    """The vote streams that a folder holds.

    Raises:
        DataError: it holds none.
    """
    found = sorted(folder.glob("*.npz"))
    if not found:
        raise DataError(f"{folder}: holds no streams; scripts/record_votes writes them")
    return found
