"""A process that has imported all that the stages need, and forks one child for each `tsr` command it is asked for.

A stage of a tiny model takes a tenth of a second, and its imports take seven: so a hundred kills cost minutes, not an
hour. A child is what `python -m stages ...` is, imports apart: a process and a session of its own, in a folder of its
own, that ends by exit code or by signal. Nothing that makes threads runs before the fork.

`python zygote.py` is the server: one JSON object a line on stdin, and on stdout `{"started": pid}`, in order, and
`{"ended": pid, "status": code}`, as it comes.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "trl", "datasets", "altair", "duckdb", "scipy.stats", "stages.dpo_trainer", "stages.training")
STAGES = ("prepare", "base", "eft", "sft", "generate", "judge", "score", "pair", "dpo", "measure", "evaluate", "report")
OTHERS = ("oracle", "refer", "tune", "features", "plan", "show", "gc", "verify", "claims.page", "tournament.run")
NEVER_ENDS = 600  # seconds


class Child:
    """One command under way: its process, and what it has told."""

    def __init__(self, zygote: "Zygote", pid: int, log: Path) -> None:
        self._zygote, self.pid, self._log = zygote, pid, log

    def wait(self) -> int:
        """Return the exit code when it has ended, negative for a signal."""
        return self._zygote.status(self.pid)

    def ended(self) -> tuple[int, str]:
        """Return the exit code and what was told, when it has ended."""
        return self.wait(), self.told

    def ended_within(self, seconds: float) -> bool:
        """Whether it has ended before so many seconds are over."""
        return self._zygote.is_over(self.pid, seconds)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    @property
    def told(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")


class Zygote:
    """The server, from outside. `alone` gives it a mount namespace of its own, where it is root."""

    def __init__(self, logs: Path, code: Path, *, alone: bool = False) -> None:
        self._logs, self._count = logs, 0
        self._ended: dict[int, int] = {}
        self._rest = b""
        words = [*(["unshare", "--mount", "--map-root-user"] if alone else []), sys.executable, __file__]
        env = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._next("ready")

    def start(self, *words: str, folder: Path, fault: dict[str, Any] | None = None, **env: str) -> Child:
        """Start `tsr WORDS` in a folder, with a fault in it."""
        self._count += 1
        log = self._logs / f"{self._count}.log"
        log.touch()
        asked = {"words": words, "folder": str(folder), "fault": fault or {}, "env": env, "log": str(log)}
        self._say(asked)
        pid = self._next("started")
        self._ended.pop(pid, None)  # a process before had the same number
        return Child(self, pid, log)

    def run(self, *words: str, folder: Path, fault: dict[str, Any] | None = None, **env: str) -> tuple[int, str]:
        """Run `tsr WORDS` in a folder; return its exit code and what it has told."""
        return self.start(*words, folder=folder, fault=fault, **env).ended()

    def shell(self, *words: str) -> int:
        """Run a command where the server is, as in its mount namespace; return the exit code."""
        self._say({"shell": words})
        return self._next("shell")

    def status(self, pid: int) -> int:
        """Wait for a child's end."""
        assert self.is_over(pid, NEVER_ENDS), f"process {pid} does not end"
        return self._ended[pid]

    def is_over(self, pid: int, seconds: float) -> bool:
        """Whether a child ends within so many seconds."""
        until = time.monotonic() + seconds
        while pid not in self._ended:
            told = self._read(until - time.monotonic())
            if told is None:
                return False
            self._ended[told["ended"]] = told["status"]
        return True

    def close(self) -> None:
        """End the server."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)

    def _say(self, asked: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked).encode() + b"\n")
        self.process.stdin.flush()

    def _next(self, wanted: str) -> int:
        while True:
            told = self._read(NEVER_ENDS)
            assert told is not None, "the zygote says nothing"
            if wanted in told:
                return int(told[wanted])
            self._ended[told["ended"]] = told["status"]

    def _read(self, seconds: float) -> dict[str, Any] | None:
        """Return the next thing that the server says, or None when so many seconds are over."""
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            if not select.select([self.process.stdout], [], [], max(seconds, 0))[0]:
                return None
            read = os.read(self.process.stdout.fileno(), 1 << 16)
            assert read, "the zygote is gone"
            self._rest += read
        line, self._rest = self._rest.split(b"\n", 1)
        found: dict[str, Any] = json.loads(line)
        return found


def _serve() -> None:
    from importlib import import_module

    for name in (*HEAVY, *(f"stages.{stage}" for stage in (*STAGES, *OTHERS))):
        import_module(name)
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM  # noqa: F401 (for the children)
    from trl import DPOTrainer, SFTTrainer  # noqa: F401

    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _tell(ready=1)
    rest = b""
    while True:
        ready = select.select([0, wake], [], [])[0]
        if wake in ready:
            os.read(wake, 4096)
            _reap()
        if 0 in ready:
            read = os.read(0, 1 << 16)
            if not read:
                return
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                _answer(json.loads(line))


def _answer(asked: dict[str, Any]) -> None:
    if "shell" in asked:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _tell(shell=subprocess.run(asked["shell"], check=False, capture_output=True).returncode)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        _reap()
        return
    pid = os.fork()
    if not pid:
        _become(asked)
    _tell(started=pid)


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _tell(ended=pid, status=os.waitstatus_to_exitcode(status))


def _tell(**told: int) -> None:
    os.write(1, json.dumps(told).encode() + b"\n")


def _become(asked: dict[str, Any]) -> None:
    """In the child: be `tsr WORDS`."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(log, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(asked["folder"])
        os.environ.update(asked["env"])
        import breaking

        from stages import cli

        breaking.put_in(asked["fault"])
        sys.argv = ["tsr", *asked["words"]]
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        breaking.counted()
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.path.insert(0, str(TESTS))
    _serve()
