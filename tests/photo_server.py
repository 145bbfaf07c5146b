"""A server of photographs on this machine that misbehaves on demand, and photographs for it."""

import asyncio
import gzip
import io
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
from aiohttp import web
from PIL import Image


def encoded(kind: str = "JPEG", side: int = 24, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (side, 2 * side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, exif=exif)
    return file.getvalue()


def picture_of(name: str) -> bytes:
    """A small JPEG file that is another one for each name."""
    pixels = np.random.default_rng(list(name.encode())).integers(0, 256, (16, 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


#: Bodies with status 200 that are no photographs.
PAGES = {
    "html": b"<!doctype html><title>Too many requests</title>",
    "xml": b'<?xml version="1.0"?><Error><Code>SlowDown</Code></Error>',
    "zero": b"",
}

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"

#: Answers that no server should give, by path.
RAW = {
    "length-too-small": _OK + b"Content-Length: 100\r\n\r\n" + encoded(),
    "length-too-large": _OK + b"Content-Length: 90000\r\n\r\n" + encoded(),
    "length-huge": _OK + b"Content-Length: 99999999999\r\n\r\n" + encoded(),
    "length-no-number": _OK + b"Content-Length: many\r\n\r\n" + encoded(),
    "half": _OK + b"Connection: close\r\n\r\n" + encoded()[: len(encoded()) // 2],
    "no-length": _OK + b"Connection: close\r\n\r\n" + encoded(),
    "brackets": b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
    "no-http": b"SSH-2.0-OpenSSH_9.2\r\n",
    "stall": _OK + b"Content-Length: 90000\r\n\r\n" + encoded()[:100],
    "zipped": _OK + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(encoded()),
    "zip-bomb": _OK + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(bytes(50_000_000)),
}


class Server:
    """A real server on this machine whose paths misbehave each in its way; it counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()  # whole photographs sent, by path
        self.hold_after: int | None = None  # photographs after which none is answered until ``release``
        self.held = 0  # photographs asked for and not answered because of it
        self.delay_s = 0.02
        self.at_once = 0
        self.most_at_once = 0
        self.agents: set[str] = set()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def __enter__(self) -> "Server":
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        application = web.Application()
        application.router.add_get("/{name}", self._answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.port = runner.addresses[0][1]
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        if handlers := asyncio.all_tasks(self._loop):  # those that still sleep
            for handler in handlers:
                handler.cancel()
            self._loop.run_until_complete(asyncio.wait(handlers))
        self._loop.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        self.asked[name] += 1
        self.agents.add(request.headers["User-Agent"])
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._behave(name, request)
        finally:
            self.at_once -= 1

    def release(self) -> None:
        """Answer again; those that wait are dropped."""
        self.hold_after = None

    async def _behave(self, name: str, request: web.Request) -> web.StreamResponse:
        data = encoded()
        if name == "moved":
            raise web.HTTPFound("/whole")
        if name == "circle":
            raise web.HTTPFound("/circle")
        if name.isdecimal():
            return web.Response(status=int(name), headers={"Retry-After": "0"})
        if name.startswith("later") and self.asked[name] < 3:
            wait = format_datetime(datetime.now(UTC) + timedelta(seconds=-5), usegmt=True)
            return web.Response(status=429 if name == "later-date" else 503, headers={"Retry-After": wait})
        if name == "slow" or (name == "slow-once" and self.asked[name] == 1):
            await asyncio.sleep(3)
        if name == "endless":
            answer = web.StreamResponse()
            await answer.prepare(request)
            for _ in range(1000):
                await answer.write(b"x" * 10_000)
            return answer
        if name == "cut" or (name == "cut-once" and self.asked[name] == 1):
            answer = web.StreamResponse(headers={"Content-Length": str(len(data))})
            await answer.prepare(request)
            await answer.write(data[:100])
            assert request.transport is not None
            request.transport.close()
            return answer
        if name in RAW:
            assert request.transport is not None
            request.transport.write(RAW[name])  # past the server's own care for what HTTP allows
            await asyncio.sleep(0.1 if name != "stall" else 30)
            request.transport.close()
        if name == "drip":
            answer = web.StreamResponse(headers={"Content-Length": str(len(data))})
            await answer.prepare(request)
            for n in range(len(data)):
                await answer.write(data[n : n + 1])
                await asyncio.sleep(0.1)
        if name in PAGES:
            return web.Response(body=PAGES[name], content_type="text/html")
        if name.startswith("page-once") and self.asked[name] == 1:
            return web.Response(body=PAGES["html"], content_type="text/html")
        if name == "hole":
            return web.Response(body=encoded("PNG")[:500] + bytes(500) + encoded("PNG")[1000:])
        if name == "leave":
            raise web.HTTPFound("file:///etc/passwd")
        if name == "pause" and self.asked[name] == 1:
            return web.Response(status=429, headers={"Retry-After": "1"})
        if name == "tomorrow":
            return web.Response(status=429, headers={"Retry-After": "86400"})
        await asyncio.sleep(self.delay_s)
        if self.hold_after is not None and self.answered.total() >= self.hold_after:
            self.held += 1
            await asyncio.sleep(600)
        if name.startswith("same"):
            name = "same"
        self.answered[name] += 1
        data = data if not name.startswith("p") else picture_of(name)
        return web.Response(body=data, content_type="image/jpeg")
