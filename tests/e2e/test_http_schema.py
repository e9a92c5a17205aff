"""The OpenAPI document against a real node: generated requests get documented answers, and none of them a 500."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from raftlock.server.bootstrap import bootstrap
from raftlock.server.http.openapi import document
from tests.e2e.conftest import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]

schema = schemathesis.openapi.from_dict(document())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of one node."""
    cluster = Cluster(tmp_path_factory.mktemp("one"))
    try:
        cluster.start(1)
        bootstrap({1: cluster.peer(1)}, wait_s=60)
        yield cluster.http(1)
    finally:
        cluster.stop_all()


@schema.parametrize()
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_generated_requests_get_documented_answers(case: schemathesis.Case, root: str) -> None:
    """Whatever the document allows, and what it does not, is answered with a status and a schema that it lists."""
    if isinstance(case.body, dict) and case.body.get("blocking") is True:
        case.body["timeout"] = 0.01
    case.call_and_validate(
        base_url=root,
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )
