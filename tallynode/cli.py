"""The command line: reads it, builds what it names, prints, and exits by sysexits."""

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from tallynode import __version__, advice, cli_bench, logs
from tallynode.cli_options import Parser, jobs, one_or_more, shared
from tallynode.cli_script import exit_code
from tallynode.config import Mesh, default_mesh, load_mesh
from tallynode.config_problems import findings
from tallynode.errors import EX_OK, EX_UNAVAILABLE, DataError, TallynodeError, UsageError
from tallynode.layout import Layout

EPILOG = """\
examples:
  tallynode simulate                             eight peers on this machine, on the built-in digits
  tallynode --peers-config topology.yaml         the peer that is named like this host
  tallynode --peers-config topology.yaml --peer pi-2
  tallynode bench --quick                        methods against each other, by accuracy and bytes
  tallynode check topology.yaml
  tallynode id --peers-config topology.yaml      this device's ID, for `id:` in the topology
  tallynode pair --peers-config topology.yaml    or let the devices show their IDs to each other
"""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The console script."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Do what the command line says; returns the exit code."""
    arguments = _parser().parse_args(argv)
    return exit_code("tallynode", lambda: _command(arguments, argv))


def _command(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    if arguments.command == "simulate":
        return _simulate(arguments, argv)
    if arguments.command == "bench":
        return cli_bench.bench(arguments, argv)
    if arguments.command == "check":
        return _check(arguments)
    if arguments.command == "export":
        return _export(arguments)
    if arguments.command == "id":
        return _id(arguments)
    if arguments.command == "pair":
        return _pair(arguments)
    return _daemon(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="tallynode",
        description="Train a model together across small devices, by voting, without a server.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tallynode {__version__}")
    _daemon_options(parser)
    commands = parser.add_subparsers(dest="command", metavar="command")
    simulate = commands.add_parser(
        "simulate", help="run every peer of a mesh on this machine", description=_SIMULATE
    )
    _simulate_options(simulate)
    cli_bench.options(
        commands.add_parser(
            "bench", help="compare methods by accuracy and bytes", description=cli_bench.ABOUT
        )
    )
    check = commands.add_parser(
        "check", help="validate a topology.yaml", description="Validate a topology.yaml."
    )
    check.add_argument("file", type=Path, metavar="FILE")
    shared(check, "--json", action="store_true", help="the resolved configuration as JSON")
    export = commands.add_parser(
        "export", help="write a peer's model as safetensors", description=_EXPORT
    )
    export.add_argument("state", type=Path, metavar="STATE_DIR")
    export.add_argument("file", type=Path, metavar="FILE")
    for name, about in (("id", _ID), ("pair", _PAIR)):
        command = commands.add_parser(name, help=about.split(";")[0], description=about)
        _whose_state(command, default=argparse.SUPPRESS)
    return parser


def _whose_state(parser: argparse._ActionsContainer, **keywords: Any) -> None:
    """Options that name a peer; after a command they must not undo what stood before it."""
    parser.add_argument(
        "--peers-config", type=Path, metavar="FILE", help="the mesh: topology.yaml", **keywords
    )
    parser.add_argument(
        "--peer", metavar="NAME", help="which peer this is; default: by host name", **keywords
    )
    parser.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="what survives a restart", **keywords
    )


def _daemon_options(parser: argparse.ArgumentParser) -> None:
    daemon = parser.add_argument_group("run one peer")
    _whose_state(daemon)
    daemon.add_argument("--out", type=Path, metavar="DIR", help="where records go; default: state")
    daemon.add_argument(
        "--threads",
        type=one_or_more,
        default=1,
        metavar="N",
        help="threads for torch; default 1, the fastest for small nets and shared cores",
    )
    daemon.add_argument("--json", action="store_true", help="logs as JSON lines")
    daemon.add_argument("--verbose", action="store_true", help="debug lines too")


_ID = """print this device's ID; makes its key at the first call"""
_PAIR = """pin the other devices of the mesh; run it on them at the same time and compare what the
screens say"""
_EXPORT = """Write the model of a peer's last checkpoint as safetensors; the peer may be running.
One that ends writes its model.safetensors by itself."""
_SIMULATE = """Run every peer of a mesh as a process on this machine: real brokers, real mDNS, real
TCP. Writes a run folder with report.html. Without a file: eight peers in a ring on digits."""


def _simulate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="as --peers-config FILE")
    shared(parser, "--peers-config", type=Path, metavar="FILE", help="the mesh: topology.yaml")
    shared(parser, "--out", type=Path, metavar="DIR", help="default: runs/<mesh>-<time>")
    parser.add_argument("--baseline", action="store_true", help="also train the same peers alone")
    parser.add_argument("--virtual", action="store_true", help="made-up clock and network")
    jobs(parser, "processes that train a virtual mesh or the baseline")
    parser.add_argument("--restart", action="store_true", help="start killed peers again")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="instead of the file's rounds.count"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the file's seed")
    parser.add_argument("--broker", metavar="KIND", help="instead of the file's broker")
    shared(parser, "--json", action="store_true", help="print summary.json to standard output")


