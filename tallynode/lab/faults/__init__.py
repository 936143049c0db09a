"""Meshes under every fault that we can think of, each drawn from one seed and replayed by it."""
