"""HTTP at a node as curl would ask it, and what the tests expect of the answers.

It owns the calls and their failures. It must not know how the nodes are run.
"""

import json
import urllib.error
import urllib.request
from typing import Any

from deploy.engine import EngineError

HOUR_S = 3_600
TIMEOUT_S = 15


class WrongAnswer(Exception):
    """A step saw something else than it must."""


def expect(condition: bool, what: str) -> None:
    """Raise WrongAnswer unless a fact holds."""
    if not condition:
        raise WrongAnswer(what)


def ask_http(url: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
    """GET, or POST a body of JSON. Return the status and the answer. Raise EngineError if nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()
    except OSError as error:
        raise EngineError(f"{url} cannot be reached: {error}") from error


def acquire(url: str, name: str) -> int:
    """Acquire a lock for an hour, see it refused to the next one, and return its token."""
    wish = {"resourceId": name, "clientId": "deploy", "ttl": HOUR_S}
    code, answer = ask_http(f"{url}/api/v1/locks/acquire", wish)
    expect(code == 200, f"an acquire at {url}: {code} {answer}")
    refused, why = ask_http(f"{url}/api/v1/locks/acquire", wish)
    expect(refused == 409, f"a held lock at {url}: {refused} {why}")
    return int(json.loads(answer)["lockToken"])
