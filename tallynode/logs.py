"""Logs by structlog: coloured lines for a terminal, JSON lines for machines."""

import contextlib
import io
import sys
from pathlib import Path
from typing import Any, TextIO

import structlog


def configure(*, json_lines: bool, file: TextIO | None = None, verbose: bool = False) -> None:
    """Set the process's logs up, once.

    Args:
        json_lines: one JSON object a line instead of text for a person.
        file: where to; standard error if None.
        verbose: debug lines too.
    """
    out = file or sys.stderr
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if json_lines
        else structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=24)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(
                fmt="iso" if json_lines else "%H:%M:%S", utc=json_lines
            ),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("debug" if verbose else "info"),
        logger_factory=lambda *_: _Lines(out),
        cache_logger_on_first_use=False,
    )


class _Lines:
    """Writes lines; one that a full disk or a closed pipe refuses must not end who speaks."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def msg(self, line: str) -> None:
        """Write one."""
        with contextlib.suppress(OSError):
            print(line, file=self._out, flush=True)

    debug = info = warning = error = msg


def open_file(path: Path) -> TextIO:
    """A file to add log lines to, without a buffer that closing it would have to write."""
    return io.TextIOWrapper(path.open("ab", buffering=0), encoding="utf-8", write_through=True)


def get(name: str) -> Any:
    """A logger."""
    return structlog.get_logger(name)
