"""When a leader raises the version of the state machine: when every member has said that it knows it (decision 7)."""

from raftlock.server.versions import MemberVersions
from raftlock.testing.next_version import NEXT, WITH_NEXT
from raftlock_wire.ids import NodeId
from tests.unit.server.kit import Nodes, versions_of

ALL = [NodeId(1), NodeId(2), NodeId(3)]


def said(**versions: int) -> MemberVersions:
    """Return what node 1, which knows version 3, has heard: n2=3 for node 2."""
    heard = MemberVersions(node_id=NodeId(1), version_max=3)
    for name, version in versions.items():
        heard.said(NodeId(int(name[1:])), version)
    return heard


def test_the_highest_version_that_all_know_is_raised_once() -> None:
    """A leader's command is on its way, or applied: it does not propose it again, and proposes a later one later."""
    heard = said(n2=2, n3=3)

    first, again = heard.to_raise(ALL, 1), heard.to_raise(ALL, 1)
    heard.said(NodeId(2), 3)

    assert (first, again, heard.to_raise(ALL, 2), heard.to_raise(ALL, 3)) == (2, 0, 3, 0)


def test_a_member_that_has_said_nothing_knows_nothing() -> None:
    """Silence of a learner or of a node that is down is not consent."""
    assert (said(n2=3).to_raise(ALL, 1), said(n2=3).to_raise(ALL[:2], 1)) == (0, 3)


def test_what_a_member_said_is_over_with_its_link() -> None:
    """The process that calls again may be of an older build."""
    heard = said(n2=3, n3=3)
    heard.lost(NodeId(3))
    before = heard.to_raise(ALL, 1)
    heard.said(NodeId(3), 1)

    assert (before, heard.to_raise(ALL, 1)) == (0, 0)


def test_a_new_leadership_proposes_again() -> None:
    """What an earlier one proposed may have been cut off; a second one that is applied does nothing."""
    heard = said(n2=3, n3=3)
    heard.to_raise(ALL, 1)
    heard.begin()

    assert heard.to_raise(ALL, 1) == 3


def test_drivers_switch_when_the_last_member_has_said_so() -> None:
    """Not with two of three; then all of them at one index, and the state stays one."""
    nodes = Nodes(versions=WITH_NEXT)
    leader = nodes.lead()
    others = [i for i in nodes.drivers if i != leader]
    nodes.drivers[leader].versions.said(NodeId(others[0]), NEXT)
    nodes.run(50)
    before = versions_of(nodes)
    nodes.drivers[leader].versions.said(NodeId(others[1]), NEXT)
    nodes.until(lambda: set(versions_of(nodes)) == {NEXT})
    nodes.open(nodes.connect(leader))
    nodes.run(200)

    states = {(d.table.applied_index, d.table.digest()) for d in nodes.drivers.values()}
    assert (before, len(states)) == ([1, 1, 1], 1)


def test_a_lost_link_is_forgotten_at_once() -> None:
    """Also when the turn that hears of it would have raised the version."""
    nodes = Nodes(versions=WITH_NEXT)
    leader = nodes.lead()
    driver = nodes.drivers[leader]
    for i in nodes.drivers:
        if i != leader:
            driver.versions.said(NodeId(i), NEXT)
    driver.link_lost(NodeId(next(i for i in nodes.drivers if i != leader)))
    nodes.run(50)

    assert versions_of(nodes) == [1, 1, 1]
