"""The live table on a terminal, and the lines that stand in for it where output is piped."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from tallynode.lab.table import LiveTable

Make = Callable[..., Any]
NAMES = ["pi-1", "pi-2", "pi-3"]


def piped() -> tuple[Console, io.StringIO]:
    """A console whose output goes to a file."""
    out = io.StringIO()
    return Console(file=out, width=80), out


def screen(height: int = 24, width: int = 80) -> Console:
    """A console on a terminal of that size."""
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=height)


def lines(table: LiveTable, console: Console) -> list[str]:
    """The table as a terminal would show it, without colours."""
    rows = console.render_lines(table, pad=False)
    return ["".join(segment.text for segment in row).rstrip() for row in rows]


def test_a_pipe_gets_one_line_a_round(make_run: Make) -> None:
    """A round's line comes when its last peer has finished it, with the mean over the peers."""
    console, out = piped()
    records = make_run(NAMES, rounds=2).records
    with LiveTable(NAMES, rounds=2, neighbours=dict.fromkeys(NAMES, 2), console=console) as table:
        for record in records[:2]:
            table.update(record)
        assert out.getvalue() == ""
        for record in records[2:]:
            table.update(record)
    first, second = out.getvalue().splitlines()
    mean = sum(record["accuracy"] for record in records[:3]) / 3
    assert first.startswith(f"round 1/2: mean accuracy {100 * mean:.1f} %")
    assert first.endswith("3 of 3 peers")
    assert second.startswith("round 2/2")


def test_a_pipe_does_not_wait_for_the_dead(make_run: Make) -> None:
    """A killed peer holds no line back, and the line says how many peers it is over."""
    console, out = piped()
    with LiveTable(NAMES, rounds=9, neighbours=dict.fromkeys(NAMES, 2), console=console) as table:
        for record in make_run(NAMES, rounds=1).records[:2]:
            table.update(record)
        table.state("pi-3", "killed (SIGKILL)")
        assert out.getvalue().endswith("2 of 3 peers\n")


def test_a_straggler_delays_two_lines_at_most(make_run: Make) -> None:
    """A peer that never reports does not silence the others."""
    console, out = piped()
    with LiveTable(NAMES, rounds=0, neighbours=dict.fromkeys(NAMES, 2), console=console) as table:
        for record in make_run(NAMES, rounds=3).records:
            if record["peer"] != "pi-3":
                table.update(record)
        assert [line.split(":")[0] for line in out.getvalue().splitlines()] == ["round 1"]
    assert len(out.getvalue().splitlines()) == 3


def test_a_round_done_again_is_not_printed_again(make_run: Make) -> None:
    """A peer that comes back to an old round adds no second line for it."""
    console, out = piped()
    records = make_run(NAMES, rounds=2).records
    with LiveTable(NAMES, rounds=2, neighbours=dict.fromkeys(NAMES, 2), console=console) as table:
        for record in [*records, records[0]]:
            table.update(record)
    assert len(out.getvalue().splitlines()) == 2


@pytest.mark.parametrize("width", [60, 80, 120])
def test_rows_fit_the_terminal(make_run: Make, width: int) -> None:
    """Names and states are read whole at 80 columns, and no line is wider than the terminal."""
    names = [f"greenhouse-{place:02d}" for place in range(20)]
    run = make_run(names)
    alone = {outcome.name: outcome.alone for outcome in run.outcomes}
    console = screen(width=width)
    with LiveTable(
        names, rounds=20, neighbours=dict.fromkeys(names, 2), alone=alone, console=console
    ) as table:
        for record in run.records:
            table.update(record)
        table.state(names[0], "gathering")
        shown = lines(table, console)
    assert max(map(len, shown)) <= width
    assert len(shown) <= 23
    assert not any("…" in line for line in shown)
    assert shown[2].startswith("greenhouse-00")
    assert shown[2].endswith("gathering")
    assert "20/20" in shown[2]
    assert shown[-1].startswith("mesh")


def test_a_low_screen_counts_the_peers_that_it_hides(make_run: Make) -> None:
    """A mesh higher than the screen keeps the mesh's row and says how many rows are hidden."""
    names = [f"v{place}" for place in range(40)]
    console = screen(height=12)
    with LiveTable(names, rounds=1, neighbours=dict.fromkeys(names, 2), console=console) as table:
        for record in make_run(names, rounds=1).records:
            table.update(record)
            table.state(record["peer"], "done")
        shown = lines(table, console)
    assert len(shown) == 11
    assert shown[-2] == "and 33 more"
    assert shown[-1].endswith("40/40 done")


def test_what_is_not_known_yet_is_a_dash(make_run: Make) -> None:
    """A peer that has not reported, one that is alone, and a mesh without a wire show dashes."""
    console = screen()
    (record,) = make_run(["pi-1"], rounds=1).records
    record |= {"agreement": None, "wire_bytes": {"sent": 0, "received": 0, "source": "none"}}
    table = LiveTable(NAMES, rounds=5, neighbours=dict.fromkeys(NAMES, 2), console=console)
    table.update(record)
    first, second = lines(table, console)[2:4]
    assert first.split()[0:2] == ["pi-1", "1/5"]
    assert first.count("–") == 2
    assert second.split() == ["pi-2", "0/5", *5 * "–", "starting"]


def test_a_peer_that_comes_back_is_at_work_again(make_run: Make) -> None:
    """A record of a peer that was killed shows it as training."""
    console = screen()
    table = LiveTable(["pi"], rounds=5, neighbours={"pi": 2}, console=console)
    table.state("pi", "killed")
    assert lines(table, console)[2].endswith("killed")
    table.update(make_run(["pi"], rounds=1).records[0])
    assert lines(table, console)[2].endswith("training")


def test_names_are_not_markup() -> None:
    """Brackets in a name are shown and not obeyed."""
    console = screen()
    table = LiveTable(["[red]pi"], rounds=1, neighbours={"[red]pi": 1}, console=console)
    assert lines(table, console)[2].startswith("[red]pi ")
