"""The process mesh: every peer of a topology as a real process on this machine.

Peers are forked from a server that has torch warm; from there on they are ordinary daemons with
brokers, mDNS and folders of their own. What they did is read from the files that they write, so a
peer that was killed and started again from another terminal is seen like any other.
"""

import asyncio
import json
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from threading import Thread
from typing import Any, cast

import psutil

from tallynode import logs
from tallynode.config import Mesh
from tallynode.edge.journal import earlier
from tallynode.edge.storage import make_folder
from tallynode.errors import EX_OK, EX_SOFTWARE, LocalError, TallynodeError

STOP_WITHIN_S = 15.0  # seconds a peer has to end after SIGTERM before it is killed
WARM = "tallynode.lab.warm"


def peer_folder(run_dir: Path, name: str) -> Path:
    """Where a simulated peer writes."""
    return run_dir / "peers" / name


def warm_context() -> ForkServerContext:
    """Where processes come from that have torch loaded already, one thread each."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before the fork server imports torch
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([WARM])
    return context


def tell(pipe: Connection, work: Callable[[], object]) -> None:
    """In a child: do something and send what comes out of it, or what it raises."""
    try:
        said: tuple[object, Exception | None] = work(), None
    except Exception as error:  # noqa: BLE001  it is raised again where it can be handled
        error.add_note(traceback.format_exc())
        said = None, error
    with suppress(BrokenPipeError, ConnectionResetError):  # whoever asked was killed
        pipe.send(said)


def hear(pipe: Connection, process: ForkServerProcess, who: str) -> object:
    """What a child tells; what was raised there is raised here.

    Raises:
        LocalError: it has died, which is said of `who`.
    """
    try:
        said, error = pipe.recv()
    except (EOFError, OSError):
        process.join()
        raise LocalError(f"{who} ended with {process.exitcode} and no result") from None
    if error is not None:
        raise error
    return cast(object, said)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Whoever asks a run to stop, in whatever way, gets what there is, and nothing runs on."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class ProcessMesh:
    """Starts, watches and ends the peers.

    Args:
        mesh: the configuration, as written to run_dir / topology.yaml.
        run_dir: the run folder.
    """

    def __init__(self, mesh: Mesh, run_dir: Path) -> None:
        self._mesh = mesh
        self._run_dir = run_dir
        self._context = warm_context()
        self._processes: dict[str, ForkServerProcess] = {}
        self._offsets: dict[str, int] = {}

    def start(self, name: str, mesh: Mesh | None = None) -> int:
        """Start one peer, or start it again, with the mesh as it sees it; its process id.

        Raises:
            IoError: its folder cannot be made.
        """
        make_folder(peer_folder(self._run_dir, name))
        process = self._context.Process(
            target=_run_peer,
            args=(mesh or self._mesh, name, self._run_dir),
            name=f"tallynode {name}",
        )
        process.start()
        self._processes[name] = process
        return process.pid or 0

    def exits(self) -> dict[str, str | None]:
        """How each peer ended in one word, None while it runs."""
        return {name: _exit_word(process.exitcode) for name, process in self._processes.items()}

    def pids(self) -> dict[str, int | None]:
        """Process ids, by peer."""
        return {name: process.pid for name, process in self._processes.items()}

    def kill(self, name: str) -> None:
        """SIGKILL one peer; returns when it is gone."""
        self._processes[name].kill()
        self._processes[name].join()

    def elsewhere(self) -> set[str]:
        """Peers of ours that were killed and that somebody has started again, in a terminal."""
        found = set()
        for name, process in self._processes.items():
            lock = peer_folder(self._run_dir, name) / "state" / "lock"
            if process.exitcode is None or process.exitcode >= 0 or not lock.exists():
                continue
            holder = lock.read_text(encoding="ascii").strip()
            if holder.isdigit() and int(holder) != process.pid and psutil.pid_exists(int(holder)):
                found.add(name)
        return found

    def new_records(self) -> list[dict[str, Any]]:
        """Lines that peers have written since the last call."""
        records = []
        for name in self._processes:
            path = peer_folder(self._run_dir, name) / "rounds.jsonl"
            if not path.exists():
                continue
            if path.stat().st_size < self._offsets.get(name, 0):  # it was full
                records += self._read(name, earlier(path))
                self._offsets[name] = 0
            records += self._read(name, path)
        return records

    def _read(self, name: str, path: Path) -> list[dict[str, Any]]:
        """The whole lines of a peer's file behind those that were read."""
        with path.open("rb") as lines:
            lines.seek(self._offsets.get(name, 0))
            data = lines.read()
        whole = data.rfind(b"\n") + 1  # a line that is still being written waits
        self._offsets[name] = self._offsets.get(name, 0) + whole
        return [json.loads(line) for line in data[:whole].splitlines()]

    def outcome(self, name: str) -> Mapping[str, Any]:
        """What a peer wrote when it ended; empty if it did not come to that."""
        path = peer_folder(self._run_dir, name) / "outcome.json"
        try:
            found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return found

    def stop(self) -> None:
        """End every peer that still runs, politely first."""
        running = [p for p in self._processes.values() if p.exitcode is None]
        for process in running:
            process.terminate()
        for process in running:
            process.join(STOP_WITHIN_S)
        for process in running:
            if process.exitcode is None:
                process.kill()
                process.join()


def _run_peer(mesh: Mesh, name: str, run_dir: Path) -> None:
    """The life of a forked peer."""
    from tallynode.edge.daemon import Folders
    from tallynode.edge.process import start

    folder = peer_folder(run_dir, name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us through the parent's SIGTERM
    code = EX_OK
    with logs.open_file(folder / "log.jsonl") as file:
        logs.configure(json_lines=True, file=file)
        try:
            start(
                mesh, name, Folders(state=folder / "state", run=folder), on_loop=_stop_with_parent
            )
        except TallynodeError as error:
            logs.get(__name__).error("ended", why=str(error))
            code = error.exit_code
    raise SystemExit(code)


def _stop_with_parent(loop: asyncio.AbstractEventLoop, stop: Callable[[], object]) -> None:
    """Stop as a daemon does that is told to."""

    def gone() -> None:
        with suppress(RuntimeError):  # the loop has closed: it was about to end
            loop.call_soon_threadsafe(stop)

    _when_parent_ends(gone)


def end_with_parent() -> None:
    """In a child: end with the process that began it, in the middle of whatever is done."""
    _when_parent_ends(lambda: os._exit(EX_SOFTWARE))


def _when_parent_ends(do: Callable[[], None]) -> None:
    """In a child: do something, in a thread, once the process that began it is gone, or killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def wait() -> None:
            parent.join()
            do()

        Thread(target=wait, name="parent", daemon=True).start()


def _exit_word(code: int | None) -> str | None:
    if code is None:
        return None
    if code == EX_OK:
        return "finished"
    if code < 0:
        return f"killed ({signal.Signals(-code).name})"
    return "failed" if code != EX_SOFTWARE else "crashed"
