"""The command `tallynode bench`."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from tallynode import logs
from tallynode.config_bench import bench_dir, load_bench
from tallynode.errors import EX_OK, UsageError

ABOUT = """Run methods against each other on virtual meshes with the real codecs, as a bench file
says, and write rounds.jsonl, table.csv, bench.json, pictures and report.html. Ctrl-C stops it, the
same command goes on. Without a file: a first picture on the built-in digits."""


def options(parser: argparse.ArgumentParser) -> None:
    """The command's options; --out and --json may stand before it too, and are not undone here."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("file", nargs="?", type=Path, metavar="FILE", help="methods, data, α, seeds")
    which.add_argument("--quick", action="store_true", help="the short bench that is built in")
    parser.add_argument(
        "--out",
        default=argparse.SUPPRESS,
        type=Path,
        metavar="DIR",
        help="default: runs/bench-<file's name>",
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="runs at a time"
    )
    parser.add_argument(
        "--json",
        default=argparse.SUPPRESS,
        action="store_true",
        help="print bench.json to standard output",
    )


def bench(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Do what the command line says; returns the exit code."""
    file = arguments.file or bench_dir() / "quick.yaml"
    if arguments.jobs < 1:
        raise UsageError(f"--jobs: should be 1 or more, not {arguments.jobs}")
    of = load_bench(file)
    from tallynode.lab.comparison.run import Options, run_bench  # torch: after the quick errors

    asked = Options(
        file=file,
        out=arguments.out or Path("runs") / f"bench-{of.name}",
        jobs=arguments.jobs,
        json_output=arguments.json,
        command=["tallynode", *argv],
    )
    logs.configure(json_lines=arguments.json)
    summary = run_bench(of, asked)
    if arguments.json:
        print(json.dumps(summary, indent=2))
    return EX_OK
