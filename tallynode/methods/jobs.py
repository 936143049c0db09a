"""What the protocol asks of a method, answered: for the daemon and the virtual mesh alike.

Raises:
    DivergedError: what the job has left, or would send, is no number any more.
"""

from dataclasses import asdict

import numpy as np

from tallynode.errors import DivergedError
from tallynode.methods.method import Method
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import holdings


def trained(method: Method, job: ef.Train) -> ev.Trained:
    """Train for a round and vote; where a bridge is due, say what the learner has changed by."""
    content = method.train(job.round, job.probes)
    if method.settings.holdings:
        content = np.concatenate([content, holdings.said(method.held)])
    _check(job.round, method.finite and bool(np.isfinite(content).all()))
    delta = method.bridge.publish(job.round) if job.bridge and method.bridge else b""
    return ev.Trained(round=job.round, content=content, delta=delta)


def learned(method: Method, job: ef.Learn) -> ev.Learned:
    """Merge what the neighbours' learners have changed by, then learn from the round."""
    refused = method.bridge.merge(job.deltas) if method.bridge else {}
    metrics = asdict(method.learn(job.round, job.outcome))
    _check(job.round, method.finite)
    return ev.Learned(round=job.round, metrics=metrics, refused=refused)


def _check(round: int, finite: bool) -> None:
    if not finite:
        raise DivergedError(
            f"round {round}: training diverged, its weights are no numbers any more: choose a "
            "smaller task.learning_rate"
        )
