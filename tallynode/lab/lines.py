"""Files of JSON lines that grow while something runs, and that a killed run may have cut off."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def lines_of(file: Path) -> Iterator[dict[str, Any]]:
    """The lines that are whole; none where there is no file."""
    if not file.exists():
        return
    for text in file.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # cut off when the call that wrote it was killed
        yield line


def append(file: Path, lines: Iterable[Mapping[str, Any]], *, anew: bool = False) -> None:
    """Add lines at the end, in one write; anew: in place of what is there."""
    with file.open("w" if anew else "a", encoding="utf-8") as out:
        out.write("".join(json.dumps(line) + "\n" for line in lines))


def end_line(file: Path) -> None:
    """Let what is appended begin on a line of its own, also after a call that was killed."""
    if file.exists() and not file.read_bytes().endswith(b"\n"):
        with file.open("ab") as out:
            out.write(b"\n")
