"""Which failures of a store are worth another attempt."""

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)

from raftlock.audit.tier_s3 import failure_of
from raftlock.audit.tiers import TierRefused, TierUnavailable


def answered(code: str, status: int) -> ClientError:
    """Return what boto3 raises for an answer."""
    return ClientError(
        {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}},
        "PutObject",
    )


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (answered("SlowDown", 503), TierUnavailable),
        (answered("InternalError", 500), TierUnavailable),
        (answered("BadGateway", 502), TierUnavailable),
        (answered("ConditionalRequestConflict", 409), TierUnavailable),
        (answered("AccessDenied", 403), TierRefused),
        (answered("NoSuchBucket", 404), TierRefused),
        (answered("NotImplemented", 501), TierRefused),
        (ConnectTimeoutError(endpoint_url="x"), TierUnavailable),
        (EndpointConnectionError(endpoint_url="x"), TierUnavailable),
        (ReadTimeoutError(endpoint_url="x"), TierUnavailable),
        (NoCredentialsError(), TierRefused),
    ],
)
def test_no_answer_and_later_are_tried_again_and_no_is_not(
    error: Exception, kind: type[Exception]
) -> None:
    """A store that is away or busy may come back; one that refuses will refuse again."""
    assert type(failure_of(error, "what")) is kind
