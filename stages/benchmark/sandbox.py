"""Runs code that a model has written where it can do no harm, and says whether it passes its tests.

New network, process, mount and IPC namespaces (`unshare` of util-linux; who is not root gets a user namespace for that,
where the system allows one): no network, no process of the machine in sight, and of its files the interpreter alone,
read-only. An empty environment, limits on memory, processor time, processes and file size, and an end to all of it by
the clock. jail.py and candidate.py are what runs inside.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.errors import TsrError

HERE = Path(__file__).parent
USERS = range(60001, 64999)  # one of them runs it where this process is root, whom no limit on processes binds
MEMORY, FOLDER = 512, 16  # MiB of a process, and of all files together
LIMITS = {"AS": MEMORY << 20, "FSIZE": FOLDER << 20, "NPROC": 8, "NOFILE": 64, "CORE": 0, "STACK": 64 << 20}
_LINKED = "/etc/ld.so.cache"  # where the interpreter's libraries are


@dataclass(frozen=True)
class Program:
    """Code that a model has written, and how it is tested.

    `prompt` and `test` are the task's own and trusted: `prompt` defines what `test` needs, and `test` defines `check`,
    which takes the function `name` of `code`.
    """

    code: str
    name: str
    prompt: str
    test: str


def passes(program: Program, seconds: float) -> str:
    """Return an empty text where the code passes its tests within `seconds`, else why not, in a few words.

    Raises TsrError where there is no sandbox: the code is not run then.
    """
    nonce = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="tsr-jail-") as root:
        Path(root).chmod(0o755)
        said = _run(_job(program, root, nonce, seconds), seconds)
    if said is None:
        return "out of time"
    if "setup" in said:
        raise TsrError(f"no sandbox for code that a model wrote: {said['setup']}{_HINT}")
    return str(said["why"]) if said.get("nonce") == nonce else "no verdict"


_HINT = "; it needs `unshare` of util-linux and user namespaces, which some containers and systems forbid"
_PROBE = """
def f(path):
    import os, socket
    try:
        socket.create_connection(("127.0.0.1", 1), 1)
    except OSError as error:
        return [error.errno, os.path.exists(path), set(os.environ) - {"LC_CTYPE"}]
"""


def require(seconds: float = 20.0) -> None:
    """Raise TsrError, in one line, unless a sandbox can be had here: no network, no files, no environment in it."""
    test = f"def check(f):\n    assert f({str(HERE)!r})[1:] == [False, set()]\n    assert f('/')[0] in (99, 101)\n"
    if why := passes(Program(_PROBE, "f", "", test), seconds):
        raise TsrError(f"no sandbox for code that a model wrote: a harmless program in it: {why}{_HINT}")


def _job(program: Program, root: str, nonce: str, seconds: float) -> dict[str, Any]:
    """Return what jail.py is told."""
    prefix = os.path.realpath(sys.base_prefix)
    folders = [path for path in ("/usr", "/lib", "/lib64", "/bin") if not Path(path).is_symlink()]
    shown = [*folders, *([prefix] if not prefix.startswith("/usr") else []), _LINKED]
    return {
        "root": root,
        "shown": [path for path in shown if Path(path).exists()],
        "megabytes": FOLDER,
        "limits": LIMITS | {"CPU": int(seconds) + 1},
        "user": secrets.choice(USERS) if os.geteuid() == 0 else None,
        "nonce": nonce,
        "candidate": (HERE / "candidate.py").read_text(encoding="utf-8"),
        "code": program.code,
        "name": program.name,
        "prompt": program.prompt,
        "test": program.test,
    }


def _run(job: dict[str, Any], seconds: float) -> dict[str, Any] | None:
    """Return what jail.py says, None where it took too long; nothing of it runs on afterwards."""
    unshare = shutil.which("unshare")
    if unshare is None:
        raise TsrError(f"no sandbox for code that a model wrote: no command `unshare` here{_HINT}")
    python = os.path.realpath(sys.executable)
    spaces = ["--net", "--pid", "--mount", "--ipc", "--uts", "--fork", "--kill-child"]
    if os.geteuid() != 0:
        spaces += ["--user", "--map-root-user"]
    jail = (HERE / "jail.py").read_text(encoding="utf-8")
    process = subprocess.Popen(  # noqa: S603 (no shell)
        [unshare, *spaces, "--", python, "-I", "-S", "-c", jail],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},
        cwd="/",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(json.dumps(job).encode() + b"\n", timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None
    if not out and process.returncode:
        said = err.decode(errors="replace").strip().splitlines() or [f"unshare ended with {process.returncode}"]
        return {"setup": said[-1][:200]}
    said_last: dict[str, Any] = json.loads(out) if out else {}
    return said_last
