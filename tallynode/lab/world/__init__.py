"""The parts of a made-up world, with or without faults: its clock, its network, its hosts."""
