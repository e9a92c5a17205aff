"""Checks that stay on in production: a broken one is a bug, and the process stops (style, kinds of failure)."""


class InvariantViolation(AssertionError):
    """What must always hold did not. Nobody catches this: the process ends before it can do harm."""


def check(condition: bool, what: str) -> None:
    """Raise InvariantViolation, which names `what` must hold, unless `condition`."""
    if not condition:
        raise InvariantViolation(what)
