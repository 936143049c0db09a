"""pins.yaml: what pairing wrote, read together with the topology."""

import os
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tallynode.config import Mesh
from tallynode.edge.pins import add_pin, pins_of, read_pins
from tallynode.errors import ConfigError, IoError
from tallynode.protocol import device_id

A, B, C = (device_id.write(bytes([i]) * 20) for i in range(3))


def mesh(**ids: str | None) -> Mesh:
    """A mesh of these peers."""
    return Mesh.model_validate(
        {"mesh": "m", "peers": [{"name": n, "id": i} for n, i in ids.items()]}
    )


def test_what_is_added_is_read(tmp_path: Path) -> None:
    """Pins pile up, a newer one replaces an older, and the file is for this user only."""
    state = tmp_path / "state"
    assert read_pins(state) == {}
    for name, device in (("pi-2", A), ("on", B), ("pi-2", C)):
        add_pin(state, name, device)
    assert read_pins(state) == {"on": B, "pi-2": C}
    assert stat.S_IMODE((state / "pins.yaml").stat().st_mode) == 0o600


def test_a_person_may_edit_it(tmp_path: Path) -> None:
    """Comments, lower case and an empty file are fine."""
    path = tmp_path / "pins.yaml"
    path.write_text(f"# mine\npi-2: {A.lower()}   # the one in the attic\n")
    assert read_pins(tmp_path) == {"pi-2": A}
    path.write_text("# nobody\n")
    assert read_pins(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (f"a: {A}\nb: {B[:-1]}Z\n", ":2:4: b: group 8 "),
        ("- a\n", ":1:1: should be lines of `name: ID`"),
        (f"a: {A}\na: {A}\n", ":2:1: a: this key was already given"),
        ("a: [\n", ":2:1: not valid YAML"),
        ("a: 12\n", ":1:4: a: should be TALLY and 8 groups"),
    ],
)
def test_mistakes_are_shown_at_their_place(tmp_path: Path, text: str, where: str) -> None:
    """As in topology.yaml: file, line and column."""
    (tmp_path / "pins.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_pins(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/pins.yaml{where}")


def test_who_has_left_the_topology_is_pinned_no_more(tmp_path: Path) -> None:
    """A line that was left behind in pins.yaml lets nobody in, and is named."""
    add_pin(tmp_path, "b", B)
    with capture_logs() as logs:
        assert pins_of(mesh(a=A), tmp_path) == {"a": A}
    assert [(line["log_level"], line["names"]) for line in logs] == [("warning", ["b"])]


@pytest.mark.privileged
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take its own privileges away")
def test_a_services_folder_is_an_error_without_sudo(tmp_path: Path) -> None:
    """Who forgot sudo reads one line that names the file."""
    os.seteuid(65534)
    try:
        with pytest.raises(IoError, match=r"pins\.yaml: cannot read: Permission denied"):
            read_pins(tmp_path)
    finally:
        os.seteuid(0)


def test_both_files_count_and_may_not_contradict_each_other(tmp_path: Path) -> None:
    """A name with the same ID twice is fine, with two IDs nobody guesses."""
    add_pin(tmp_path, "a", A)
    assert pins_of(mesh(a=None, b=B), tmp_path) == {"a": A, "b": B}
    assert pins_of(mesh(a=A, b=B), tmp_path) == {"a": A, "b": B}
    with pytest.raises(ConfigError, match="a is pinned twice"):
        pins_of(mesh(a=C, b=B), tmp_path)
