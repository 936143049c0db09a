"""Files of JSON lines that grow while something runs, and that a killed run may have cut off.

Raises:
    IoError: a file cannot be read, or written.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tallynode.errors import IoError


def lines_of(file: Path) -> Iterator[dict[str, Any]]:
    """The lines that are whole; none where there is no file."""
    if not file.exists():
        return
    with _told(file, "read"):
        text = file.read_text(encoding="utf-8", errors="replace")
    for each in text.splitlines():
        try:
            line = json.loads(each)
        except ValueError:
            continue  # cut off when the call that wrote it was killed
        if isinstance(line, dict):
            yield line


def append(file: Path, lines: Iterable[Mapping[str, Any]], *, anew: bool = False) -> None:
    """Add lines at the end, in one write; anew: in place of what is there."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    with _told(file, "written"), file.open("w" if anew else "a", encoding="utf-8") as out:
        out.write(text)


def end_line(file: Path) -> None:
    """Let what is appended begin on a line of its own, also after a call that was killed."""
    with _told(file, "written"):
        if file.exists() and not file.read_bytes().endswith(b"\n"):
            with file.open("ab") as out:
                out.write(b"\n")


@contextmanager
def _told(file: Path, what: str) -> Iterator[None]:
    """What the operating system refuses, as an error that names the file."""
    try:
        yield
    except OSError as error:
        raise IoError(f"{file}: cannot be {what}: {error.strerror}") from error
