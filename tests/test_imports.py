"""Which way imports run: the rooms of the package and the arrows that may lead out of each.

The protocol is pure, learning knows no network, and nothing imports the command line. Imports
inside functions and under TYPE_CHECKING count as well: an arrow is an arrow.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tallynode"
ANY = ("",)

# room -> what of this package it may import, beside itself, errors and the version
ROOMS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "logs": (),
    "protocol": (),
    "learning": ("protocol.tally",),
    "methods": ("learning", "protocol"),
    "config": ("learning.settings", "protocol"),
    "layout": ("config", "protocol"),
    "advice": ("config", "layout"),
    "assemble": ("config", "layout", "learning", "methods", "protocol"),
    "edge": ("assemble", "config", "layout", "learning.settings", "logs", "methods", "protocol"),
    "lab": (
        *("advice", "assemble", "config", "edge", "layout", "learning", "logs", "methods"),
        "protocol",
    ),
    "cli": ANY,
    "__main__": ("cli",),
    "__init__": (),
}
NETWORK = {"asyncio", "socket", "ssl", "selectors", "uvloop", "aiomqtt", "mqtt5", "zeroconf"}
IMPURE = NETWORK | {"os", "time", "datetime", "random", "secrets", "threading", "subprocess"}
PURE = ({*sys.stdlib_module_names} - IMPURE) | {"numpy", "msgpack"}


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a module imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def room_of(path: Path) -> str:
    """The room that a file of the package stands in."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return next((room for room in ("config", "cli") if first.startswith(f"{room}_")), first)


def lies_in(name: str, place: str) -> bool:
    """Whether a dotted name is a place or inside it; config_* is config, cli_* cli."""
    if place in ("config", "cli"):
        name = place if name.split(".")[0].startswith(f"{place}_") else name
    return not place or name == place or name.startswith(place + ".")


def wrong_arrows(room: str, source: str) -> list[str]:
    """What a module of this room imports and may not."""
    if room not in ROOMS:
        return [f"the room {room} has no rule"]
    allowed = (room, "errors", "__version__", *ROOMS[room])
    wrong = []
    for line, name in imports(source):
        top, _, inner = name.partition(".")
        if top in ("tallynode", ""):
            fine = top != "" and any(lies_in(inner, place) for place in allowed)
        elif room == "protocol":
            fine = top in PURE
        elif room == "learning":
            fine = top not in NETWORK
        else:
            fine = True
        if not fine:
            wrong.append(f"line {line}: {room} imports {name}")
    return wrong


def test_imports_run_one_way() -> None:
    """Every import of the package leads where the rules allow it."""
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 30
    found = [
        f"{file.relative_to(PACKAGE)} {wrong}"
        for file in files
        for wrong in wrong_arrows(room_of(file), file.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("protocol", "import asyncio"),
        ("protocol", "import os.path"),
        ("protocol", "from time import monotonic"),
        ("protocol", "import torch"),
        ("protocol", "def f():\n    import random"),
        ("protocol", "from tallynode.learning.settings import TrainSettings"),
        ("learning", "from tallynode.protocol.peer import Peer"),
        ("learning", "from tallynode.methods import tally"),
        ("learning", "import socket"),
        ("methods", "from tallynode.edge.daemon import Daemon"),
        ("config", "from tallynode.learning.data import load_peer_data"),
        ("edge", "from tallynode.lab.virtual import VirtualMesh"),
        ("edge", "from tallynode.learning import data"),
        ("edge", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tallynode.cli"),
        ("lab", "from tallynode.cli import main"),
        ("assemble", "import tallynode.edge.daemon"),
        ("errors", "from tallynode import config_yaml"),
        ("protocol", "from ..learning import data"),
        ("a-new-room", "import os"),
    ],
)
def test_a_wrong_arrow_is_seen(room: str, source: str) -> None:
    """The checker finds each kind of forbidden import, or it would pass whatever is written."""
    assert len(wrong_arrows(room, source)) == 1


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("protocol", "import numpy as np\nimport msgpack\nfrom collections import deque"),
        (
            "protocol",
            "from tallynode.errors import LocalError\nfrom tallynode.protocol import wire",
        ),
        ("learning", "import torch\nfrom tallynode.protocol.tally import Consensus"),
        (
            "edge",
            "import asyncio\nfrom tallynode import __version__\nfrom tallynode.config import Mesh",
        ),
        ("config", "from tallynode import config_fields as fields"),
        ("cli", "from tallynode.lab.simulate import simulate"),
    ],
)
def test_a_right_arrow_passes(room: str, source: str) -> None:
    """What the design allows is not called wrong."""
    assert wrong_arrows(room, source) == []
