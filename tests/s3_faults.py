"""A proxy before the S3 server that fails as networks and stores do: every n-th request, one fault after another."""

import http.client
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_DOWN = b"""<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"""
FAULTS = ("busy", "error", "no answer", "answer lost", "cut off", "slow")
"""503 and 500 before anything was done; a connection that ends before the request is done, or after it; an answer of
which half arrives; one that takes a second."""


class FlakyProxy(ThreadingHTTPServer):
    """Passes requests on to a port of this machine, and every n-th one badly, of those whose path holds `only`."""

    daemon_threads = True

    def __init__(self, to_port: int, every: int, only: str = "", faults: tuple[str, ...] = FAULTS) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.to_port, self.every, self.only = to_port, every, only
        self.requests, self.done = itertools.count(1), Counter()
        self._faults = itertools.cycle(faults)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_fault(self, path: str) -> str | None:
        """What befalls the next request."""
        if self.only not in path or next(self.requests) % self.every:
            return None
        fault = next(self._faults)
        self.done[fault] += 1
        return fault

    def handle_error(self, request, client_address) -> None:
        """A client that has left is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.next_fault(self.path)
        if fault == "no answer":
            self.close_connection = True
            return
        if fault in ("busy", "error"):
            self.answer(503 if fault == "busy" else 500, [("Content-Type", "application/xml")], SLOW_DOWN)
            return
        if fault == "slow":
            time.sleep(1.0)
        status, headers, data = self.ask(body)
        if fault == "answer lost":
            self.close_connection = True
            return
        self.answer(status, headers, data, half=fault == "cut off")

    def ask(self, body: bytes) -> tuple[int, list, bytes]:
        """The server's answer; the host it was asked by is part of the signature, so that stays."""
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.to_port, timeout=60)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            upstream.putheader(name, value)
        upstream.endheaders(body)
        answer = upstream.getresponse()
        data = answer.read()
        headers = [pair for pair in answer.getheaders() if pair[0].lower() not in ("transfer-encoding", "connection")]
        upstream.close()
        return answer.status, headers, data

    def answer(self, status: int, headers: list, data: bytes, half: bool = False) -> None:
        """Send it, or the first half of what it promises."""
        self.send_response_only(status)
        names = {name.lower() for name, _ in headers}
        for name, value in headers:
            self.send_header(name, value)
        if "content-length" not in names:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if half else data)
        self.close_connection = half

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on

    def log_message(self, *words) -> None:
        """Say nothing."""


@contextmanager
def flaky(to_port: int, every: int, only: str = "", faults: tuple[str, ...] = FAULTS) -> Iterator[FlakyProxy]:
    """The proxy, while the block runs."""
    proxy = FlakyProxy(to_port, every, only, faults)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
