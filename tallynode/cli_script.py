"""How the command and the scripts end, and the parser that the scripts share."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tallynode.cli_options import Parser
from tallynode.errors import (
    EX_INTERRUPTED,
    EX_OK,
    EX_PIPE,
    EX_SOFTWARE,
    IoError,
    TallynodeError,
)


def exit_code(name: str, work: Callable[[], int]) -> int:
    """Do the work of a command; an error is one line for a person and a code for a script.

    A reader that has had enough (`| head`) ends it without a word.
    """
    try:
        code = work()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The interpreter flushes once more at exit: into nothing (Python's own note on SIGPIPE).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EX_PIPE
    except TallynodeError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return EX_INTERRUPTED
    except Exception:  # noqa: BLE001  the top: a bug of ours, shown whole to whoever mends it
        traceback.print_exc()
        return EX_SOFTWARE


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Run a script to its end; SIGTERM ends it as Ctrl-C does, what it began included."""
    from tallynode.lab.processes import sigterm_as_ctrl_c

    def work() -> int:
        try:
            return main() or EX_OK
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise IoError(f"{where}{error.strerror or error}") from error

    with sigterm_as_ctrl_c():
        sys.exit(exit_code(Path(sys.argv[0]).name, work))


def parser_of(about: str) -> Parser:
    """The parser of a script, whose docstring is its help as it stands."""
    return Parser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
