"""Logs by structlog: coloured lines for a terminal, JSON lines for machines."""

import sys
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
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )


def get(name: str) -> Any:
    """A logger."""
    return structlog.get_logger(name)
