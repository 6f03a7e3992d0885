"""Starts the browser: marimo in run mode on 127.0.0.1, after the checks that end in one clear line."""

import contextlib
import hmac
import importlib.util
import os
import secrets
import socket
import sys
import webbrowser
from typing import Any, NoReturn
from urllib.parse import parse_qs

from stages import paths
from stages.errors import TsrError

HOST = "127.0.0.1"
NOTEBOOK = paths.REPORTS / "explore.py"
# The page may load what this server has, and nothing else: text from other people's data cannot call home.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws: data: blob:; "
    "worker-src 'self' blob:; frame-src 'self' blob:; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)


class OwnPagesOnly:
    """ASGI middleware: answers who has the token, at this address alone, and lets pages load nothing from elsewhere.

    Another site that is open in the same browser could else read the data, by this address or by a name for it, and
    so could whoever else uses this machine. The first address carries the token; from then on a cookie does, which a
    name of its own keeps apart from those of other ports.
    """

    def __init__(self, app: Any, port: int, token: str) -> None:
        self._app, self._token, self._cookie = app, token, f"tsr-{port}"
        names = (HOST, "localhost")
        self._hosts = {f"{name}:{port}" for name in names}
        self._origins = {f"http://{host}" for host in self._hosts}
        sockets = " ".join(f"ws://{host}" for host in sorted(self._hosts))
        policy = _POLICY.replace(" ws: ", f" {sockets} ")
        told = {
            "content-security-policy": policy,
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
        }
        self._headers = [(name.encode(), value.encode()) for name, value in told.items()]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif not self._is_own(scope):
            await self._refuse(scope, send, b"This server shows its own pages only.\n")
        elif scope["type"] == "http" and self._is_token(_asked(scope).get("token", [""])[0]):
            await self._let_in(send)
        elif not self._is_token(_cookies(scope).get(self._cookie, "")):
            await self._refuse(scope, send, b"Expected the whole address that `tsr explore` printed, token included.\n")
        else:
            await self._app(scope, receive, self._telling(send))

    def _is_own(self, scope: Any) -> bool:
        """Return whether a request names this address, once, and comes from its pages or from no page."""
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        return len(hosts) == 1 and hosts[0] in self._hosts and set(origins) <= self._origins

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _telling(self, send: Any) -> Any:
        async def told(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        return told

    async def _let_in(self, send: Any) -> None:
        """Give the cookie and lead to the address without the token.

        Lax, not Strict: from a terminal that is a page itself, the browser would not send a strict one at once.
        """
        cookie = f"{self._cookie}={self._token}; HttpOnly; SameSite=Lax; Path=/"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), *self._headers]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _refuse(self, scope: Any, send: Any, why: bytes) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": why})


def _values(scope: Any, wanted: bytes) -> list[str]:
    """Return all values of a header."""
    return [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted]


def _asked(scope: Any) -> dict[str, list[str]]:
    """Return what stands behind the question mark of an address."""
    return parse_qs(scope.get("query_string", b"").decode("latin-1"))


def _cookies(scope: Any) -> dict[str, str]:
    pairs = (part.strip().partition("=") for value in _values(scope, b"cookie") for part in value.split(";"))
    return {name: value for name, _, value in pairs}


def check() -> None:
    """Raise TsrError where marimo is missing, or the notebook or the pairs are not here."""
    if importlib.util.find_spec("marimo") is None:
        raise TsrError('the pair browser needs marimo: pip install "tsr[explore]"')
    if not NOTEBOOK.is_file():
        raise TsrError(f"{NOTEBOOK}: no such file; run tsr in the folder that holds params.yaml and reports")
    from stages.browsing.store import open_store

    open_store().close()


def listen(port: int) -> socket.socket:
    """Return a socket that listens on the port. Raises TsrError where that cannot be had."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or error
        raise TsrError(f"port {port} of {HOST} cannot be used: {why}; choose another with --port") from error
    return listener


def serve(port: int, *, browser: bool) -> NoReturn:
    """Show the notebook, its code hidden, until Ctrl+C, which ends the process. Port 0 takes a free one.

    Raises TsrError as `check` and `listen` do.
    """
    check()
    with listen(port) as listener:
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe(24)
        app, address = OwnPagesOnly(_app(), port, token), f"http://{HOST}:{port}/?token={token}"
        print(f"pairs of {paths.data()}: {address} (Ctrl+C stops)", flush=True)
        if browser:
            webbrowser.open(address)
        import uvicorn

        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    # Open pages have kernels in threads that would end half a minute later. They only read: nothing is lost.
    sys.stdout.flush()
    os._exit(0)


def _app() -> Any:
    """Return the notebook as a web application."""
    os.environ["MARIMO_SKIP_UPDATE_CHECK"] = "1"
    import marimo

    built = marimo.create_asgi_app(quiet=True, include_code=False, session_ttl=30)
    return built.with_app(path="", root=str(NOTEBOOK.resolve())).build()
