"""The rows of a bench as they are written: on the terminal, as CSV and as JSON."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from tallynode.lab.comparison.table import Part, Row
from tallynode.lab.figures import Figure
from tallynode.lab.records import format_bytes, format_share

WIDE = 104  # columns of a terminal that all headings need
NOTE = (
    "● no other method is as accurate at no more bytes; ± over the seeds; payload: what a peer "
    "publishes in the whole run; bits of a round: all of it; bits of a probe: the coded answers "
    "alone; to a target: payload until its accuracy is at least that, – where not every seed "
    "gets there"
)


def headings(part: Part) -> list[str]:
    """Of `cells`."""
    to = [f"to {100 * target:.3g} %" for target in part.targets]
    return ["", "method", "accuracy", "payload", *to, "bits/round", "bits/probe"]


def cells(row: Row) -> list[str]:
    """A row as a person reads it."""
    to = [format_bytes(of.mean) if of and not row.pooled else "–" for of in row.to_target.values()]
    probe = "–" if row.bits_probe is None else f"{row.bits_probe:.2f}"
    return [
        "●" if row.on_front else "",
        row.method,
        row.accuracy.text(100),
        spent(row.sent.mean),
        *to,
        f"{row.bits_round:,.0f}",
        probe,
    ]


def table(part: Part, width: int) -> Table:
    """The panel's rows, as far as a terminal of that width has room."""
    shown = len(headings(part)) - (0 if width >= WIDE else 2)
    found = Table(
        title=Text(part.panel.title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for heading in headings(part)[:shown]:
        left = heading in ("", "method")
        found.add_column(heading, justify="left" if left else "right", no_wrap=heading != "method")
    for row in part.rows:
        found.add_row(*(Text(cell) for cell in cells(row)[:shown]))
    return found


def spent(count: float) -> str:
    """Bytes, or a dash where there are none."""
    return format_bytes(count) if count else "–"


def advantage(row: Row) -> str:
    """Who is better at no more bytes, and by how much."""
    name, accuracy = row.best
    return "–" if name == row.method or row.pooled else f"{format_share(accuracy)}, {name}"


def flat(row: Row) -> dict[str, Any]:
    """A row of the CSV: figures as they are, shares from 0 to 1, bytes a peer and whole run."""
    found: dict[str, Any] = {
        **asdict(row.panel),
        **{name: getattr(row, name) for name in ("method", "group", "seeds", "rounds", "local")},
    }
    for name in ("accuracy", "worst", "sent", "received"):
        figure: Figure = getattr(row, name)
        found |= {name: figure.mean, f"{name}_deviation": figure.deviation}
    found |= {f"sent_{name}": spent for name, spent in row.by_class.items()}
    plain = ("relayed", "bits_round", "bits_probe", "merges", "merge_bytes", "on_front")
    found |= {name: getattr(row, name) for name in plain}
    found |= {"best_within": row.best[0], "best_within_accuracy": row.best[1]}
    ends: Mapping[str, float] = asdict(row.ends) if row.ends else {}
    return found | dict(ends)


def as_csv(parts: Sequence[Part]) -> str:
    """All rows; a column that only some have is empty in the others."""
    rows = [
        flat(row) | {f"bytes_to_{k:g}": v and v.mean for k, v in row.to_target.items()}
        for part in parts
        for row in part.rows
    ]
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_json(part: Part) -> dict[str, Any]:
    """A panel with everything that is known of its rows."""
    rows = [
        flat(row)
        | {
            "per_class": list(row.per_class),
            "bytes_to": {f"{k:g}": v and asdict(v) for k, v in row.to_target.items()},
            "curve": [
                {"bytes": x, "accuracy": y, "deviation": spread}
                for x, y, spread in row.curve.tolist()
            ],
        }
        for row in part.rows
    ]
    return {"panel": asdict(part.panel), "targets": list(part.targets), "rows": rows}
