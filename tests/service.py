"""A web service on this machine that misbehaves on demand."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Asked:
    """One request: its path, its query with single values, its headers, its body, and its query with all values."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    lists: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Answer:
    """One answer; ``cut`` leaves out so many of the promised bytes."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class Service:
    """What was asked, and misbehaviour for the next requests, one each."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    trouble: list[Answer] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [one.path for one in self.asked]


@contextmanager
def serving(answer: Callable[[Asked], Answer]) -> Iterator[Service]:
    """A service that gives ``answer`` after its troubles."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            lists = parse_qs(parts.query)
            query = {name: values[0] for name, values in lists.items()}
            length = int(self.headers.get("Content-Length") or 0)
            asked = Asked(self.command, parts.path, query, dict(self.headers.items()), self.rfile.read(length), lists)
            service.asked.append(asked)
            one = service.trouble.pop(0) if service.trouble else answer(asked)
            self.send_response(one.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(one.content)), **one.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            if one.cut:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(one.content[: len(one.content) - one.cut])
            self.close_connection = bool(one.cut)

        do_POST = do_GET  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
