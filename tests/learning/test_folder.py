"""A peer's own images in folders: what loads, and what is refused with its path."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tallynode.errors import DataError
from tallynode.learning.data import PeerData, Watch, load_peer_data
from tallynode.learning.settings import DataSettings


def _image(path: Path, value: int, size: tuple[int, int] = (6, 4), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 0)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of five images and three probes, all different, 6 wide and 4 high."""
    for number in range(5):
        _image(tmp_path / "private" / "cat" / f"{number}.png", number)
        _image(tmp_path / "private" / "dog" / f"{number}.png", 100 + number)
    for number in range(3):
        _image(tmp_path / "probes" / f"{number}.png", 200 + number)
    return tmp_path


def _load(root: Path, **more: object) -> PeerData:
    return load_peer_data(DataSettings(source=f"folder:{root}", **more))  # type: ignore[arg-type]


def test_a_tenth_is_held_out_where_there_is_no_test_folder(root: Path) -> None:
    """Ten private images give nine to train and one to test, the same one every time."""
    data = _load(root)
    assert data.classes == ("cat", "dog")
    assert data.probes.shape == (3, 1, 4, 6)
    assert (len(data.private), len(data.test)) == (9, 1)
    assert torch.equal(data.test.x, _load(root).test.x)
    assert data.probe_labels is None
    values = torch.cat([data.private.x, data.test.x])[:, 0, 0, 0] * 255
    labels = torch.cat([data.private.y, data.test.y])
    assert torch.equal(values >= 100, labels == 1)


def test_a_test_folder_is_used_and_private_stays_whole(root: Path) -> None:
    """With PATH/test/<class>/ nothing is held out."""
    _image(root / "test" / "dog" / "x.png", 50)
    data = _load(root)
    assert (len(data.private), len(data.test)) == (10, 1)
    assert data.test.y.tolist() == [1]


def test_a_class_list_holds_for_a_peer_that_lacks_a_class(root: Path) -> None:
    """classes.txt sets the order and may name classes of which this peer has no image."""
    (root / "classes.txt").write_text("dog\nbird\n\ncat\n")
    data = _load(root)
    assert data.classes == ("dog", "bird", "cat")
    assert sorted(set(data.private.y.tolist()) | set(data.test.y.tolist())) == [0, 2]


def test_images_take_the_format_of_the_first_probe(root: Path) -> None:
    """Another size and colour are turned into the first probe's, JPEG too."""
    _image(root / "private" / "cat" / "big.jpg", 30, size=(60, 40), mode="RGB")
    assert _load(root).private.x.shape[1:] == (1, 4, 6)


def test_colour_probes_make_colour_data_and_the_settings_set_the_size(root: Path) -> None:
    """A colour first probe gives three channels; image_size is (height, width)."""
    _image(root / "probes" / "0.png", 7, mode="RGB")
    data = _load(root, image_size=(2, 3))
    assert data.probes.shape == (3, 3, 2, 3)
    assert np.isclose(float(data.probes[0, 0, 0, 0]) * 255, 7)
    assert float(data.probes[0, 1].max()) == 0


@pytest.mark.parametrize("first", ["L", "RGB", "I;16"])
def test_grey_of_16_bits_keeps_its_shades(root: Path, first: str) -> None:
    """Whatever the first probe is, a shade is its upper eight bits."""
    shades = np.array([[0, 255, 256, 0x7FFF, 0xFF00, 0xFFFF]] * 4, dtype=np.uint16)
    Image.fromarray(shades).save(root / "private" / "cat" / "16.png")
    if first == "I;16":
        Image.fromarray(shades + 1).save(root / "probes" / "0.png")
    elif first == "RGB":
        _image(root / "probes" / "0.png", 200, mode="RGB")
    data = _load(root)
    assert data.probes.shape[1] == (3 if first == "RGB" else 1)
    rows = {tuple((x[0, 0] * 255).round().int().tolist()) for x in (*data.private.x, *data.test.x)}
    assert (0, 0, 1, 127, 255, 255) in rows


def test_a_copy_within_a_class_is_left_out_and_told(root: Path) -> None:
    """The same file twice would leak from private into the held-out tenth."""
    _image(root / "private" / "cat" / "copy.png", 1)
    told: list[str] = []
    data = load_peer_data(DataSettings(source=f"folder:{root}"), told.append)
    assert len(data.private) + len(data.test) == 10
    assert any("copy.png: the same image as 1.png, left out" in line for line in told)


def test_what_tools_leave_beside_the_images_is_no_image(root: Path) -> None:
    """Thumbnails and what a notebook or a Mac's archive brings are neither class nor image."""
    alone = _load(root)
    for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX"):
        _image(root / "private" / name / "0.png", 8)
    for place in ("private/cat", "probes"):
        (root / place / "._1.png").write_bytes(b"no image")
    data = _load(root)
    assert data.classes == alone.classes
    assert len(data.private) == len(alone.private)
    assert torch.equal(data.probes, alone.probes)


def test_a_broken_private_image_is_left_out_and_told(root: Path) -> None:
    """Empty after a power cut, cut short or away, it costs itself alone, also later."""
    told: list[str] = []
    settings = DataSettings(source=f"folder:{root}")
    watch = Watch(settings, told.append)
    whole = (root / "private" / "cat" / "1.png").read_bytes()
    broken = {"cat/a.png": b"", "dog/b.jpg": b"", "cat/c.png": whole[:50]}
    for name, content in broken.items():
        (root / "private" / name).write_bytes(content)
    (root / "private" / "dog" / "d.png").symlink_to(root / "gone")
    data = load_peer_data(settings, told.append)
    assert len(data.private) + len(data.test) == 10
    left_out = [line for line in told if line.endswith(", left out")]
    for name in (*broken, "dog/d.png"):
        assert sum(f"{root / 'private' / name}: " in line for line in left_out) == 1
    assert len(left_out) == 4
    again = watch.renewed()
    assert again is not None
    assert len(again.private) == len(data.private)
    assert len([line for line in told if line.endswith(", left out")]) == 8


