"""A scripted stand-in for an OpenAI-compatible server, on 127.0.0.1.

What it answers is decided by the messages, the temperature and, above temperature 0, the seed. Faults come from a
script: by the order in which requests arrive, or by what the last message says.
"""

import hashlib
import json
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer. `change` is laid over a good reply; a None in it takes the key out."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    change: dict[str, Any] = field(default_factory=dict)
    slow_s: float = 0
    half: bool = False
    drop: bool = False
    stop: bool = False


def error(status: int, message: str = "", headers: dict[str, str] | None = None, **more: Any) -> Fault:
    """An answer with an error's status, in the form that OpenAI gives it."""
    body = json.dumps({"error": {"message": message, "type": "error", "param": None, "code": None} | more}).encode()
    return Fault(status=status, headers=headers or {}, body=body)


FINE = Fault()
LIMITED = error(429, "slow down")
BROKEN = error(500, "oops")
HALF = Fault(half=True)
GARBAGE = Fault(body=b'{"id": "x", "choi')
NOT_JSON = Fault(body=b"<html>proxy</html>", headers={"Content-Type": "text/html"})
NO_CHOICES = Fault(change={"choices": None})
EMPTY_CHOICES = Fault(change={"choices": []})
WRONG_MODEL = Fault(change={"model": "M0-2026-01-01"})
DROPPED = Fault(drop=True)
GONE = Fault(stop=True)
TOO_LONG = error(400, "This model's maximum context length is 16 tokens.", code="context_length_exceeded")
REFUSED = error(400, "Invalid prompt.", code="invalid_prompt")


class FakeServer:
    """A server that runs as long as the `with` block. `answered` is what it was asked, in order of arrival."""

    def __init__(
        self,
        models: tuple[str, ...] | None = ("M0",),
        script: list[Fault] | None = None,
        by_text: dict[str, list[Fault]] | None = None,
        always: Fault = FINE,
        latency_s: float = 0,
        spelling: str = "bytes",
        listing: Fault = FINE,
    ) -> None:
        self.models, self.listing, self.latency_s, self.spelling = models, listing, latency_s, spelling
        self._script, self._by_text, self._always = script or [], by_text or {}, always
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.listed = self._now = self.highest = 0
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads, self._server.block_on_close = True, False
        self._server.fake = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "FakeServer":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.closing.is_set():
            self.stop()

    def stop(self) -> None:
        """Close the port: from now on, connections are refused."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def enter(self, body: dict[str, Any], key: str | None) -> Fault:
        """Note a request that came in, and return what is to happen to it."""
        with self._lock:
            self.asked.append(body)
            self.keys.append(key)
            self._now += 1
            self.highest = max(self.highest, self._now)
            mine = self._by_text.get(body["messages"][-1]["content"])
            if mine:
                return mine.pop(0)
            return self._script.pop(0) if self._script else self._always

    def leave(self) -> None:
        """Note that a request has been answered."""
        with self._lock:
            self._now -= 1

    def tokens(self, body: dict[str, Any]) -> list[str]:
        """Return the tokens of the good answer to a request, with the one that ends it."""
        drawn = digest(body)
        return [*(f" w{byte}" for byte in drawn[:3]), " Score", ":", DIGITS[drawn[3] % 5], END]

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the good answer to a request."""
        tokens = self.tokens(body)
        kept = tokens[: body["max_completion_tokens"]]
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": "".join(t for t in kept if t != END)},
            "finish_reason": "stop" if len(kept) == len(tokens) else "length",
            "logprobs": self._logprobs(body, kept) if body.get("logprobs") else None,
        }
        prompt = sum(len(m["content"].split()) for m in body["messages"])
        usage = {"prompt_tokens": prompt, "completion_tokens": len(kept), "total_tokens": prompt + len(kept)}
        about = {"id": f"chatcmpl-{time.time_ns()}", "object": "chat.completion", "created": int(time.time())}
        return about | {"model": body["model"], "choices": [choice], "usage": usage}

    def _logprobs(self, body: dict[str, Any], tokens: list[str]) -> dict[str, Any]:
        top = body.get("top_logprobs", 0)
        content = []
        for token in tokens:
            others = [t for t in DIGITS if t != token]
            likeliest = [(token, FIRST), *((t, FIRST - 1 - i) for i, t in enumerate(others))]
            listed = [self._spelled(t, logprob) for t, logprob in likeliest[:top]]
            content.append(self._spelled(token, FIRST) | {"top_logprobs": listed})
        return {"content": content, "refusal": None}

    def _spelled(self, token: str, logprob: float) -> dict[str, Any]:
        """Return a token as servers write it: with its bytes, or with the tokenizer's own sign for a space."""
        if self.spelling == "bytes":
            return {"token": token, "logprob": logprob, "bytes": list(token.encode())}
        return {"token": token.replace(" ", self.spelling), "logprob": logprob, "bytes": None}


END = "<end>"
DIGITS = [" 0", " 1", " 2", " 3", " 4"]
FIRST = -0.25  # the drawn token's log-probability


def digest(body: dict[str, Any]) -> bytes:
    """Return what decides an answer."""
    seed = body["seed"] if body["temperature"] else None
    return hashlib.sha256(json.dumps([body["messages"], body["temperature"], seed]).encode()).digest()


class _Server(ThreadingHTTPServer):
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that the other side has closed, which tests do on purpose."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    @property
    def fake(self) -> FakeServer:
        fake: FakeServer = self.server.fake  # type: ignore[attr-defined]
        return fake

    def do_GET(self) -> None:
        self.fake.listed += 1
        if self.path != "/v1/models" or self.fake.models is None:
            self._send(404, b"{}")
        elif self.fake.listing is not FINE:
            self._answer(self.fake.listing, {})
        else:
            data = [{"id": name, "object": "model"} for name in self.fake.models]
            self._send(200, json.dumps({"object": "list", "data": data}).encode())

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if len(sent) < int(self.headers["Content-Length"]):  # who asks has gone
            self.close_connection = True
            return
        body = json.loads(sent)
        if self.path != "/v1/chat/completions":
            self._send(404, b"{}")
            return
        fault = self.fake.enter(body, self.headers["Authorization"])
        try:
            self.fake.closing.wait(fault.slow_s or self.fake.latency_s)
        finally:
            self.fake.leave()
        self._answer(fault, self.fake.reply(body))

    def _answer(self, fault: Fault, reply: dict[str, Any]) -> None:
        if fault.stop:
            self.fake.stop()
        if fault.stop or fault.drop:
            self.close_connection = True
            return
        good = {key: value for key, value in (reply | fault.change).items() if value is not None}
        body = fault.body if fault.body is not None else json.dumps(good).encode()
        self._send(fault.status, body, fault.headers, half=fault.half)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, half: bool = False) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)
        self.close_connection = self.close_connection or half
