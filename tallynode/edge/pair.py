"""`tallynode pair`: two people at two terminals."""

import asyncio
import os
import signal
import sys
import termios
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from tallynode.config import Mesh
from tallynode.edge.admission import keep_certificate
from tallynode.edge.client import end_tasks
from tallynode.edge.identity import give_to_owner, load_or_make
from tallynode.edge.pairing import Candidate, Pairing
from tallynode.edge.pins import FILE, add_pin, pins_of, read_pins
from tallynode.edge.storage import FolderLock
from tallynode.errors import ConfigError, IoError, UsageError

WINDOW_S = 600.0  # seconds; a door that somebody forgot to close

_QUESTION = """\
{name} shows itself as
    {id}
Is that what the screen of {name} says? [y/N] """

_STRANGER = """\
{name} shows itself as
    {id}
but is pinned as
    {pin}
If the screen of {name} says the first, it is another device now: delete its pin in
{where} and run pair again."""


def pair(mesh: Mesh, name: str, state: Path) -> int:
    """Pair this device with the others of its mesh that are not pinned here yet.

    Where all are, it stays for those that have not pinned this device.

    Args:
        mesh: the whole configuration.
        name: this peer's.
        state: its state folder.

    Returns:
        how many were paired.

    Raises:
        UsageError: there is no terminal to ask at.
        ConfigError: mDNS is off, or the pins contradict each other.
        DataError, IoError: key or pins cannot be used.
    """
    if not sys.stdin.isatty():
        raise UsageError("pair asks questions: it needs a terminal")
    realm = mesh.realm
    if realm is None:
        raise ConfigError("discovery is off in this mesh: write the IDs into the topology instead")
    pinned, paired_before = pins_of(mesh, state), read_pins(state)
    others = set(mesh.names) - {name}
    wanted = others - set(pinned) or others
    identity = load_or_make(state)
    give_to_owner(state)
    paired: list[str] = []

    def write(candidate: Candidate) -> None:
        if candidate.name not in pinned:
            add_pin(state, candidate.name, candidate.id)
        keep_certificate(state / "identity", candidate.name, candidate.certificate)
        give_to_owner(state)
        paired.append(candidate.name)
        print(f"{candidate.name} is paired", flush=True)

    def tell(stranger: Candidate) -> None:
        where = str(state / FILE) if stranger.name in paired_before else "the topology"
        pin = pinned[stranger.name]
        print(
            _STRANGER.format(name=stranger.name, id=stranger.id, pin=pin, where=where), flush=True
        )

    print(f"This is {name}:\n    {identity.id}")
    if others <= set(pinned):
        print(f"All others are pinned here; this waits for those that have not pinned {name}.")
    print(f"Run `tallynode pair` on {', '.join(sorted(wanted))} as well, within ten minutes.")
    print("Ctrl-C ends it; what is paired by then stays paired.", flush=True)
    pairing = Pairing(identity, _ask, write, tell, wanted, pinned)
    if not asyncio.run(_within_window(pairing.run(name, realm, mesh.listen))):
        print("\nThe ten minutes are over.")
    if paired:
        print(f"The pins are in {state / FILE}.")
        _tell_running_peer(state)
    return len(paired)


async def _within_window(work: Coroutine[Any, Any, None]) -> bool:
    """Whether the work came to its end in time; Ctrl-C ends it for good, wherever it is."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=WINDOW_S)
    finally:
        await end_tasks({task})
    if done:
        task.result()
    return bool(done)


async def _ask(candidate: Candidate) -> bool:
    """Put the question, without holding up the loop; the end of input is a no."""
    termios.tcflush(sys.stdin, termios.TCIFLUSH)  # what was typed before it is no answer
    print(_QUESTION.format(name=candidate.name, id=candidate.id), end="", flush=True)
    loop = asyncio.get_running_loop()
    typed = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), typed.set)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    yes = os.read(sys.stdin.fileno(), 1024).strip().lower() in (b"y", b"yes")
    if yes:
        print(f"Waiting for the yes at {candidate.name} …", flush=True)
    else:
        print(f"{candidate.name} is not paired; run pair again to be asked again.", flush=True)
    return yes


def _tell_running_peer(state: Path) -> None:
    """A peer that runs on this state takes the new pins over at SIGHUP."""
    try:
        with FolderLock(state):  # made by root, the lock file would keep the service out for ever
            give_to_owner(state)
            return
    except IoError:
        holder = (state / "lock").read_text(encoding="ascii").strip()
    try:
        os.kill(int(holder), signal.SIGHUP)
    except (ValueError, PermissionError, ProcessLookupError):
        print("A peer is running on this state: reload it (SIGHUP) for the new pins.")