def test_a_folder_of_broken_private_images_is_refused(root: Path) -> None:
    """Nothing is left to train on."""
    for path in (root / "private").glob("*/*"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="private: none of its 10 images can be decoded"):
        _load(root)


def _name_in_latin_1(root: Path) -> None:
    (root / "private" / "dog").rename(root / "private" / os.fsdecode(b"\xe9l\xe9phant"))


def _break_test(root: Path) -> None:
    _image(root / "test" / "cat" / "0.png", 50)
    (root / "test" / "cat" / "1.png").write_bytes(b"")


def _remove_probes(root: Path) -> None:
    for path in (root / "probes").iterdir():
        path.unlink()


def _empty_private(root: Path) -> None:
    for path in (root / "private").glob("*/*"):
        path.unlink()


def _one_class(root: Path) -> None:
    (root / "private" / "dog").rename(root / "dog")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "probes").rename(root / "p"), "probes: no such folder"),
        (_remove_probes, "probes: no PNG or JPEG images"),
        (_empty_private, "private: no PNG or JPEG images in class folders"),
        (_one_class, "private: 1 class folders, two are needed"),
        (lambda root: _image(root / "private/cat/p.png", 200), "p.png: the same image as .*0.png"),
        (lambda root: _image(root / "private/dog/d.png", 3), "d.png: the same image as .*3.png"),
        (lambda root: _image(root / "test/cat/t.png", 3), "t.png: the same image as .*3.png"),
        (lambda root: _image(root / "test/emu/t.png", 9), "emu: class 'emu' is not in the list"),
        (lambda root: (root / "classes.txt").write_text("cat\n"), "classes.txt: needs two or more"),
        (lambda root: (root / "classes.txt").write_bytes(b"\xff"), "classes.txt: cannot be read"),
        (lambda root: (root / "probes/1.png").write_bytes(b"no"), "1.png: not an image"),
        (_name_in_latin_1, r"the name of class '\\udce9l\\udce9phant' is not UTF-8: rename it"),
        (_break_test, "test/cat/1.png: not an image"),
        (lambda root: (root / "classes.txt").write_text("cat\n@dog"), "classes.txt: folders that"),
        (
            lambda root: (root / "probes/1.png").write_bytes(
                (root / "probes/2.png").read_bytes()[:50]
            ),
            "1.png: cannot be decoded",
        ),
        (
            lambda root: Image.new("F", (6, 4), 0.5).save(root / "probes/1.png", "TIFF"),
            "1.png: has 32 bits a pixel",
        ),
        (lambda root: (root / "probes/9.png").mkdir(), "9.png: cannot be read: Is a directory"),
    ],
)
def test_bad_input_is_refused_with_its_path(
    root: Path, damage: Callable[[Path], object], message: str
) -> None:
    """Every fault ends in one line that names the file or folder."""
    damage(root)
    with pytest.raises(DataError, match=message) as caught:
        _load(root)
    assert str(root) in str(caught.value)


def test_a_size_that_cannot_fit_is_refused_before_memory_is_asked_for(root: Path) -> None:
    """The bound stands before the allocation."""
    with pytest.raises(DataError, match="do not fit; make the probes smaller: "):
        _load(root, image_size=(50_000, 50_000))


def test_new_images_are_noticed_and_never_test_what_was_trained_on(root: Path) -> None:
    """The watch sees an added image once, and growth moves nothing from private to test."""
    settings = DataSettings(source=f"folder:{root}")
    watch, before = Watch(settings), _load(root)
    assert watch.renewed() is None
    for number in range(5, 60):
        _image(root / "private" / "cat" / f"{number}.png", number)
    after = watch.renewed()
    assert after is not None
    assert len(after.private) + len(after.test) == 65
    assert watch.renewed() is None
    trained = {float(x.sum()) for x in before.private.x}
    assert not trained & {float(x.sum()) for x in after.test.x}


def test_a_changed_folder_that_cannot_be_used_says_so(root: Path) -> None:
    """A class that is not in the list is refused when it appears, not swallowed."""
    (root / "classes.txt").write_text("cat\ndog\n")
    watch = Watch(DataSettings(source=f"folder:{root}"))
    _image(root / "private" / "bird" / "1.png", 77)
    with pytest.raises(DataError, match="bird"):
        watch.renewed()


@pytest.mark.parametrize("locked", ["private", "private/cat", "probes"])
def test_a_folder_that_cannot_be_read_is_named(
    root: Path, locked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's folder is one line, at the start and while a peer runs."""
    watch, listed = Watch(DataSettings(source=f"folder:{root}")), Path.iterdir

    def iterdir(self: Path) -> Iterator[Path]:
        if self == root / locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    message = f"{root / locked}: cannot be read: Permission denied"
    with pytest.raises(DataError, match=message):
        _load(root)
    if locked != "probes":
        with pytest.raises(DataError, match=message):
            Watch(DataSettings(source=f"folder:{root}"))
        with pytest.raises(DataError, match=message):
            watch.renewed()


def test_a_link_that_leads_nowhere_stops_no_watch(root: Path) -> None:
    """A share that is away leaves links without files; what is no image is not looked at."""
    settings = DataSettings(source=f"folder:{root}")
    watch = Watch(settings)
    (root / "private" / "cat" / "notes.txt").symlink_to(root / "gone")
    assert watch.renewed() is None
    (root / "private" / "cat" / "gone.png").symlink_to(root / "gone")
    assert watch.renewed() is not None
    assert watch.renewed() is None
