"""What the pages share: one file that stands alone, its headlines and pictures, and its words.

A page needs no script and no network: CSS and SVG are inside it. Whatever comes from a
configuration (names of peers, of the mesh, the command) is escaped by jinja2, by matplotlib's SVG
writer, or shown by rich as plain text. Both libraries for the page are imported when one is made.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tallynode.lab.records import format_bytes, format_share, payload_total
from tallynode.lab.svg import DARK, LIGHT


class Headline(NamedTuple):
    """One number worth a large type."""

    figure: str
    label: str
    note: str


class Picture(NamedTuple):
    """One plot with its title and what to see in it."""

    title: str
    svg: str
    caption: str
    wide: bool = False  # across the page


def render(template: str, *, pictures: Sequence[Picture], **values: object) -> str:
    """A page from its template, a file beside this one; pictures are drawn into it as they are."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        bytes=format_bytes,
        share=format_share,
        payload=payload_total,
        count=count,
        epsilon=format_epsilon,
    )
    return environment.get_template(template).render(
        pictures=[picture._replace(svg=Markup(picture.svg)) for picture in pictures],
        light=LIGHT,
        dark=DARK,
        **values,
    )


def format_epsilon(account: Mapping[str, float] | None, of: str) -> str:
    """One figure of a peer's account of private votes, or a dash: 0.42, 8, 8,796."""
    if account is None:
        return "–"
    return f"{account[of]:,.0f}" if account[of] >= 100 else f"{account[of]:.3g}"


def format_seconds(seconds: float) -> str:
    """A duration a person reads: 4.2 s, 42 s, 3 min 12 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count(number: int, noun: str) -> str:
    """A number with its noun: 1 peer, 8 peers."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
