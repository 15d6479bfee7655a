"""Sign-ups with FastAPI, mails as jobs: `uvicorn fastapi_app:service`."""

from fastapi import FastAPI
from pydantic import BaseModel

from kiqpy import App, worker

welcomed: list[str] = []


@worker(queue="mail", retry=10, timeout=30)
async def send_welcome(address: str) -> None:
    welcomed.append(address)  # a real one talks to a mail server


class Jobs(App):
    queues = {"mail": 50}
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


@service.get("/health")
async def health() -> dict[str, bool]:
    return {"jobs": jobs.failure is None}
