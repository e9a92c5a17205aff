"""An S3 bucket as a tier, by boto3. Credentials are found as boto3 finds them."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from raftlock.audit.tiers import (
    FileTier,
    Listed,
    Tier,
    TierRefused,
    TierUnavailable,
    parse_place,
    sha256_of,
)

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
_AGAIN = frozenset(
    {
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "RequestTimeout",
        "RequestTimeTooSkewed",
        "InternalError",
        "ServiceUnavailable",
        "OperationAborted",
        "ConditionalRequestConflict",
    }
)
"""Answers after which the same request may work."""
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_THERE = frozenset({"412", "PreconditionFailed"})
_HASH = "raftlock-sha256"


def open_tier(url: str, *, endpoint: str | None = None, region: str | None = None) -> Tier:
    """Return the tier of an address. Raise BadTier for one that is none, TierRefused where boto3 cannot begin."""
    place = parse_place(url)
    if place.scheme == "file":
        return FileTier(Path(place.prefix))
    return S3Tier(connect(endpoint=endpoint, region=region), place.bucket, place.prefix)


def connect(*, endpoint: str | None, region: str | None) -> Any:
    """Return boto3's client. Raise TierRefused for what it does not take."""
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        # The shipper tries again by itself, so that it can say so.
        retries={"total_max_attempts": 1},
        # Content-MD5 is sent instead: every store checks it.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        return boto3.client("s3", endpoint_url=endpoint, region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:
        raise TierRefused(str(error)) from error


class S3Tier:
    """A prefix of a bucket."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket, self._prefix = bucket, prefix
        self._versions = True
        self.url = f"s3://{bucket}/{prefix}"

    def put_new(self, key: str, data: bytes) -> bool:
        """See Tier."""
        try:
            self._call(
                "put_object",
                Key=self._prefix + key,
                Body=data,
                IfNoneMatch="*",
                ContentMD5=base64.b64encode(
                    hashlib.md5(data, usedforsecurity=False).digest()
                ).decode(),
                Metadata={_HASH: sha256_of(data)},
            )
        except ClientError as error:
            if _code(error) in _THERE:
                return False
            raise self._refused(error, key) from error
        return True

    def hashes(self, key: str) -> frozenset[str]:
        """See Tier: the note is the object's metadata. An object without one has the hash ""."""
        found = set()
        for version in self._version_ids(key):
            which = {} if version is None else {"VersionId": version}
            try:
                head = self._call("head_object", Key=self._prefix + key, **which)
            except ClientError as error:
                if _code(error) in _MISSING:
                    continue
                raise self._refused(error, key) from error
            found.add(head["Metadata"].get(_HASH, ""))
        return frozenset(found)

    def _version_ids(self, key: str) -> list[str | None]:
        """Return the versions of an object; [None], the current one, where the store keeps or tells of none."""
        if not self._versions:
            return [None]
        try:
            page = self._call("list_object_versions", Prefix=self._prefix + key)
        except ClientError as error:
            if _code(error) not in ("NotImplemented", "MethodNotAllowed", "AccessDenied"):
                raise self._refused(error, key) from error
            self._versions = False
            return [None]
        versions = [v for v in page.get("Versions", ()) if v["Key"] == self._prefix + key]
        return [None if v["VersionId"] == "null" else v["VersionId"] for v in versions]

    def list(self, prefix: str, *, after: str = "") -> Iterator[Listed]:
        """See Tier."""
        arguments: dict[str, Any] = {"Prefix": self._prefix + prefix}
        if after:
            arguments["StartAfter"] = self._prefix + after
        while True:
            try:
                page = self._call("list_objects_v2", **arguments)
            except ClientError as error:
                raise self._refused(error, prefix) from error
            for one in page.get("Contents", ()):
                yield Listed(one["Key"].removeprefix(self._prefix), one["Size"])
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        """See Tier."""
        part = {} if size is None else {"Range": f"bytes={start}-{start + size - 1}"}
        try:
            answer = self._call("get_object", Key=self._prefix + key, **part)
            data: bytes = answer["Body"].read()
        except ClientError as error:
            if _code(error) in _MISSING:
                raise FileNotFoundError(f"{self.url}{key}") from error
            raise self._refused(error, key) from error
        except (BotoCoreError, HTTPClientError) as error:
            raise TierUnavailable(f"{self.url}{key}: {error}") from error
        return data

    def _call(self, operation: str, **arguments: Any) -> Any:
        """Ask once. Raise TierUnavailable when no answer came or it was "later"; ClientError for any other refusal."""
        try:
            return getattr(self._client, operation)(Bucket=self._bucket, **arguments)
        except (ClientError, BotoCoreError) as error:
            failure = failure_of(error, f"{self.url}: {operation}")
            if isinstance(error, ClientError) and isinstance(failure, TierRefused):
                # The caller knows what a 404 or a 412 means.
                raise
            raise failure from error

    def _refused(self, error: ClientError, key: str) -> TierRefused:
        return TierRefused(f"{self.url}{key}: {error}")


def failure_of(error: Exception, what: str) -> TierRefused | TierUnavailable:
    """Return which of the two a failure of boto3 is: whether the same call may work another time."""
    again = isinstance(error, BotoConnectionError | HTTPClientError)
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        again = _code(error) in _AGAIN or (status >= 500 and status != 501)
    # Else there are no credentials, or the bucket's name cannot be one, or the region.
    return (TierUnavailable if again else TierRefused)(f"{what}: {error}")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
