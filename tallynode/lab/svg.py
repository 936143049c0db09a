"""How a picture gets from matplotlib into the page: its colours are the page's, its text is text.

Matplotlib draws in the colours of LIGHT; each is then replaced by a CSS variable of the same name,
so that one file reads well on a light and on a dark screen. Matplotlib is imported only here and
only when something is drawn: a peer never pays for it.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LIGHT = {
    "ink": "#1d2733",
    "muted": "#5d6b7a",
    "rule": "#dfe4e9",
    "paper": "#f6f7f8",
    "card": "#fefefe",
    "accent": "#0f6e84",
    "thread": "#9fc3cc",
    "second": "#b4552d",
    "third": "#6b5ca5",
    "fourth": "#5a8f3c",
    "fifth": "#c0487d",
    "sixth": "#3f66b5",
    "ballot": "#0f6f85",
    "relay": "#7fb5c2",
    "control": "#c9a24a",
    "delta": "#b4562e",
    "soft": "#6b5da6",
    "ramp-0": "#e4eef0",
    "ramp-1": "#b9d6dc",
    "ramp-2": "#86b9c4",
    "ramp-3": "#3f8fa2",
    "ramp-4": "#0e5c70",
    "on-pale": "#1d2734",
    "on-deep": "#ffffff",
}
DARK = {
    "ink": "#e4e9ee",
    "muted": "#9aa7b4",
    "rule": "#2c3742",
    "paper": "#11161b",
    "card": "#181f26",
    "accent": "#5cc3d8",
    "thread": "#34606c",
    "second": "#e59268",
    "third": "#aa9ce0",
    "fourth": "#8cc46b",
    "fifth": "#e884b0",
    "sixth": "#88a8ee",
    "ballot": "#45aabf",
    "relay": "#28616e",
    "control": "#b8933f",
    "delta": "#d9804f",
    "soft": "#9587d1",
    "ramp-0": "#1f2c34",
    "ramp-1": "#24444f",
    "ramp-2": "#2d6675",
    "ramp-3": "#4fa9bc",
    "ramp-4": "#8fdcea",
    "on-pale": "#e4e9ef",
    "on-deep": "#0c1418",
}
_STYLE: dict[Any, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tallynode",  # the same run, the same bytes
    "text.parse_math": False,  # a peer may be called $x$
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LIGHT["rule"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.axisbelow": True,
    "xtick.color": LIGHT["rule"],
    "ytick.color": LIGHT["rule"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["muted"],
    "grid.color": LIGHT["rule"],
    "text.color": LIGHT["ink"],
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.8,
    "lines.solid_capstyle": "round",
}
_COLOURS = {colour: f"var(--{name}, {colour})" for name, colour in LIGHT.items()}


@contextmanager
def drawing(width: float, height: float) -> Iterator["Figure"]:
    """An empty transparent figure of that size in inches, and our style while it is drawn on."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=0.06))
        figure.patch.set_alpha(0)
        yield figure


def to_svg(figure: "Figure") -> str:
    """The <svg> element alone: no prolog, no metadata, sized by the page, coloured by its CSS."""
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'<g id="\w+_\d+">', "<g>", text)  # the same ids stand in every figure
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    colour = "(?<=: )(" + "|".join(_COLOURS) + ")"
    return re.sub(colour, lambda match: _COLOURS[match[0]], text)


def svg_file(svg: str) -> str:
    """The same picture as a file of its own: light, on paper, and no page to ask for a colour."""
    plain = re.sub(r"var\(--[\w-]+, (#\w+)\)", r"\1", svg)  # not every viewer knows variables
    return plain.replace("<svg ", f'<svg style="background: {LIGHT["card"]}" ', 1)
