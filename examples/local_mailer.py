"""Mails that begin in the request's own process: `uvicorn local_mailer:service`."""

from fastapi import FastAPI
from pydantic import BaseModel

from kiqpy import App, worker

welcomed: list[str] = []


@worker(local=True, max_concurrency=20, retry=10, timeout=30)
async def send_welcome(address: str) -> None:
    welcomed.append(address)  # a real one talks to a mail server


class Jobs(App):
    workers = [send_welcome]


jobs = Jobs()
service = FastAPI(lifespan=jobs.lifespan)


class Signup(BaseModel):
    address: str


@service.post("/signup", status_code=202)
async def signup(given: Signup) -> dict[str, str]:
    receipt = await jobs.enqueue(send_welcome.new(given.address))
    return {"jid": receipt.jid, "state": receipt.state}


@service.get("/signups")
async def signups() -> list[str]:
    return welcomed
