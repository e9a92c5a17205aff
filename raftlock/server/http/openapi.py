"""The OpenAPI 3.1 document of this interface. A test holds every path and answer of the server against it."""

from typing import Any

from raftlock.server.http.problems import KINDS, URN
from raftlock.server.samples import package_version
from raftlock_wire import limits
from raftlock_wire.messages import GrantState

_NAME = {"type": "string", "minLength": 1, "maxLength": limits.RESOURCE_SIZE_MAX}
_OWNER = {"type": "string", "minLength": 1, "maxLength": limits.OWNER_SIZE_MAX}
_TOKEN = {
    "type": "integer",
    "minimum": 1,
    "maximum": limits.NUMBER_MAX,
    "description": "The fencing token. Each grant gets a larger one than every grant before it.",
}
_TTL = {
    "type": "number",
    "minimum": limits.TTL_MS_MIN / 1_000,
    "maximum": limits.TTL_MS_MAX // 1_000,
    "description": "Seconds that the lock lives unless renewed.",
}
_METADATA = {
    "type": ["object", "null"],
    "additionalProperties": {"type": "string"},
    "maxProperties": limits.METADATA_KEYS_MAX,
    "description": f"At most {limits.METADATA_SIZE_MAX} bytes, encoded.",
}
_MS = {"type": ["integer", "null"], "minimum": 0}
_MAYBE_TOKEN = {"type": ["integer", "null"], "minimum": 1}


