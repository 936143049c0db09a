"""Codecs: votes to bytes and back. Decoders take bytes from strangers: DecodeError only."""


class DecodeError(ValueError):
    """The bytes are not what this codec makes; the message says why in a few words."""
