"""What a person sees while a mesh runs: one row a peer, or one line a round where output is piped.

The rows are redrawn a few times a second by rich's own thread; a row is replaced as a whole, so
that it never shows half an update. A screen too low for every peer shows the first ones and says
how many more there are; the last row, the mesh, counts them all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tallynode.lab.records import Record, format_bytes, format_share, payload_total

REDRAWS_PER_S = 4
HEADINGS = ("peer", "round", "accuracy", "agree", "links", "payload", "wire", "state")
WIDE = 78  # columns that all headings need
WIDE_ONLY = ("agree", "links", "payload")
NAME_WIDTH = 14  # columns; longer names end in an ellipsis
FRAME_ROWS = 4  # heading, rule, the mesh's row, the cursor's line
STRAGGLE_MAX = 2  # rounds; a line is printed then without the peers that have none yet
COLOURS = {"done": "green", "killed": "red", "failed": "red", "stopped": "yellow"}
ENDED = frozenset(COLOURS)  # first words of a state: nobody waits for such a peer


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is known of one peer."""

    state: str = "starting"
    record: Record | None = None

    @property
    def ended(self) -> bool:
        """Whether no further round is to be expected of it."""
        return self.state.split(" ", 1)[0] in ENDED

    @property
    def round(self) -> int:
        """The last round that it finished; 0 before the first."""
        return self.record["round"] if self.record else 0


class LiveTable:
    """Shows a running mesh; fed with records and states, used as a context manager.

    Args:
        peers: names in the order of the rows.
        rounds: how many each peer does; 0: no end.
        neighbours: each peer's neighbours in the graph, by name.
        alone: each peer's accuracy without the others, where it was measured.
        console: where to write; standard output if None.
    """

    def __init__(
        self,
        peers: Sequence[str],
        *,
        rounds: int,
        neighbours: Mapping[str, int],
        alone: Mapping[str, float] | None = None,
        console: Console | None = None,
    ) -> None:
        self._rows = {name: Row() for name in peers}
        self._rounds = rounds
        self._neighbours = neighbours
        self._alone = alone or {}
        self._console = console or Console()
        self._live: Live | None = None
        self._printed = 0  # the last round that has its line
        self._by_round: dict[int, dict[str, Record]] = {}  # rounds that have no line yet

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(self, console=self._console, refresh_per_second=REDRAWS_PER_S)
            self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()
        else:
            self._print_rounds(max(self._by_round, default=0))

    def update(self, record: Record) -> None:
        """Take in a peer's finished round."""
        name = record["peer"]
        row = self._rows[name]
        state = row.state if row.state == "done" else "training"
        self._rows[name] = Row(state=state, record=record)
        if not self._live:
            self._by_round.setdefault(record["round"], {})[name] = record
            self._print_finished()

    def state(self, peer: str, text: str) -> None:
        """Show what a peer is doing; done, killed, failed and stopped also end the wait for it."""
        self._rows[peer] = replace(self._rows[peer], state=text)
        if not self._live:
            self._print_finished()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table as it stands, no higher than the screen."""
        shown = [
            place
            for place, heading in enumerate(HEADINGS)
            if options.max_width >= WIDE or heading not in WIDE_ONLY
        ]
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for place in shown:
            heading = HEADINGS[place]
            side: JustifyMethod = "left" if heading in ("peer", "state") else "right"
            width = NAME_WIDTH if heading == "peer" else None
            if heading == "accuracy" and self._alone:
                heading = "acc. (alone)"
            table.add_column(
                heading, justify=side, max_width=width, no_wrap=True, overflow="ellipsis"
            )
        rows = list(self._rows.items())
        room = max(1, console.height - FRAME_ROWS) if self._live else len(rows)
        hidden = len(rows) - room + 1 if len(rows) > room else 0
        for name, row in rows[: len(rows) - hidden]:
            cells = self._cells(name, row)
            table.add_row(*(cells[place] for place in shown))
        if hidden:
            table.add_row(Text(f"and {hidden} more", style="dim"))
        cells = self._mesh_cells([row for _, row in rows])
        table.add_row(*(cells[place] for place in shown), style="bold")
        yield table

    def _cells(self, name: str, row: Row) -> list[Text]:
        record = row.record
        colour = COLOURS.get(row.state.split(" ", 1)[0], "dim" if record is None else "")
        state = Text(row.state, style=colour)
        if record is None:
            round_, *unknown = Text(self._of(0)), *(Text("–", style="dim") for _ in range(5))
            return [Text(name), round_, *unknown, state]
        accuracy = Text(format_share(record["accuracy"]))
        if name in self._alone:
            accuracy.append(f" ({100 * self._alone[name]:.0f})", style="dim")
        linked, of = record["neighbours_linked"], self._neighbours[name]
        return [
            Text(name),
            Text(self._of(record["round"])),
            accuracy,
            Text(_whole(record["agreement"])),
            Text(f"{linked}/{of}", style="" if linked == of else "yellow"),
            Text(format_bytes(payload_total(record))),
            Text(_wire(record)),
            state,
        ]

    def _mesh_cells(self, rows: Sequence[Row]) -> list[Text]:
        records = [row.record for row in rows if row.record]
        accuracy = Text(format_share(_mean([record["accuracy"] for record in records])))
        if self._alone:
            accuracy.append(f" ({100 * sum(self._alone.values()) / len(self._alone):.0f})", "dim")
        sent = sum(record["wire_bytes"]["sent"] for record in records)
        linked = sum(record["neighbours_linked"] for record in records)
        done = sum(row.state == "done" for row in rows)
        return [
            Text("mesh"),
            Text(self._of(min((row.round for row in rows if not row.ended), default=self._last()))),
            accuracy,
            Text(_whole(_mean([record["agreement"] for record in records]))),
            Text(f"{linked}/{sum(self._neighbours.values())}"),
            Text(format_bytes(sum(map(payload_total, records)))),
            Text(format_bytes(sent) if sent else "–"),
            Text(f"{done}/{len(rows)} done"),
        ]

    def _of(self, number: int) -> str:
        return f"{number}/{self._rounds}" if self._rounds else str(number)

    def _last(self) -> int:
        return max((row.round for row in self._rows.values()), default=0)

    def _print_finished(self) -> None:
        """Print the rounds that no peer still at work has before it; a straggler delays two."""
        rounds = [row.round for row in self._rows.values() if not row.ended]
        self._print_rounds(max(min(rounds, default=self._last()), self._last() - STRAGGLE_MAX))

    def _print_rounds(self, last: int) -> None:
        for number in sorted(self._by_round):
            if number > last:
                return
            records = self._by_round.pop(number)
            if number > self._printed:  # a peer that started again may come back to an old round
                self._printed = number
                self._print_round(number, list(records.values()))

    def _print_round(self, number: int, records: Sequence[Record]) -> None:
        known = [record["accuracy"] for record in records if record["accuracy"] is not None]
        among = f" ({format_share(min(known))} to {format_share(max(known))})" if known else ""
        line = (
            f"round {self._of(number)}: mean accuracy {format_share(_mean(known))}{among}, "
            f"{len(records)} of {len(self._rows)} peers"
        )
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _whole(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _wire(record: Record) -> str:
    wire = record["wire_bytes"]
    return "–" if wire["source"] == "none" else format_bytes(wire["sent"])
