"""The stages as DVC has them, and one of them reproduced by DVC's own hand, in a process of its own.

DVC is opened once. Each stage then runs in a fork of this process, so that none pays for DVC's start, and does what
`dvc repro --single-item` does: skip what did not change, take what the run cache has, else run the command, and save.
Fork and stage share nothing but files, and DVC's locks are held as DVC holds them: its own while files are looked at or
saved, those of a stage's paths as long as the stage runs.
"""

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from stages.errors import TsrError, without_secrets
from stages.files import write_text
from stages.running import lock_text
from stages.running.processes import fork

RAN, UNCHANGED, RESTORED, FAILED, STOPPED = 0, 10, 11, 1, 12  # exit codes of the process of a stage
WAIT_SECONDS = 1.0  # between two looks whether another DVC has let go of a path


class _StoppedError(BaseException):
    """Unwinds a stage that is to end; nothing takes it for an error."""


class _Turn:
    """DVC's lock of the checkout. Stages of one run queue for it in the kernel first; DVC's own waits by looking."""

    def __init__(self, lock: Any, queue: Path) -> None:
        self._lock, self._queue = lock, queue
        self._handle: Any = None
        self.stopping = False
        self.on_release: Callable[[], None] = _nothing
        self.released = False  # while it was held: DVC does so for a command alone

    @property
    def is_locked(self) -> bool:
        """Return whether this process holds it."""
        return bool(self._lock.is_locked)

    def lock(self) -> None:
        """Wait for it."""
        self._handle = self._queue.open("wb")
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        self._lock.lock()

    def unlock(self) -> None:
        """Let go. A stage that is to stop does so here, between two things that are whole."""
        self.released = True
        self.on_release()
        if self._lock.is_locked:
            self._lock.unlock()
        if self._handle:
            self._handle.close()
            self._handle = None
        if self.stopping:
            raise _StoppedError

    def __enter__(self) -> "_Turn":
        self.lock()
        self.released = False
        return self

    def __exit__(self, *_: object) -> None:
        self.unlock()

    def stop(self, *_: object) -> None:
        """On SIGTERM: end the command, and the stage as soon as what is being saved is whole."""
        if self.stopping:
            return
        self.stopping = True
        os.killpg(0, signal.SIGTERM)  # this process too, which knows
        for process in psutil.Process().children(recursive=True):  # those with a group of their own
            with suppress(psutil.Error):
                process.terminate()
        if not self.is_locked:
            raise _StoppedError


