"""What the commands' options have in common."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from tallynode.errors import EX_USAGE

T = TypeVar("T")


class Parser(argparse.ArgumentParser):
    """A wrong command line exits by sysexits, not with argparse's 2."""

    def error(self, message: str) -> NoReturn:
        """See ArgumentParser."""
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


def shared(parser: argparse.ArgumentParser, option: str, **keywords: Any) -> None:
    """An option that may stand before the command too: its default must not undo it there."""
    parser.add_argument(option, default=argparse.SUPPRESS, **keywords)


def jobs(parser: argparse.ArgumentParser, of_what: str) -> None:
    """`--jobs N`, all cores by default."""
    cores = os.cpu_count() or 1
    about = f"{of_what}; default: all cores"
    parser.add_argument("--jobs", type=one_or_more, default=cores, metavar="N", help=about)


def one_or_more(text: str) -> int:
    """Read a number from a command line; what argparse reports if it is none."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"should be 1 or more, not {text}")
    return number


def list_of(kind: Callable[[str], T]) -> Callable[[str], list[T]]:
    """Reads 1,2,3."""

    def read(text: str) -> list[T]:
        return [kind(part.strip()) for part in text.split(",")]

    read.__name__ = f"comma-separated {kind.__name__}s"  # argparse quotes it in its refusal
    return read


def names_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Reads A,B or A;B; where a name holds commas itself, the longest that fits is meant."""
    longest_first = sorted(known, key=len, reverse=True)

    def read(text: str) -> list[str]:
        found: list[str] = []
        rest = text.strip()
        while rest or not found:
            fits = (
                re.match(rf"({re.escape(name)})\s*(?:[,;]\s*|$)", rest) for name in longest_first
            )
            fit = next(filter(None, fits), None)
            if fit is None:
                raise argparse.ArgumentTypeError(f"{rest!r} is none of: {'; '.join(known)}")
            found.append(fit[1])
            rest = rest[fit.end() :]
        return found

    return read
