"""Which device each name of the mesh stands for: the IDs of topology.yaml and those paired here.

`tallynode pair` writes into pins.yaml in the state folder and not into topology.yaml, which is a
person's (with comments, often under version control, the same on every device) and which a service
may not even be able to write. The two are read together; where they contradict each other nobody
guesses.
"""

from pathlib import Path

import structlog

from tallynode.config import Mesh
from tallynode.config_yaml import Problem, dotted, read_document
from tallynode.edge.storage import atomic_write, make_folder
from tallynode.errors import ConfigError, IoError
from tallynode.protocol import device_id

FILE = "pins.yaml"
_HEAD = (
    "# Devices that were paired with this one. To unpair: delete the line, then reload the peer.\n"
)

log = structlog.get_logger(__name__)


def pins_of(mesh: Mesh, state: Path) -> dict[str, str]:
    """Device IDs by peer name, from both files; a name that has left the topology has none.

    Raises:
        ConfigError: pins.yaml is wrong, or a name has two IDs.
        IoError: the folder cannot be read.
    """
    paired = read_pins(state)
    pinned = {peer.name: peer.id for peer in mesh.peers if peer.id}
    if gone := sorted(paired.keys() - set(mesh.names)):
        log.warning("pinned, but no peer of this mesh", names=gone, file=str(state / FILE))
    for name in paired.keys() & set(mesh.names):
        device = paired[name]
        if pinned.setdefault(name, device) != device:
            raise ConfigError(
                f"{name} is pinned twice: as {pinned[name]} in the topology and as {device} in "
                f"{state / FILE}; delete the wrong one"
            )
    return pinned


def read_pins(state: Path) -> dict[str, str]:
    """What pins.yaml holds, nothing if there is none.

    Raises:
        ConfigError: it is wrong, with file:line:column.
        IoError: the folder cannot be read.
    """
    path = state / FILE
    try:
        if not path.exists():
            return {}
    except OSError as error:  # the folder is a service's, and we are neither it nor root
        raise IoError(f"{path}: cannot read: {error.strerror}") from error
    document = read_document(path)
    if document.data is None:
        return {}
    problems = list(document.problems)
    pins: dict[str, str] = {}
    if not isinstance(document.data, dict):
        problems.append(Problem(document.value_mark(()), "", "should be lines of `name: ID`"))
    else:
        for name, value in document.data.items():
            try:
                pins[name] = device_id.read(str(value))
            except device_id.DeviceIdError as error:
                where = (name,)
                problems.append(Problem(document.value_mark(where), dotted(where), str(error)))
    if problems:
        raise ConfigError("\n".join(problem.line(str(path)) for problem in sorted(problems)))
    return pins


def add_pin(state: Path, name: str, device: str) -> None:
    """Add a pin to pins.yaml, or change it. Raises ConfigError, IoError."""
    pins = read_pins(state) | {name: device}
    lines = [f"{known}: {pins[known]}\n" for known in sorted(pins)]
    make_folder(state)
    atomic_write(state / FILE, (_HEAD + "".join(lines)).encode())
