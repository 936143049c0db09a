"""What a round's tally is worth as a teacher, from its ballots alone: 0, nothing, to 1, everything.

A tally of noise has winners too, and their confidence says how the votes fell and not whether they
mean anything. What tells is whether voters agree more often than they would if each cast the same
votes on probes drawn at random: Fleiss' kappa ("Measuring nominal scale agreement among many
raters", 1971), with chance agreement from each voter's own vote frequencies (Conger 1980), so that
voters who say the same of everything gain nothing by it. Kappa is what one voter tells about
another; what all of them together tell is, by Spearman and Brown's formula (1910),

    worth = P kappa / (1 + (P - 1) kappa)        for P voters

Kappa is taken DOUBT standard errors low, since the kappa of few votes can be luck.
"""

import math

import numpy as np

DOUBT = 2.0  # standard errors of a kappa without agreement; of noise, one round in 40 is over them


def worth(votes: np.ndarray, agreed: np.ndarray) -> float:
    """The weight in [0, 1] of a consensus.

    Args:
        votes: (voters, n) int64 classes.
        agreed: (m,) votes of each (probe, class) pair that was voted for.
    """
    voters, n = votes.shape
    if voters < 2:
        return 0.0
    pairs = voters * (voters - 1)
    agreement = float((agreed * (agreed - 1)).sum()) / (n * pairs)
    classes = int(votes.max()) + 1
    said, times = np.unique(np.arange(voters)[:, None] * classes + votes, return_counts=True)
    together = np.bincount(said % classes, weights=times)
    chance = float((together**2).sum() - (times.astype(float) ** 2).sum()) / (n**2 * pairs)
    if chance >= 1:
        return 0.0
    error = math.sqrt(2 * chance / ((1 - chance) * n * pairs))
    kappa = max(0.0, (agreement - chance) / (1 - chance) - DOUBT * error)
    return float(voters * kappa / (1 + (voters - 1) * kappa))
