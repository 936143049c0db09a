"""How much of its data a voter has of each class: four bits a class, said with its votes.

A learner votes on every probe, and of classes that its peer has never seen it only knows what it
was told. So a vote counts by what its voter holds of the class that it is for, relative to all
others who vote: who has seen a class is heard on it, who has not repeats the rest.

The share of a voter's samples that is of a class is said in half octaves, from 1 down to 1/128;
0 is less. These follow the votes as further entries of the ballot, each as digits to the base of
the classes: they are coded, signed, relayed and saved as votes are, and since they stay what they
are, saying them again costs next to nothing.

Nobody can check them. A receiver makes each voter's shares sum to one, so that no claim counts for
more than that of an honest peer whose data are so: of all classes alike, or of one alone.
"""

import numpy as np

STEPS = 16
PER_OCTAVE = 2
LEAST = 2.0 ** (-STEPS / PER_OCTAVE)  # the share that stands for less than can be said
ROOT = 0.5  # between 0, where all count alike, and 1, where experts are alone with their errors


def entries(classes: int) -> int:
    """How many entries of a ballot they take."""
    return classes * _digits(classes)


def said(counts: np.ndarray) -> np.ndarray:
    """(classes,) samples of each class -> (entries,) int64 in [0, classes)."""
    classes = len(counts)
    shares = counts / max(1, counts.sum())
    steps = np.rint(STEPS - 1 + PER_OCTAVE * np.log2(np.maximum(shares, LEAST / 2)))
    steps = np.where(shares > 0, np.clip(steps, 1, STEPS - 1), 0).astype(np.int64)
    return np.stack([steps // classes**i % classes for i in range(_digits(classes))]).ravel()


def heard(entries: np.ndarray, classes: int) -> np.ndarray:
    """(entries,) int in [0, classes) -> (classes,) float64 shares that sum to one."""
    digits = entries.reshape(-1, classes).astype(np.int64)
    steps = np.minimum((digits * classes ** np.arange(len(digits))[:, None]).sum(axis=0), STEPS - 1)
    shares: np.ndarray = np.where(steps > 0, 2.0 ** ((steps - (STEPS - 1)) / PER_OCTAVE), LEAST)
    shares /= shares.sum()
    return shares


def weights(shares: np.ndarray) -> np.ndarray:
    """(voters, classes) shares -> what a vote for a class counts for, 1 on the mean over voters."""
    roots: np.ndarray = shares**ROOT
    roots /= roots.mean(axis=0)
    return roots


def _digits(classes: int) -> int:
    return next(d for d in range(1, STEPS) if classes**d >= STEPS)
