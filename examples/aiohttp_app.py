"""Sign-ups with aiohttp, mails as jobs: `python -m aiohttp.web -P 8000 aiohttp_app:make`."""

from aiohttp import web

from kiqpy import App, worker

welcomed: list[str] = []


@worker(queue="mail", retry=10, timeout=30)
async def send_welcome(address: str) -> None:
    welcomed.append(address)  # a real one talks to a mail server


class Jobs(App):
    queues = {"mail": 50}
    workers = [send_welcome]


jobs = Jobs()


async def signup(request: web.Request) -> web.Response:
    given = await request.json()
    receipt = await jobs.enqueue(send_welcome.new(given["address"]))
    return web.json_response({"jid": receipt.jid, "state": receipt.state}, status=202)


async def signups(_request: web.Request) -> web.Response:
    return web.json_response(welcomed)


def make(_arguments: list[str]) -> web.Application:
    service = web.Application()
    service.cleanup_ctx.append(jobs.cleanup_ctx)
    service.router.add_post("/signup", signup)
    service.router.add_get("/signups", signups)
    return service
