"""How full every table of a peer is, and what bounds it: what a mesh that runs for a year needs."""

from collections.abc import Iterator

from tallynode.protocol import limits
from tallynode.protocol.contents import votes
from tallynode.protocol.deltas import WHOLE_MAX
from tallynode.protocol.manners import BOUNDS
from tallynode.protocol.peer import Peer


def sizes(peer: Peer, voters: int) -> Iterator[tuple[str, int, int]]:
    """(table, entries, bound) of everything that a peer of so many voters holds for others."""
    heard, neighbours = peer.hearing, len(peer.settings.reach)
    box, gossip, late = heard.box._held, heard.gossip, heard.catching_up
    yield "members", len(heard.members.table), voters
    yield "origins with ballots", len(box), voters + 1
    yield "ballots of an origin", max(map(len, box.values()), default=0), limits.ROUNDS_HELD_MAX
    yield "links", len(gossip._linked), neighbours
    yield "origins read", len(gossip._sources), voters
    yield "places an origin is read", max(map(len, gossip._sources.values()), default=0), neighbours
    yield "first copies", len(gossip._first), voters
    yield "origins sought", len(gossip._sought), voters
    yield "ballots that wait", len(late._waiting), neighbours * (voters + 1)
    yield "ballots that came early", len(late._early), neighbours * voters
    yield "asks answered", len(late._answered), neighbours * (voters + 1)
    yield "lags", len(heard.lags._recent), limits.LAGS_HELD
    if isinstance(heard.contents, votes.Votes):
        yield "tallies", len(heard.contents._tallies), votes.TALLIES_HELD
    yield "states", len(heard.greetings._states), neighbours
    yield "differing neighbours", len(heard.greetings._mismatched), neighbours
    yield "expelled voters", len(heard.vouching.expelled), voters
    of_deltas = heard.deltas._origins.values()
    yield "origins of deltas", len(of_deltas), neighbours
    yield "deltas that wait", max((len(of.whole) for of in of_deltas), default=0), WHOLE_MAX
    yield "complaints", len(heard.manners._complaints), limits.COMPLAINTS_MAX
    yield "rates", len(heard.manners._buckets), neighbours * len(BOUNDS)
    yield "strikes", len(heard.manners._records), neighbours
    yield "origins with keys", len(heard.signatures._offered), voters
    yield "proofs", len(heard.signatures._proofs), voters + 1
