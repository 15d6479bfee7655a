"""A Starlette service with a lifespan of its own: `uvicorn starlette_wrapped:service`."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kiqpy import App, worker

welcomed: list[str] = []


@worker(queue="mail", retry=10, timeout=30)
async def send_welcome(address: str) -> None:
    welcomed.append(address)  # a real one talks to a mail server


class Jobs(App):
    queues = {"mail": 50}
    workers = [send_welcome]


jobs = Jobs()


class State(TypedDict):
    domain: str


@asynccontextmanager
async def lifespan(_service: Starlette) -> AsyncGenerator[State]:
    """What was there before: it opens something and hands it to the requests."""
    await jobs.enqueue(send_welcome.new("operator@example.org"))  # jobs are up already
    yield {"domain": "example.org"}


async def signup(request: Request) -> JSONResponse:
    given = await request.json()
    address = f"{given['address']}@{request.state.domain}"
    receipt = await jobs.enqueue(send_welcome.new(address))
    return JSONResponse({"jid": receipt.jid, "state": receipt.state}, 202)


async def signups(_request: Request) -> JSONResponse:
    return JSONResponse(welcomed)


service = Starlette(
    lifespan=jobs.lifespan_around(lifespan),
    routes=[
        Route("/signup", signup, methods=["POST"]),
        Route("/signups", signups),
    ],
)
