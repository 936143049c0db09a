"""The pure protocol: no asyncio, no socket, no clock, no torch. See peer.Peer for the way in."""
