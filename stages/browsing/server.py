"""Starts the browser: marimo in run mode on 127.0.0.1, after the checks that end in one clear line."""

import contextlib
import importlib.util
import os
import socket
import sys
import webbrowser
from typing import Any, NoReturn

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
    """ASGI middleware: answers only pages of this address, and tells them to load nothing from elsewhere.

    Another site that is open in the same browser could else read the data, by this address or by a name for it.
    """

    def __init__(self, app: Any, port: int) -> None:
        self._app = app
        names = (HOST, "localhost")
        self._hosts = {f"{name}:{port}" for name in names}
        self._origins = {f"http://{host}" for host in self._hosts}
        self._policy = _POLICY.replace(" ws: ", " " + " ".join(f"ws://{host}" for host in sorted(self._hosts)) + " ")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if (
            headers.get("host") not in self._hosts
            or headers.get("origin", next(iter(self._origins))) not in self._origins
        ):
            await self._refuse(scope, send)
            return

        async def told(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", self._policy.encode())]
            await send(message)

        await self._app(scope, receive, told)

    async def _refuse(self, scope: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"This server shows its own pages only.\n"})


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
        app = OwnPagesOnly(_app(), port)
        print(f"pairs of {paths.data()}: http://{HOST}:{port} (Ctrl+C stops)", flush=True)
        if browser:
            webbrowser.open(f"http://{HOST}:{port}")
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
