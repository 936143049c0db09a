"""Train a model together across small devices, by voting, without a server."""

__version__ = "0.1.0"
