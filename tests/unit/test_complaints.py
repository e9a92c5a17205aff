"""Warnings about strangers are bounded: they cannot fill the disk."""

import logging

import pytest

from raftlock.server.complaints import Complaints


def test_a_flood_is_ten_lines_a_second_and_a_count(caplog: pytest.LogCaptureFixture) -> None:
    """Of 1,000 of a kind within a second ten are logged, and the next line says how many were left out."""
    now_s = [0.0]
    complaints = Complaints(clock=lambda: now_s[0])
    with caplog.at_level(logging.WARNING, logger="raftlock.node"):
        for number in range(1_000):
            complaints.say("client_refused", why=number)
        complaints.say("peer_refused", why="another kind")
        now_s[0] = 1.0
        complaints.say("client_refused", why="later")

    said = [(vars(record)["event"], vars(record)["fields"]) for record in caplog.records]
    assert said == [
        *(("client_refused", {"why": str(number)}) for number in range(10)),
        ("peer_refused", {"why": "another kind"}),
        ("client_refused", {"why": "later", "left_out": 990}),
    ]