class Pipeline:
    """The stages that some targets need, each after those that it rests on, in the order of `dvc repro`."""

    def __init__(self, targets: Iterable[str], home: Path, *, pull: bool = False) -> None:
        """Read dvc.yaml and its kin. Raises TsrError for what DVC cannot read, and for an unknown target.

        With `pull`, as in `dvc repro --pull --allow-missing`: results are looked for in the remote, its run cache too,
        and of a stage that did not change nothing is fetched unless another one needs it.
        """
        self._pull = pull
        with _as_errors():
            from dvc.progress import Tqdm
            from dvc.repo import Repo
            from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

            Tqdm.monitor_interval = 0  # a thread, and forks take none along
            self._repo = Repo(_wait_for_lock=True)
            if Path(self._repo.root_dir) != Path.cwd():
                raise TsrError(f"run: expected to be started in {self._repo.root_dir}, which holds dvc.yaml")
            graph = get_active_graph(self._repo.index.graph)
            asked = collect_stages(self._repo, list(targets) or ["dvc.yaml"])
            by_name = {stage.addressing: stage for stage in self._repo.index.stages}
            planned = plan_repro(graph, [by_name[stage.addressing] for stage in asked])
        self.stages = {stage.addressing: stage for stage in planned}
        self.before = {
            name: tuple(sorted(other.addressing for other in graph.successors(stage)))
            for name, stage in self.stages.items()
        }
        self._lock_file = Path("dvc.lock")
        self._places = {name: index for index, name in enumerate(self.stages)}
        self._places |= dict.fromkeys(lock_text.entries(self._lock_text()) or {}, -1)
        self._turn = self._repo.lock = _Turn(self._repo.lock, home / "turn")
        self._repo.state.close()  # each fork opens its own
        self.mend()
        _warm()

    def mend(self) -> None:
        """Remove DVC's list of the paths in use where a kill cut it off: DVC would refuse to work ever after.

        What it said is lost either way, and the lock that is held here says that nobody writes it now.
        """
        from dvc.lock import make_lock

        home = Path(self._repo.tmp_dir)
        path = home / "rwlock"
        with make_lock(str(home / "rwlock.lock"), wait=True):
            if path.exists() and not _is_json(path):
                path.unlink()
                told = path.relative_to(Path.cwd())
                print(f"run: {told}: was cut off when a DVC was killed; removed", file=sys.stderr, flush=True)

    def fetch_results(self) -> None:
        """Fetch the remote's run cache: what every stage made of what, wherever it ran. Raises TsrError without one.

        DVC says nothing of a remote that is not there, as before the first push, or where a disk is not mounted.
        """
        try:
            with self._turn:
                remote = self._repo.cloud.get_remote_odb(None, "run --pull", hash_name="md5-dos2unix")
                if not remote.fs.exists(remote.path):
                    told = "nothing is there yet, or it is out of reach; what is missing is made here"
                    print(f"run: --pull: {remote.path}: {told}", file=sys.stderr, flush=True)
                self._repo.stage_cache.pull(None)
        except Exception as error:  # a remote fails in as many ways as there are kinds of it
            raise TsrError(f"run: --pull: {_told(error)}") from error

    def changed(self) -> list[str]:
        """Return the stages that are not as dvc.lock has them; what rests on them may change too."""
        with _as_errors(), self._turn:
            return [name for name, stage in self.stages.items() if stage.changed(allow_missing=self._pull)]

    def start(self, name: str, log: Path, gpus: str) -> int:
        """Start a stage in a process of its own, and return its id; what it says goes to `log`: see `settle_log`.

        `gpus` are those that it is to see, as CUDA_VISIBLE_DEVICES has them; empty leaves it as it is.
        """

        def work() -> int:
            if gpus:
                os.environ["CUDA_VISIBLE_DEVICES"] = gpus
            self._turn.on_release = lambda: settle_log(log, keep=True)
            try:
                return self._reproduce(name)
            except _StoppedError:
                return STOPPED
            except Exception as error:
                print(f"ERROR: {name}: {_told(error)}", file=sys.stderr)
                return FAILED

        with _beside(log).open("wb") as output:
            return fork(output.fileno(), self._turn.stop, work)

    def _reproduce(self, name: str) -> int:
        from dvc.lock import LockError
        from dvc.repo import lock_repo

        waiting = ""
        while True:
            try:
                with lock_repo(self._repo), self._repo.scm_context(quiet=True):
                    return self._reproduced(self.stages[name])
            except LockError as error:  # another DVC is at a path of this stage
                if waiting != (waiting := _told(error)):
                    print(f"waiting for another DVC: {waiting}", flush=True)
            time.sleep(WAIT_SECONDS)

    def _reproduced(self, stage: Any) -> int:
        if stage.reproduce(pull=self._pull, allow_missing=self._pull) is None:
            self._turn.on_release = _nothing
            return UNCHANGED
        self._save(stage)
        return RAN if self._turn.released else RESTORED

    def _save(self, stage: Any) -> None:
        """Write a stage's entry to dvc.lock, as DVC would."""
        from dvc.stage.serialize import to_lockfile
        from dvc.utils.serialize import dumps_yaml

        if Path(stage.path) == Path("dvc.yaml").absolute():
            entry = dumps_yaml({"schema": "2.0", "stages": to_lockfile(stage)})
            text = lock_text.put(self._lock_text(), entry, lambda name: self._places.get(name, len(self._places)))
            if text is not None:
                write_text(text, self._lock_file)
                self._repo.scm_context.track_file(str(self._lock_file))
                return
        stage.dump(update_pipeline=False)  # a file that only DVC can write

    def _lock_text(self) -> str:
        return self._lock_file.read_text(encoding="utf-8") if self._lock_file.exists() else ""


def _nothing() -> None:
    """Stand for what is not to be done."""


def settle_log(log: Path, *, keep: bool) -> None:
    """Let a stage's new log take the place of its old one; of a stage that did not change, the old one stays."""
    with suppress(FileNotFoundError):  # that is done
        _beside(log).replace(log) if keep else _beside(log).unlink()


def _beside(log: Path) -> Path:
    return log.with_name(f".{log.name}")


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


@contextmanager
def _as_errors() -> Iterator[None]:
    """Tell what DVC complains of in one line."""
    from dvc.exceptions import DvcException

    try:
        yield
    except DvcException as error:
        raise TsrError(f"dvc: {_told(error)}") from error


def _told(error: BaseException | None) -> str:
    """Return an error and what caused it, in one line."""
    said: list[str] = []
    while error is not None:
        said.append(" ".join(str(error).split()) or type(error).__name__)
        error = error.__cause__
    return without_secrets(": ".join(dict.fromkeys(said)))


def _warm() -> None:
    """Import what a stage needs of DVC before the forks, once instead of in each."""
    for name in ("stage.cache", "stage.run", "stage.serialize", "utils.serialize", "logger", "output", "rwlock"):
        import_module(f"dvc.{name}")
