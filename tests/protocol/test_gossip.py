"""The reading list: flood, prune, graft, and never a neighbour too few."""

from tallynode.protocol.gossip import Gossip


def gossip() -> Gossip:
    """Peer a between b and c, both of which can bring d."""
    reading = Gossip("a", {"b": {"b": 1, "c": 2, "d": 2, "a": 2}, "c": {"b": 2, "c": 1, "d": 2}})
    assert reading.link_up("b") == ("b", "c", "d")
    assert reading.link_up("c") == ("b", "c", "d")
    return reading


def test_the_later_copy_s_neighbour_is_pruned() -> None:
    """The first one's stays: the other may have it from us."""
    reading = gossip()
    reading.first("d", 1, "b")
    assert reading.prune("d", 1, "c") == "c"
    assert reading.prune("d", 1, "c") is None, "one neighbour is always left"


def test_the_last_source_is_never_pruned() -> None:
    """A copy still under way from where we no longer read does not cost us where we do."""
    reading = gossip()
    reading.first("d", 1, "b")
    assert reading.prune("d", 1, "c") == "c"
    reading.first("d", 2, "c")
    assert reading.prune("d", 2, "b") is None


def test_the_origin_itself_wins() -> None:
    """Nothing replaces a ballot read where it was cast."""
    reading = gossip()
    reading.first("c", 1, "b")
    assert reading.prune("c", 1, "c") == "b"
    reading = gossip()
    reading.first("c", 1, "c")
    assert reading.prune("c", 1, "b") == "b"


def test_old_and_repeated_copies_prune_nothing() -> None:
    """A copy of another round, of an unknown origin, or from the same neighbour proves nothing."""
    reading = gossip()
    assert reading.prune("d", 1, "c") is None
    reading.first("d", 2, "b")
    reading.first("d", 1, "c")
    assert reading.prune("d", 1, "c") is None
    assert reading.prune("d", 2, "b") is None


def test_a_lost_link_is_replaced() -> None:
    """What was read only over a lost link is read at the others that can know it."""
    reading = gossip()
    reading.first("d", 1, "b")
    reading.prune("d", 1, "c")
    assert reading.link_down("b") == {"c": ("d",)}
    assert reading.linked == {"c"}
    assert reading.link_down("c") == {}
    assert reading.link_up("b") == ("b", "c", "d")


def test_a_lost_link_is_replaced_though_others_are_read() -> None:
    """The other source may read the origin at us; whoever never sent it does not count."""
    reading = Gossip("a", {"b": {"b": 1, "d": 2}, "c": {"d": 2}, "e": {"d": 2}})
    reading.link_up("b")
    reading.link_up("c")
    reading.first("d", 1, "b")
    reading.prune("d", 1, "c")
    reading.link_up("e")
    assert reading.link_down("b") == {"c": ("d",)}


def test_what_is_sought_is_not_pruned_until_a_new_ballot_comes() -> None:
    """Old retained ballots that answer a graft do not undo it."""
    reading = gossip()
    reading.first("d", 4, "b")
    assert reading.prune("d", 4, "c") == "c"
    assert reading.graft(["d"]) == {"c": ("d",)}
    assert reading.graft(["d"]) == {}, "it is read there already"
    assert reading.prune("d", 4, "c") is None
    reading.first("d", 5, "c")
    assert reading.prune("d", 5, "b") == "b"


def test_an_origin_out_of_reach_is_sought_nowhere() -> None:
    """A graft asks only neighbours that can know the origin."""
    assert gossip().graft(["z"]) == {}
