"""One small file a method: what a peer sends each round, and what it makes of what all sent."""

from tallynode.methods.cfd import CfdMethod
from tallynode.methods.fd import FdMethod
from tallynode.methods.fedavg import FedAvgMethod
from tallynode.methods.fedct import FedCtMethod
from tallynode.methods.feddf import FedDfMethod
from tallynode.methods.fedmd import FedMdMethod
from tallynode.methods.fedprox import FedProxMethod
from tallynode.methods.local import CentralisedMethod, LocalMethod
from tallynode.methods.method import Method
from tallynode.methods.tally import TallyMethod

METHODS: dict[str, type[Method]] = {
    "tally": TallyMethod,
    "fedct": FedCtMethod,
    "fd": FdMethod,
    "cfd": CfdMethod,
    "fedmd": FedMdMethod,
    "fedavg": FedAvgMethod,
    "fedprox": FedProxMethod,
    "feddf": FedDfMethod,
    "local": LocalMethod,
    "centralised": CentralisedMethod,
}
