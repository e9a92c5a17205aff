"""The rules that a bucket keeps for the audit: when objects of records move to a colder class, and when they go.

Only the rules of our names are ours: others in the bucket stay as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from raftlock.audit.manifest import RECORDS
from raftlock.audit.tier_s3 import failure_of

Rule = Mapping[str, Any]
RULE_PREFIX = "raftlock-audit "
CLASSES = ("STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE")  # fmt: skip


class Step(NamedTuple):
    """Objects move to a storage class when they are so old."""

    days: int
    storage_class: str


class Plan(NamedTuple):
    """What a bucket has, and what it should have."""

    exists: bool
    before: Sequence[Rule]
    after: Sequence[Rule]

    @property
    def changes(self) -> bool:
        """Return whether there is something to do."""
        return not self.exists or list(self.before) != list(self.after)


def rule_for(prefix: str, steps: Sequence[Step], *, expire_days: int | None) -> dict[str, Any]:
    """Return the rule of a prefix. Manifests stay where they are: they are small, and `verify` reads them all.

    Raise ValueError for steps that no store takes.
    """
    days = [step.days for step in steps]
    if days != sorted(set(days)):
        raise ValueError(f"each class must come later than the one before, and not at {days} days")
    if expire_days is not None and days and expire_days <= days[-1]:
        raise ValueError(f"objects cannot move at {days[-1]} days and go at {expire_days}")
    rule: dict[str, Any] = {
        "ID": f"{RULE_PREFIX}{prefix}{RECORDS}",
        "Status": "Enabled",
        "Filter": {"Prefix": f"{prefix}{RECORDS}"},
    }
    if steps:
        rule["Transitions"] = [{"Days": s.days, "StorageClass": s.storage_class} for s in steps]
    if expire_days is not None:
        rule["Expiration"] = {"Days": expire_days}
    return rule


def plan(client: Any, bucket: str, rule: Rule) -> Plan:
    """Look at a bucket. Raise TierUnavailable or TierRefused."""
    exists, before = True, []
    try:
        before = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "NoSuchBucket":
            exists = False
        elif code != "NoSuchLifecycleConfiguration":
            raise failure_of(error, f"s3://{bucket}") from error
    except BotoCoreError as error:
        raise failure_of(error, f"s3://{bucket}") from error
    return Plan(exists, [_plain(one) for one in before], merged(before, rule))


def merged(before: Sequence[Rule], rule: Rule) -> list[Rule]:
    """Return the rules with ours in its place; without it if it would do nothing."""
    does = "Transitions" in rule or "Expiration" in rule
    others = [_plain(one) for one in before if one.get("ID") != rule["ID"]]
    at = next((i for i, one in enumerate(before) if one.get("ID") == rule["ID"]), len(others))
    return [*others[:at], *([_plain(rule)] if does else []), *others[at:]]


def apply(client: Any, bucket: str, found: Plan, *, region: str | None) -> None:
    """Carry a plan out. Raise TierUnavailable or TierRefused."""
    try:
        if not found.exists:
            where = {"CreateBucketConfiguration": {"LocationConstraint": region}} if region else {}
            client.create_bucket(Bucket=bucket, **(where if region != "us-east-1" else {}))
        if list(found.before) != list(found.after):
            if found.after:
                rules = {"Rules": list(found.after)}
                client.put_bucket_lifecycle_configuration(
                    Bucket=bucket, LifecycleConfiguration=rules
                )
            else:
                client.delete_bucket_lifecycle(Bucket=bucket)
    except (ClientError, BotoCoreError) as error:
        raise failure_of(error, f"s3://{bucket}") from error


def _plain(rule: Rule) -> dict[str, Any]:
    """Return a rule in one form: stores add fields that say nothing, and keep transitions in their own order."""
    found = {name: value for name, value in rule.items() if value not in (None, "", [])}
    if "Transitions" in found:
        found["Transitions"] = sorted(found["Transitions"], key=lambda step: step.get("Days", 0))
    return found
