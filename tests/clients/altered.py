"""The service as it may be next year: real answers, with what today's document does not have put into them."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

STATUSES = {"QUEUED", "RUNNING", "WAITING", "SUCCEEDED", "FAILED", "CANCELLED", "TIMED_OUT", "DEAD"}
AUTHORS = ("value", "input", "output", "payload", "tags")
"""Members that are as somebody else made them."""
PASSED_ON = ("content-type", "content-length", "authorization", "if-none-match", "idempotency-key")


def altered(value: Any) -> Any:
    """With a status, a kind of step and a code that nobody knows, and a member more in every object."""
    if isinstance(value, list):
        return [altered(item) for item in value]
    if not isinstance(value, dict):
        return value
    new = {
        name: item if name in ("value", "input", "output", "tags") else altered(item) for name, item in value.items()
    }
    for name in ("status", "workflow_status"):
        if new.get(name) in STATUSES and "seq" not in new:
            new[name] = "PAUSED"
    if "seq" in new:
        new["kind"] = "quantum"
    if "code" in new:
        new["code"] = "of-next-year"
    return {**new, "novelty": {"of": "next year"}}


@contextmanager
def service(url: str) -> Iterator[str]:
    """The URL of a proxy to the service at another one."""

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() in PASSED_ON}
            with httpx.Client(base_url=url, timeout=40, trust_env=False) as client:
                response = client.request(self.command, self.path, content=body, headers=headers)
            content = response.content
            if "json" in response.headers.get("Content-Type", ""):
                content = json.dumps(altered(response.json())).encode()
            self.send_response(response.status_code)
            for name in ("Content-Type", "ETag", "Location", "Workflow-Status"):
                if name in response.headers:
                    self.send_header(name, response.headers[name])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    for method in ("GET", "POST", "DELETE"):
        setattr(Proxy, f"do_{method}", Proxy.pass_on)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
