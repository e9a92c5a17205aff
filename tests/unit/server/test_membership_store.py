"""From a data directory to a driver: identity, cluster, and what a restart goes on from (decisions 12 and 13)."""

import random
from pathlib import Path

import pytest

from raftlock.server.config import ServerConfig
from raftlock.server.handshake import BootstrapSet
from raftlock.server.jobs import JobRunner, SealJob, WriteJob
from raftlock.server.membership_store import NodeStore, open_store
from raftlock.storage import StorageError
from raftlock.testing.disk import SimDisk
from raftlock_wire.entry import Entry, EntryKind, HardState, Write
from raftlock_wire.ids import Index, NodeId, Term
from raftlock_wire.limits import LOGGED_RENEWAL_TTL_MS_DEFAULT
from raftlock_wire.membership import Member, Membership, cluster_id_of, membership

INCARNATION = "1" * 32
CONFIG = ServerConfig(node_id=1, data_dir=Path("/simulated"), segment_size=1 << 20)


def opened(disk: SimDisk, *, node_id: int = 1) -> NodeStore:
    """Open the directory on a simulated disk."""
    return open_store(disk, node_id=NodeId(node_id), segment_size=1 << 20, incarnation=INCARNATION)


def first() -> Membership:
    """Return the membership of a cluster of one."""
    return membership([Member(NodeId(1), INCARNATION, "p:1", "c:1")])


def bootstrapped(disk: SimDisk, *, ttl_ms: int = 30_000) -> NodeStore:
    """Open a directory and give it its cluster."""
    store = opened(disk)
    store.set_cluster(BootstrapSet(cluster_id_of(first()), first().encode(), ttl_ms))
    return store


def test_an_empty_directory_is_formatted_and_waits_for_a_cluster() -> None:
    """It has an identity and no members: it calls nobody and lets nobody in (decision 13)."""
    store = opened(SimDisk(rng=random.Random(1)))

    assert (store.node_id, store.incarnation, store.cluster_id, store.first_membership) == (
        1,
        INCARNATION,
        None,
        Membership(),
    )
    assert store.logged_renewal_ttl_ms == LOGGED_RENEWAL_TTL_MS_DEFAULT


def test_an_incarnation_is_made_once() -> None:
    """Opened again, a node is who it was; two formatted directories are two nodes (decision 13)."""
    disk = SimDisk(rng=random.Random(1))
    made = open_store(disk, node_id=NodeId(1), segment_size=1 << 20)
    made.close()
    again = opened(disk)
    other = open_store(SimDisk(rng=random.Random(2)), node_id=NodeId(1), segment_size=1 << 20)

    assert (again.incarnation, len(made.incarnation), other.incarnation != made.incarnation) == (
        made.incarnation,
        32,
        True,
    )


def test_the_directory_of_another_node_is_refused() -> None:
    """A disk in the wrong machine would vote twice."""
    disk = SimDisk(rng=random.Random(1))
    opened(disk).close()

    with pytest.raises(StorageError):
        opened(disk, node_id=2)


def test_a_cluster_is_set_durably() -> None:
    """After a power cut too a node knows its cluster, its first membership and the ttl chosen at bootstrap."""
    disk = SimDisk(rng=random.Random(1))
    bootstrapped(disk)
    disk.crash()

    store = opened(disk)

    assert (store.cluster_id, store.first_membership, store.logged_renewal_ttl_ms) == (
        cluster_id_of(first()),
        first(),
        30_000,
    )


@pytest.mark.parametrize("ttl_ms", [0, 5_000])
def test_the_ttl_of_logged_renewals_outlives_a_restart(ttl_ms: int) -> None:
    """Also 0, by which every renewal is logged (L6)."""
    disk = SimDisk(rng=random.Random(1))
    bootstrapped(disk, ttl_ms=ttl_ms).close()

    assert opened(disk).logged_renewal_ttl_ms == ttl_ms


def test_a_driver_goes_on_from_what_the_disk_holds() -> None:
    """Term, vote and entries are those that were synced; nothing is applied before it is committed again."""
    disk = SimDisk(rng=random.Random(1))
    store = bootstrapped(disk)
    runner = JobRunner(store.store)
    driver = store.make_driver(CONFIG, now_us=0, rng=random.Random(1))
    entries = tuple(Entry(Index(i), Term(4), EntryKind.NOOP, i, i, b"") for i in (1, 2))
    done = runner.run(WriteJob((Write(1, HardState(Term(4), NodeId(1)), entries),)))
    runner.run(SealJob())
    disk.crash()

    again = opened(disk).make_driver(CONFIG, now_us=0, rng=random.Random(1))

    assert (driver.raft.term, done.number) == (0, 1)
    assert (
        again.raft.term,
        again.raft.last_index,
        again.raft.last_stamp_us,
        again.applied_index,
    ) == (
        4,
        2,
        2,
        0,
    )
    assert again.config.logged_renewal_ttl_ms == 30_000
