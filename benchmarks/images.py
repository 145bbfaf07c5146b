"""Fetching photographs: the stage's fetching against a thread pool of ``requests`` sessions, from a local server.

Both sides fetch the same photographs over at most 32 connections, compute the sha256 of each and append it to one
file; neither decodes. Ours is ``instar.images.network.fetch_all`` with its spool, as the stage runs it. The server is a
process of its own and answers after 30 ms, so that no client can be faster than photographs / connections * 30 ms.

python benchmarks/images.py [--small]
"""

import argparse
import asyncio
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from instar.images.network import Limits, fetch_all
from instar.images.spool import Row, Spool

LATENCY_S = 0.030
CONNECTIONS = 32
SIZE = 20_000

SERVER = f"""
import asyncio, hashlib

def body(name):
    return (hashlib.sha256(name).digest() * 625)[:{SIZE}]

class Photographs(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.rest = b""

    def data_received(self, data):
        *requests, self.rest = (self.rest + data).split(b"\\r\\n\\r\\n")
        for request in requests:
            data = body(request.split(b" ", 2)[1])
            head = b"HTTP/1.1 200 OK\\r\\nContent-Type: image/jpeg\\r\\nContent-Length: {SIZE}\\r\\n\\r\\n"
            asyncio.get_running_loop().call_later({LATENCY_S}, self.transport.write, head + data)

async def main():
    server = await asyncio.get_running_loop().create_server(Photographs, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@contextmanager
def server() -> Iterator[int]:
    """A server in a process of its own; yields its port."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def with_instar(rows: list[Row], folder: Path) -> dict[str, str]:
    """Fetch all; returns sha256 by key."""
    limits = Limits(
        connections=CONNECTIONS,
        timeout_s=60.0,
        stall_s=15.0,
        attempts=4,
        max_bytes=50_000_000,
        requests_per_s=20.0,
        bytes_per_hour=5 * 10**9,
        bytes_per_day=24 * 10**9,
        unlimited_hosts=frozenset({"127.0.0.1"}),
    )
    with Spool(folder / "spool") as spool:
        asyncio.run(fetch_all(rows, spool, limits, lambda row, refusal: None))
        return {row["key"]: answer.sha256 for row in rows if (answer := spool.answer(row))}


def with_requests(rows: list[Row], folder: Path) -> dict[str, str]:
    """The same with ``requests``: a session for each thread, the body whole, appended under a lock."""
    import requests

    local = threading.local()
    lock = threading.Lock()
    found = {}
    with (folder / "photographs").open("wb", buffering=0) as file, ThreadPoolExecutor(CONNECTIONS) as pool:

        def fetch(row: Row) -> None:
            if not hasattr(local, "session"):
                local.session = requests.Session()  # looks for proxies at each request, as ours does
            answer = local.session.get(row["url"], timeout=60)
            answer.raise_for_status()
            data = answer.content
            sha256 = hashlib.sha256(data).hexdigest()
            with lock:
                file.write(data)
                found[row["key"]] = sha256

        list(pool.map(fetch, rows))
    return found


def measured(call: Callable[[list[Row], Path], dict[str, str]], rows: list[Row]) -> tuple[dict[str, str], float, float]:
    """What a call returns, its wall time and its CPU time in seconds, in a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        found = call(rows, Path(folder))
        wall_s = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF)
    return found, wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="200 photographs, once")
    small = parser.parse_args().small
    count, repeats = (200, 1) if small else (3000, 3)
    os.environ.setdefault("NO_PROXY", "*")
    with server() as port:
        rows = [{"key": f"k{n}", "url": f"http://127.0.0.1:{port}/{n}.jpg"} for n in range(count)]
        expected = {row["key"]: _sha256(row["url"]) for row in rows}
        best: dict[str, tuple[float, float]] = {}
        measured(with_instar, rows[:64]), measured(with_requests, rows[:64])  # imports
        for _ in range(repeats):
            for call in (with_instar, with_requests):
                found, *seconds = measured(call, rows)
                assert found == expected, call.__name__
                walls, cpus = zip(*[tuple(seconds), best.get(call.__name__, tuple(seconds))], strict=True)
                best[call.__name__] = min(walls), min(cpus)
    ceiling_s = count / CONNECTIONS * LATENCY_S
    for name, (wall_s, cpu_s) in best.items():
        print(
            f"{name}: {count} photographs of {SIZE // 1000} kB in {wall_s:.2f} s ({ceiling_s / wall_s:.0%} of the "
            f"latency's ceiling), {cpu_s:.2f} CPU-seconds ({cpu_s / count * 1e3:.2f} ms each)"
        )
    ours, theirs = best["with_instar"], best["with_requests"]
    print(f"photographs per CPU-second: {theirs[1] / ours[1]:.2f} x requests; wall {theirs[0] / ours[0]:.2f} x")


def _sha256(url: str) -> str:
    path = "/" + url.rsplit("/", 1)[1]
    return hashlib.sha256((hashlib.sha256(path.encode()).digest() * 625)[:SIZE]).hexdigest()


if __name__ == "__main__":
    main()
