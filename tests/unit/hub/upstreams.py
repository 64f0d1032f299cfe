"""A bad line to a real upstream: passes requests on, counts them, and does what a test wants to go wrong."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


class Line:
    """What passes between a hub and its upstream. `trouble`: how it misbehaves now.

    "" (not at all), "down", "429", "500", "lie" (other bytes of the same length), "cut" (breaks in the middle of a
    body), "silent" (answers nothing), "slow" (pauses within the body), "away" (redirects to `elsewhere`), "no HEAD".
    `only`: for paths with this in them.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.trouble = ""
        self.only = ""
        self.elsewhere = "http://169.254.169.254"
        self.credentials: list[str] = []
        self.seen: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def note(self, method: str, path: str) -> None:
        with self._lock:
            self.seen.append((method, path))

    def count(self, method: str, part: str) -> int:
        """How many requests of `method` came with `part` in their path."""
        return sum(1 for seen, path in self.seen if seen == method and part in path)

    def trouble_with(self, path: str) -> str:
        return self.trouble if self.only in path else ""

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def line_to(target: str) -> Iterator[Line]:
    line = Line(target)
    try:
        yield line
    finally:
        line.close()


def _handler(line: Line) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.startswith("http://"):  # asked as a proxy
                self.path = "/" + self.path.split("/", 3)[3]
            line.note(self.command, self.path)
            trouble = line.trouble_with(self.path)
            if "Authorization" in self.headers:
                line.credentials.append(self.path)
            if trouble == "no HEAD" and self.command == "HEAD":
                trouble = "405"
            if trouble == "down":
                self.close_connection = True
                return
            if trouble == "silent":
                time.sleep(4)
                self.close_connection = True
                return
            if trouble in ("405", "429", "500", "away"):
                self.send_response(307 if trouble == "away" else int(trouble))
                self.send_header("Retry-After", "7")
                self.send_header("Location", line.elsewhere + self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            answer = httpx.request(self.command, line.target + self.path, headers=headers, timeout=30)
            self._send(answer, trouble)

        do_HEAD = do_GET

        def _send(self, answer: httpx.Response, trouble: str) -> None:
            body = answer.content
            if trouble == "lie":
                body = bytes(byte ^ 1 for byte in body)
            self.send_response(answer.status_code)
            for name, value in answer.headers.multi_items():
                if name.lower() not in ("date", "server", "connection"):
                    self.send_header(name, value)
            self.end_headers()
            half = len(body) // 2
            self.wfile.write(body[:half])
            if trouble == "cut" and body:
                self.close_connection = True
                return
            if trouble == "slow" and body:
                self.wfile.flush()
                time.sleep(0.7)
            self.wfile.write(body[half:])

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
