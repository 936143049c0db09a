"""The command `tallynode bench`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tallynode import logs
from tallynode.cli_options import jobs, shared
from tallynode.config_bench import bench_dir, load_bench
from tallynode.errors import EX_OK

ABOUT = """Run methods against each other on virtual meshes with the real codecs, as a bench file
says, and write rounds.jsonl, table.csv, bench.json, pictures and report.html. Ctrl-C stops it, the
same command goes on. Without a file: a first picture on the built-in digits."""


def options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("file", nargs="?", type=Path, metavar="FILE", help="methods, data, α, seeds")
    which.add_argument("--quick", action="store_true", help="the short bench that is built in")
    shared(parser, "--out", type=Path, metavar="DIR", help="default: runs/bench-<file's name>")
    jobs(parser, "runs at a time")
    shared(parser, "--json", action="store_true", help="print bench.json to standard output")


def bench(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Do what the command line says; returns the exit code."""
    file = arguments.file or bench_dir() / "quick.yaml"
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
    run_bench(of, asked)
    return EX_OK
