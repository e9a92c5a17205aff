"""When a run of the audit's chaos passes: all of it, enough of it, and with a planted record for the right reason."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "jepsen-style"))

from chaos.audit.command import verdict
from chaos.audit.judge import AGREE
from chaos.audit.run import FIRST_FAULT, Struck, too_little
from chaos.checks import Check


@pytest.mark.parametrize(
    ("plant", "failed", "code"),
    [
        ("", [], 0),
        ("", [AGREE], 1),
        ("", ["nodes"], 1),
        ("drop", [AGREE], 0),
        ("drop", [], 1),
        ("drop", [AGREE, "nodes"], 1),
    ],
)
def test_a_planted_record_is_found_by_the_comparison_alone(
    plant: str, failed: list[str], code: int
) -> None:
    """A run that fails for something else has not shown that the comparison finds it."""
    checks = [Check(name, "", ["bad"] if name in failed else []) for name in (AGREE, "nodes")]

    assert verdict(checks, plant=plant) == code


@pytest.mark.parametrize(
    ("struck", "missing"),
    [
        (Struck(faults={FIRST_FAULT: 1}, shipper_kills=1, whole_outages=1), []),
        (Struck(faults={"pause leader": 5}, shipper_kills=1, whole_outages=1), ["leader"]),
        (Struck(faults={FIRST_FAULT: 1}, store_outages=1), ["shipper", "outage"]),
    ],
)
def test_a_run_that_broke_nothing_is_too_little(struck: Struck, missing: list[str]) -> None:
    """A leader and a shipper must have been killed, and the store away for as long as was asked."""
    found = too_little(struck)

    assert [
        next(w for w in ("leader", "shipper", "outage") if w in said) for said in found
    ] == missing
