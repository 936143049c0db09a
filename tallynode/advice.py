"""What a person should know of a mesh that is valid: all that its file is enough to say."""

from tallynode.config import Mesh
from tallynode.layout import Layout, listed


def warnings(mesh: Mesh, layout: Layout) -> list[str]:
    """What will not go well, whoever runs the mesh, in plain words."""
    return layout.warnings() + _silent(mesh, layout)


def hints(mesh: Mesh, layout: Layout) -> list[str]:
    """What is to be known before a mesh is run, or could be had for less."""
    found = []
    if mesh.method.name == "centralised":
        found.append(
            "method centralised pools all private data: it runs with simulate --virtual only"
        )
    others = len(mesh.names) - 1
    direct = all(len(of) == others for of in layout.neighbours.values())
    # Where peers are pinned, relays are signed, and show who votes in two ways: not to be saved.
    guarded = mesh.pinned or mesh.method.byzantine is not None
    if direct and others > 1 and mesh.hops > 1 and not guarded:
        found.append(
            "everybody hears everybody directly: method.hops: 1 saves the relays, which help only "
            "where a link fails"
        )
    return found


def _silent(mesh: Mesh, layout: Layout) -> list[str]:
    """A label leads by at most as many votes as there are."""
    f = mesh.method.byzantine or 0
    names = [name for name, others in layout.heard.items() if 0 < others < f]
    if not names:
        return []
    most = max(layout.heard[name] for name in names) + 1
    return [
        f"no probe will ever get a label at {listed(names)}: with method.byzantine: {f} it takes "
        f"more than {f} votes, and no more than {most} can come"
    ]