def _simulate(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    if arguments.file and arguments.peers_config:
        raise UsageError("the mesh is named twice: give FILE or --peers-config FILE")
    file = arguments.file or arguments.peers_config
    mesh = load_mesh(file) if file else default_mesh()
    mesh = _changed(mesh, arguments)
    if not mesh.rounds.count:
        raise UsageError("rounds.count is 0, for ever: give a simulation an end with --rounds N")
    from tallynode.lab.simulate import Options, simulate  # torch: after the quick errors

    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    options = Options(
        out=arguments.out or Path("runs") / f"{mesh.mesh}-{stamp}",
        baseline=arguments.baseline,
        virtual=arguments.virtual,
        restart=arguments.restart,
        jobs=arguments.jobs,
        json_output=arguments.json,
        command=["tallynode", *argv],
    )
    logs.configure(json_lines=arguments.json)
    summary = simulate(mesh, options)
    if arguments.json:
        print(json.dumps(summary, indent=2))
    broken = [peer["name"] for peer in summary["peers"] if peer["exit"] in ("failed", "crashed")]
    if broken:
        raise TallynodeError(f"{', '.join(broken)} ended with an error: see its log.jsonl")
    return EX_OK


def _changed(mesh: Mesh, arguments: argparse.Namespace) -> Mesh:
    """The mesh with what the command line says instead of the file."""
    plain = mesh.model_dump(mode="json", exclude_none=True)
    if arguments.rounds is not None:
        plain["rounds"]["count"] = arguments.rounds
    if arguments.seed is not None:
        plain["seed"] = arguments.seed
    if arguments.broker is not None:
        plain["broker"] = arguments.broker
    try:
        return Mesh.model_validate(plain)
    except ValidationError as error:
        wrong = findings(error, Mesh)[0]
        option = "--" + str(wrong.where[-1]).replace("count", "rounds")
        raise UsageError(f"{option}: {wrong.why}") from error


def _check(arguments: argparse.Namespace) -> int:
    mesh = load_mesh(arguments.file)
    if arguments.json:
        print(mesh.model_dump_json(indent=2, exclude_none=True))
        return EX_OK
    print(f"{arguments.file}: mesh {mesh.called}, {len(mesh.peers)} peers, {mesh.graph.kind}: fine")
    layout = Layout.of(mesh)
    for line in advice.warnings(mesh, layout) + advice.hints(mesh, layout):
        print(f"{arguments.file}: {line}", file=sys.stderr)
    return EX_OK


def _export(arguments: argparse.Namespace) -> int:
    from tallynode.edge.checkpoint import unpack, write_model
    from tallynode.edge.storage import CheckpointStore
    from tallynode.methods.copies import learner_weights

    if not arguments.state.is_dir():
        raise DataError(f"{arguments.state}: no such folder")
    store = CheckpointStore(arguments.state)
    loaded = store.load()
    if loaded is None:
        why = "; ".join(store.damaged)
        raise DataError(why or f"{arguments.state}: holds no checkpoint of a peer")
    write_model(arguments.file, learner_weights(unpack(loaded.body)[1]), {})
    print(f"{arguments.file}: written")
    return EX_OK


def _id(arguments: argparse.Namespace) -> int:
    if arguments.peers_config is None and arguments.state_dir is None:
        _parser().error("id needs to know whose: --state-dir DIR, or --peers-config FILE")
    from tallynode.edge.identity import give_to_owner, load_or_make

    state = arguments.state_dir or _whose(arguments)[2]
    print(load_or_make(state).id)
    give_to_owner(state)
    return EX_OK


def _pair(arguments: argparse.Namespace) -> int:
    from tallynode.edge.pair import pair

    logs.configure(json_lines=False)
    return EX_OK if pair(*_whose(arguments)) else EX_UNAVAILABLE


def _whose(arguments: argparse.Namespace) -> tuple[Mesh, str, Path]:
    """The mesh, this peer's name in it, and its state folder."""
    if arguments.peers_config is None:
        other = "" if arguments.command else ", or a command (simulate, check),"
        _parser().error(f"--peers-config FILE{other} is needed")
    from tallynode.edge.storage import default_state_dir

    mesh = load_mesh(arguments.peers_config)
    host = platform.node()
    name = (mesh.peer(arguments.peer) if arguments.peer else mesh.peer_for_host(host)).name
    state = arguments.state_dir or _state_of_service() or default_state_dir(mesh.mesh, name)
    return mesh, name, state


def _daemon(arguments: argparse.Namespace) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # until there is what it reloads
    mesh, name, state = _whose(arguments)
    logs.configure(json_lines=arguments.json, verbose=arguments.verbose)
    from tallynode.edge.daemon import Folders
    from tallynode.edge.process import start

    folders = Folders(state=state, run=arguments.out or state)
    start(
        mesh,
        name,
        folders,
        threads=arguments.threads,
        read_again=lambda: load_mesh(arguments.peers_config),
    )
    return EX_OK


def _state_of_service() -> Path | None:
    """The folder that systemd made for this service (StateDirectory=)."""
    given = os.environ.get("STATE_DIRECTORY")
    return Path(given.split(":")[0]) if given else None
