"""The numbers that every ballot's model starts from: a table of odds and the first weights.

Constants of the wire: sender and receiver must have the same, so a change is a new version. The
weights are logistic regressions fitted by scripts/tune_coding to recorded streams, in 1/256 nat.
"""

import numpy as np

ODDS_MAX = 2047  # in 1/256 nat, so 8 nats: no bit costs more than 11.5 bits or less than 0.0005
_KNOT = 64  # 1/256 nats between two entries of _SIGMOID
_SIGMOID = (  # 65,536 / (1 + exp(-k / 4)) for k = 0 to 32
    32768, 36843, 40793, 44511, 47911, 50941, 53581, 55834, 57724, 59287, 60565,
    61598, 62428, 63090, 63615, 64030, 64357, 64614, 64816, 64974, 65097, 65194,
    65269, 65328, 65374, 65410, 65438, 65459, 65476, 65489, 65500, 65508, 65514,
)  # fmt: skip
_RUN = (
    -328, -246, -552, -301, -409, -696, -332, -531, -585, -849, -248, -436,
    -718, -774, -964, -167, -334, -545, -733, -817, -1120, -294, -282, -277,
    -306, -172, -365, -312, -246, -319, -451, -330, -176, -370, -407, -538,
    -288, -234, -367, -491, -393, -598, -542, -541, -675, -690, -597, -804,
    -612, -635, -629, -906, -493, -539, -810, -836, -961, -433, -487, -674,
    -826, -765, -1064,
)  # fmt: skip
_SUPPORT = (
    234, 31, -22, 192, 24, -77, 226, 54, -96, 227, 131, -54,
    261, 175, 128, 183, 105, 11, 126, 37, -85, -48, -50, -272,
    -460, -494, -781, 0,
)  # fmt: skip
_GUESS = (
    -437, -103, 25, 104, 132, -3, 31, -222, -398, 192, 231, 370,
    538, 334, 254, -464, -319, -283, -68, 108, 176, 48, -66, -382,
    -694, -372, -181, -346, -159, -70, 41, -266, -191, 99, 284, 305,
    237, 157, 133, -401,
)  # fmt: skip


def _one_of_odds() -> list[int]:
    """Probability of a 1 in 1/65,536 by odds from -2,048 to 2,047, negative ones from the end."""
    odds = np.arange(ODDS_MAX + 1)
    knot, part = odds // _KNOT, odds % _KNOT
    sigmoid = np.array(_SIGMOID)
    upper = (sigmoid[knot] * (_KNOT - part) + sigmoid[knot + 1] * part) // _KNOT
    lower = np.concatenate([upper[-1:], upper[:0:-1]])
    return [*upper.tolist(), *((1 << 16) - lower).tolist()]


ONE_OF_ODDS = _one_of_odds()


def stay_weights() -> list[int]:
    """Fresh weights of the contexts run and support, in 1/65,536 nat."""
    return [weight << 8 for weight in (*_RUN, *_SUPPORT)]


def guess_weights() -> list[int]:
    """Fresh weights of the guesses, in 1/65,536 nat."""
    return [weight << 8 for weight in _GUESS]