def _object(properties: dict[str, Any], *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


_LOCK = {
    "resourceId": _NAME,
    "state": {"enum": [state.name for state in GrantState]},
    "lockToken": {"type": "integer", "minimum": 0},
    "lockId": {"type": "string"},
    "clientId": _OWNER,
    "session": {"type": "integer"},
    "ttl": {"type": "number", "minimum": 0, "description": "0: the lock lives in its session."},
    "acquiredAt": {"type": "integer", "description": "Milliseconds since 1970."},
    "clientAddress": {"type": "string"},
    "metadata": _METADATA,
    "waiters": {"type": "integer", "minimum": 0},
    "expiresInMs": _MS,
}
_AGE = {
    "type": "integer",
    "minimum": 0,
    "description": "How old the state may be that answered; 0 unless stale.",
}

_RECORD = {
    "type": "object",
    "properties": {
        "index": {"type": "integer", "minimum": 1},
        "position": {"type": "integer", "minimum": 0},
        "time": {"type": "string"},
        "operation": {"type": "string"},
        "status": {"type": "string"},
    },
    "required": ["index", "position", "time", "operation", "status"],
    "description": "The fields of docs/audit.md.",
}

SCHEMAS: dict[str, Any] = {
    "Acquire": _object(
        {
            "resourceId": _NAME,
            "clientId": _OWNER,
            "ttl": _TTL,
            "blocking": {"type": "boolean", "default": False},
            "timeout": {
                "type": "number",
                "minimum": 0,
                "maximum": limits.HTTP_WAIT_S_MAX,
                "description": "Seconds to wait; only with blocking, then 30 if left out.",
            },
            "metadata": _METADATA,
        },
        optional=("blocking", "timeout", "metadata"),
    ),
    "Grant": _object({"resourceId": _NAME, "lockToken": _TOKEN}),
    "Granted": _object(
        {
            "success": {"const": True},
            "lockToken": _TOKEN,
            "lockId": {"type": "string"},
            "ttl": {"type": "number", "minimum": 0},
            "expiresAt": {**_MS, "description": "Milliseconds since 1970, less the margin."},
            "expiresInMs": _MS,
        }
    ),
    "Released": _object({"success": {"const": True}, "released": {"type": "boolean"}}),
    "Checked": _object(
        {
            "held": {"type": "boolean"},
            "status": {"enum": ["OK", "OFFERED", "NOT_HELD"]},
            "currentToken": _MAYBE_TOKEN,
        }
    ),
    "Lock": _object({**_LOCK, "ageMs": _AGE}),
    "Locks": _object(
        {
            "locks": {"type": "array", "items": _object(_LOCK)},
            "cursor": {"type": ["string", "null"]},
            "ageMs": _AGE,
        }
    ),
    "Records": _object(
        {
            "records": {"type": "array", "items": _RECORD},
            "next": {
                "type": ["string", "null"],
                "description": "The next page; null where there is no more yet.",
            },
            "nextFrom": {
                "type": "string",
                "description": "What `from` of the next page is, also of what is to come.",
            },
            "complete": {"type": "boolean", "description": "Whether there is no more yet."},
            "appliedIndex": {
                "type": "integer",
                "minimum": 0,
                "description": "What this node had applied: its records follow within a second.",
            },
            "spans": {
                "type": "array",
                "items": {
                    "type": "array",
                    "items": {"type": "integer"},
                    "minItems": 2,
                    "maxItems": 2,
                },
                "description": "First and last index of what this node has and looked at.",
            },
        }
    ),
    "Problem": {
        "type": "object",
        "properties": {
            "type": {"enum": [URN + kind for kind in KINDS]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "success": {"const": False},
            "outcome": {"enum": ["refused", "not_taken", "unknown"]},
            "field": {"type": "string"},
            "allowed": {"type": "string"},
            "retryAfterMs": {"type": "integer"},
            "currentToken": _MAYBE_TOKEN,
            "requestId": {"type": "string", "description": "As in the header X-Request-Id."},
            "holder": _object(
                {
                    "clientId": {"type": "string"},
                    "lockToken": {"type": "integer"},
                    "acquiredAt": {"type": "integer"},
                }
            ),
        },
        "required": ["type", "title", "status", "detail", "success", "outcome"],
        "additionalProperties": False,
    },
    "Health": {"type": "object", "properties": {"status": {"type": "string"}}},
    "Status": {"type": "object", "properties": {"id": {"type": "integer"}}},
}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": _ref(name)}}


def _answers(name: str, *problems: int) -> dict[str, Any]:
    answers: dict[str, Any] = {"200": {"description": "Done.", "content": _json(name)}}
    for status in (*problems, 500):
        titles = sorted({kind.title for kind in KINDS.values() if kind.status == status})
        answers[str(status)] = {
            "description": "; ".join(titles) + ".",
            "content": {"application/problem+json": {"schema": _ref("Problem")}},
        }
    return answers


_WRITE = (400, 401, 403, 413, 415, 429, 503)
_READ = (400, 401, 403, 429, 503)


def _post(summary: str, body: str, answers: dict[str, Any], *headers: Any) -> dict[str, Any]:
    operation = {
        "operationId": summary.split(maxsplit=1)[0].lower(),
        "summary": summary,
        "requestBody": {"required": True, "content": _json(body)},
        "responses": answers,
        "security": [{}, {"bearer": []}],
    }
    return {"post": operation | ({"parameters": list(headers)} if headers else {})}


def _get(summary: str, answers: dict[str, Any], *parameters: Any) -> dict[str, Any]:
    operation = {
        "operationId": summary.split(maxsplit=1)[0].lower(),
        "summary": summary,
        "responses": answers,
        "security": [{}, {"bearer": []}],
    }
    return {"get": operation | ({"parameters": list(parameters)} if parameters else {})}


def _query(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": text}


_STALE = _query(
    "stale", {"type": "boolean"}, "Answer from this node's own state, maybe an old one."
)
_RECORDS = (
    _query("resource", _NAME, "Records of this resource."),
    _query("prefix", _NAME, "Records of resources that begin so."),
    _query("owner", _OWNER, "Records with this owner."),
    _query("token", _TOKEN, "Records with this fencing token."),
    _query("operation", {"type": "string", "minLength": 1, "maxLength": limits.OPERATION_SIZE_MAX}, "acquire, release, expire, …"),
    _query("since", {"type": "string"}, "From this time on: 2026-11-25T13:00:00Z, or 90s, 2h, 7d ago."),
    _query("until", {"type": "string"}, "Before this time."),
    _query("from", {"type": "string", "pattern": "^[0-9]{1,16}(\\.[0-9]{1,16})?$"}, "Where the page begins: as `nextFrom` said."),
    _query("limit", {"type": "integer", "minimum": 1, "maximum": limits.AUDIT_PAGE_MAX}, "Records on a page; 100 if left out."),
)  # fmt: skip
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": limits.HTTP_IDEMPOTENCY_KEY_SIZE_MAX,
        "pattern": "^[!-~]+$",
    },
    "description": "Makes the request safe to send again, through any node, for 60 s after the last attempt.",
}
_RESOURCE = {
    "name": "resource",
    "in": "path",
    "required": True,
    "schema": _NAME,
    "description": "Percent-encoded.",
}


def document() -> dict[str, Any]:
    """Return the document."""
    plain = {"200": {"description": "Prometheus' text.", "content": {"text/plain": {}}}}
    locks = "/api/v1/locks"
    return {
        "openapi": "3.1.0",
        "info": {"title": "raftlock", "version": package_version()},
        "paths": {
            f"{locks}/acquire": _post(
                "Acquire a lock", "Acquire", _answers("Granted", 409, 422, *_WRITE), _KEY
            ),
            f"{locks}/renew": _post("Renew a lock's lease", "Grant", _answers("Granted", 409, *_WRITE)),
            f"{locks}/release": _post("Release a lock", "Grant", _answers("Released", *_WRITE)),
            f"{locks}/check": _post("Check a token", "Grant", _answers("Checked", *_WRITE)),
            f"{locks}/{{resource}}": _get(
                "Get a lock", _answers("Lock", 404, *_READ), _RESOURCE, _STALE
            ),
            locks: _get(
                "List locks",
                _answers("Locks", *_READ),
                _query("prefix", {"type": "string", "maxLength": limits.RESOURCE_SIZE_MAX}, "By name."),
                _query("owner", {"type": "string", "maxLength": limits.RESOURCE_SIZE_MAX}, "By owner; not with prefix."),
                _query("cursor", {"type": "string", "maxLength": limits.CURSOR_SIZE_MAX}, "The cursor of the page before."),
                _query("limit", {"type": "integer", "minimum": 1, "maximum": limits.LIST_PAGE_MAX}, "Locks on a page."),
                _STALE,
            ),
            "/api/v1/audit": _get(
                "Records of this node's audit", _answers("Records", 404, *_READ), *_RECORDS
            ),
            "/healthz": _get("Healthz: the process lives", _answers("Health")),
            "/readyz": _get("Readyz: requests are served", _answers("Health", 503)),
            "/statusz": _get("Statusz: this node in one object", _answers("Status")),
            "/metrics": _get("Metrics", plain | {k: v for k, v in _answers("Health", 404).items() if k != "200"}),
            "/api/v1/openapi.json": _get("Document", _answers("Health")),
        },
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }  # fmt: skip
