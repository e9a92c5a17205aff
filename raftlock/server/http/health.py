"""Whether this node lives and serves, its status, and its metrics."""

import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from raftlock.server.http.locks import NO_STORE, answer
from raftlock.server.http.openapi import document
from raftlock.server.http.problems import Problem
from raftlock.server.samples import package_version
from raftlock.telemetry.exposition import Exposition

if TYPE_CHECKING:
    from raftlock.server.node import Node


class NodeHandlers:
    """What is asked of the node itself, whoever leads."""

    def __init__(self, node: "Node", exposition: Exposition | None) -> None:
        self._node = node
        self._exposition = exposition
        self._started_s = time.monotonic()

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/healthz", self.healthz)
        router.add_get("/readyz", self.readyz)
        router.add_get("/statusz", self.statusz)
        router.add_get("/metrics", self.metrics)
        router.add_get("/api/v1/openapi.json", self.openapi)

    async def healthz(self, request: web.Request) -> web.Response:
        """GET /healthz: the process lives and its loop answers."""
        del request
        return answer({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:
        """GET /readyz: requests that come here are served, here or by the leader that this node knows."""
        del request
        driver = self._node.driver
        if driver is None:
            raise Problem(
                "unavailable",
                "this node has no cluster yet: `raftlock bootstrap` or `raftlock members add` gives it one",
            )
        if not driver.ready:
            raise Problem("unavailable", "this node knows no leader that serves")
        return answer({"status": "ready", "leader": driver.raft.leader_id})

    async def statusz(self, request: web.Request) -> web.Response:
        """GET /statusz: this node in one object."""
        del request
        driver = self._node.driver
        shown: dict[str, Any] = {
            "id": self._node.config.node_id,
            "cluster_id": None,
            "role": "none",
            "healthy": False,
        }
        if driver is not None:
            shown |= driver.status()
            shown["members"] = [
                {
                    "id": m.node_id,
                    "role": "learner" if m.learner else "voter",
                    "peer_address": m.peer_address,
                    "client_address": m.client_address,
                }
                for m in driver.raft.membership.members
            ]
        shown["version"] = package_version()
        shown["uptime_seconds"] = round(time.monotonic() - self._started_s, 3)
        return answer(shown)

    async def metrics(self, request: web.Request) -> web.Response:
        """GET /metrics: Prometheus' text format, or OpenMetrics for who asks for it."""
        if self._exposition is None:
            raise Problem("not-found", 'metrics are switched off on this node (metrics = "off")')
        text, content_type = self._exposition.render(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type, **NO_STORE})

    async def openapi(self, request: web.Request) -> web.Response:
        """GET /api/v1/openapi.json: this interface, described."""
        del request
        return answer(document())
