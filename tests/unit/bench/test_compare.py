"""What a comparison says: the figures and ratios at the top of its JSON, what is left out, what peers answer."""

import argparse
import json
from pathlib import Path

import pytest

from bench import compare, failover
from bench.native import csv_rate, writes_per_second
from bench.peers import etcd, zookeeper
from bench.peers.protobuf import chunk, number
from bench.ratios import QUICK_KEYS, figure, keys_of
from bench.report import write


def test_figure_names_every_peer_also_without_a_value() -> None:
    """Each entry has raftlock, the peers and the ratios; a peer without a figure is None and has no ratio."""
    rates = {"raftlock": 300.0, "etcd": 100.0, "redis": 600.0, "zookeeper": 0.0}

    assert figure("pipelined", rates) == {
        "raftlock": 300.0,
        "etcd": 100.0,
        "redis": 600.0,
        "zookeeper": 0.0,
        "pysyncobj": None,
        "ratio": {"etcd": 3.0, "redis": 0.5},
    }


def test_ratio_of_a_gap_is_above_one_where_raftlocks_is_shorter() -> None:
    """Of a failover and of a wait less is better."""
    assert [
        figure(name, {"raftlock": 50.0, "etcd": 1_500.0})["ratio"]
        for name in ("failover_ms", "after_release_ms", "contended")
    ] == [{"etcd": 30.0}, {"etcd": 30.0}, {"etcd": 0.033}]


def test_json_has_the_chief_figures_at_its_top(tmp_path: Path) -> None:
    """They stand beside command, options and machine, as they stand in the results."""
    file = tmp_path / "out.json"
    results = {name: figure(name, {"raftlock": 2.0, "etcd": 1.0}) for name in QUICK_KEYS}
    options = argparse.Namespace(command="compare", json=str(file))

    write(options, {**results, "rounds": {}}, keys_of({**results, "rounds": {}}, QUICK_KEYS))

    read = json.loads(file.read_text())
    assert {name: read[name] for name in QUICK_KEYS} == results
    assert set(read) == {"command", "options", "machine", "results", *QUICK_KEYS}


def test_workloads_are_named_or_all() -> None:
    """`all` is every workload, the single commands too."""
    assert (compare.names_of("all"), compare.names_of("native,expiry")) == (
        list(compare.ALL),
        ["native", "expiry"],
    )


def peer_that_is_missing(name: str) -> object:
    """Return a peer that is not installed."""

    class Missing:
        def __init__(self) -> None:
            self.name = name

        def missing(self) -> str:
            return "it is not installed (Debian: it)"

    return Missing


@pytest.mark.parametrize(("allowed", "found"), [(False, None), (True, [])])
def test_missing_peer_is_named_and_left_out_only_when_allowed(
    allowed: bool,
    found: list[object] | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without --allow-missing nothing is started."""
    monkeypatch.setitem(compare.PEERS, "etcd", peer_that_is_missing("etcd"))

    chosen = compare.chosen(argparse.Namespace(peers="etcd", allow_missing=allowed))

    said = capsys.readouterr().err
    assert (chosen, "missing: etcd: it is not installed (Debian: it)" in said) == (found, True)


@pytest.mark.parametrize(("allowed", "found"), [(False, None), (True, [])])
def test_failover_names_a_missing_peer(
    allowed: bool,
    found: list[object] | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same holds for the systems that stand beside a failover."""
    monkeypatch.setitem(failover.SYSTEMS, "etcd", peer_that_is_missing("etcd"))

    chosen = failover.chosen(argparse.Namespace(peers="etcd", allow_missing=allowed))

    said = capsys.readouterr().err
    assert (chosen, "missing: etcd: it is not installed (Debian: it)" in said) == (found, True)


def test_etcd_status_says_who_leads() -> None:
    """The leader's id is the member's own, another's, or none."""

    def status(leader: int) -> bytes:
        return chunk(1, number(1, 5) + number(2, 7)) + (number(4, leader) if leader else b"")

    assert [etcd.leads(status(leader)) for leader in (7, 8, 0)] == [True, False, None]


def test_zookeeper_says_who_leads() -> None:
    """One that does not serve answers without a mode."""
    said = [b"Zxid: 0x1\nMode: leader\n", b"Mode: follower\n", b"This ZooKeeper instance is not currently serving requests\n"]  # fmt: skip

    assert [zookeeper.leads(one) for one in said] == [True, False, None]


def test_native_generators_are_read() -> None:
    """redis-benchmark's CSV by its heading; etcdctl's figure, whether it calls it a pass or not."""
    heads = '"test","rps","avg_latency_ms"\n'

    assert (
        csv_rate(heads + '"SET a NX","689655.19","0.3"\n'),
        csv_rate(heads + '"EVAL if x(\'a\',1) 1","4.5","0.3"\n'),
        csv_rate("Could not connect to Redis\n"),
        writes_per_second("FAIL: Throughput too low: 3042 writes/s\n"),
        writes_per_second("PASS: Throughput is 14900 writes/s"),
        writes_per_second("no"),
    ) == (689655.19, 4.5, None, 3042, 14900, None)
