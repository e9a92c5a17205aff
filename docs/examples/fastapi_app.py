"""FastAPI: a request that holds a lock while it runs; the same order is never charged by two requests at once.

Run it:  uvicorn --app-dir docs/examples fastapi_app:app
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse

from raftlock.client import AsyncClient, Lock, LockLost, NotAcquired, OutcomeUnknown, Unavailable

ENDPOINTS = os.environ.get("RAFTLOCK_ENDPOINTS", "127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep one client for the life of the application: one connection and one session for all requests."""
    async with AsyncClient(ENDPOINTS.split(","), owner="shop") as client:
        app.state.locks = client
        yield


app = FastAPI(lifespan=lifespan)


async def order_lock(order_id: str, request: Request) -> AsyncIterator[Lock]:
    """Hold the lock of an order during the request. The request is cancelled when the lock is lost."""
    locks: AsyncClient = request.app.state.locks
    async with locks.lock(f"order:{order_id}", wait=0.2) as lock:
        yield lock


# The lock is released before the answer is sent: the client that has it may come again at once.
OrderLock = Annotated[Lock, Depends(order_lock, scope="function")]


@app.post("/orders/{order_id}/charge")
async def charge(order_id: str, lock: OrderLock, seconds: float = 0) -> dict[str, object]:
    """Charge an order; the token goes to whatever keeps the money."""
    await asyncio.sleep(seconds)
    return {"order": order_id, "fencing_token": lock.token}


@app.exception_handler(NotAcquired)
async def busy(request: Request, error: NotAcquired) -> JSONResponse:
    """Another request has the order."""
    return JSONResponse({"detail": "busy", "held_by": error.holder}, status_code=409)


@app.exception_handler(LockLost)
@app.exception_handler(Unavailable)
@app.exception_handler(OutcomeUnknown)
async def unsure(request: Request, error: Exception) -> JSONResponse:
    """The lock was lost meanwhile, or cannot be had: the client may try again."""
    return JSONResponse({"detail": str(error)}, status_code=503, headers={"Retry-After": "1"})
