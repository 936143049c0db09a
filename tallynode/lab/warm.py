"""What every simulated peer shares: torch, imported and warmed once, then forked.

The fork server imports this module before the first peer starts. One full training step loads what
torch loads late (optimisers, kernels), and freezing the garbage collector keeps the shared pages
shared. One thread: many peers on one machine slow each other down with more.
"""

import gc

import torch

import tallynode.edge.process  # noqa: F401  so that a forked peer imports nothing
from tallynode.learning import models, train

train.use_threads(1)
_net = models.build("mlp", (1, 8, 8), 10, 0)
_optimiser = torch.optim.Adam(_net.parameters())
_loss = torch.nn.functional.cross_entropy(_net(torch.zeros(2, 1, 8, 8)), torch.tensor([0, 1]))
if torch.version.cuda is None:  # where it is not, autograd begins threads, which no fork survives
    train.step(_loss, _optimiser)
del _net, _optimiser, _loss
gc.collect()
gc.freeze()
