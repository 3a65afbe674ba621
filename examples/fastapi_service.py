"""A web service: one client for all requests, refusals as HTTP statuses, retries without duplicates.

uvicorn examples.fastapi_service:app
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from rstmdb_client import (
    AUTO,
    AsyncClient,
    Conflict,
    GuardFailed,
    InvalidTransition,
    NotFound,
    OutcomeUnknownError,
    RstmdbError,
)

TICKET = {
    "states": ["open", "assigned", "closed"],
    "initial": "open",
    "transitions": [
        {"from": "open", "event": "ASSIGN", "to": "assigned"},
        {"from": "assigned", "event": "CLOSE", "to": "closed"},
    ],
}
STATUS: dict[type[RstmdbError], int] = {
    NotFound: 404,
    InvalidTransition: 409,
    GuardFailed: 409,
    Conflict: 409,
    OutcomeUnknownError: 504,
}


class Ticket(BaseModel):
    """What a ticket is about."""

    title: str
    assignee: str | None = None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connect once for the whole service; all requests share the connection."""
    async with AsyncClient(os.environ.get("RSTMDB_URL")) as client:
        await client.put_machine("ticket", 1, TICKET)
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


def connected(request: Request) -> AsyncClient:
    """Return the service's client."""
    client: AsyncClient = request.app.state.client
    return client


Database = Annotated[AsyncClient, Depends(connected)]


@app.exception_handler(RstmdbError)
async def refused(_: Request, error: RstmdbError) -> JSONResponse:
    """Say in HTTP what the database said."""
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 503)
    return JSONResponse({"error": type(error).__name__, "message": str(error)}, status)


@app.post("/tickets", status_code=201)
async def create(ticket: Ticket, client: Database) -> dict[str, Any]:
    """Open a ticket."""
    created = await client.create_instance("ticket", 1, ctx=ticket)
    return {"id": created.instance_id, "state": created.state}


@app.get("/tickets/{ticket_id}")
async def read(ticket_id: str, client: Database) -> dict[str, Any]:
    """Return a ticket."""
    found = await client.get_instance(ticket_id, ctx_type=Ticket)
    return {"id": ticket_id, "state": found.state, **found.ctx.model_dump()}


@app.post("/tickets/{ticket_id}/{event}")
async def apply(
    ticket_id: str,
    event: str,
    client: Database,
    payload: dict[str, Any] | None = None,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> dict[str, Any]:
    """Apply an event; a caller that sends `Idempotency-Key` may repeat the request as it likes."""
    key = idempotency_key or AUTO
    applied = await client.apply_event(ticket_id, event.upper(), payload=payload, idempotency_key=key)
    return {"id": ticket_id, "state": applied.to_state, "applied": applied.applied}
