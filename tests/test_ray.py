"""The backend `ray`: the rows of one machine, made by many workers of which some die."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import bench_ray
import faulty_engine
import polars as pl
import psutil
import pytest
from rows import GENERATE, JUDGE, embedded, generations, prompts

from stages import params
from stages.backends import Completion, Request, SamplingParams
from stages.backends import ray as backend
from stages.backends import transformers as plain
from stages.block import Block
from stages.completing import Work
from stages.errors import TsrError
from stages.generate import generate
from stages.judge import judge_all
from stages.rowstore import SHARD

ROOT = Path(__file__).resolve().parent.parent
WITH_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed here: pip install 'tsr[ray]'")
WARM = SamplingParams(temperature=0.8, top_p=1.0, max_new_tokens=8)
TOKENS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for shards and rows; the workers find this folder's engine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{Path(__file__).parent}")
    return tmp_path


def settings(**changes: Any) -> backend.Settings:
    how = {"address": "", "workers": 2, "cpus_per_worker": 1, "gpus_per_worker": 0, "engine": "transformers"}
    return backend.Settings(**how | {"batch_rows": 4} | changes)


def embedded_by_ray(folder: Path, **changes: Any) -> backend.RayBackend:
    """The backend over the engine of `rows.embedded`."""
    inner: Block = plain.Settings(tile_rows=8, dtype="float32", device="cpu")
    return backend.open_backend(folder, settings(**changes).beside({"transformers": inner}))


def faulty_by_ray(inner: faulty_engine.Settings | None = None, **changes: Any) -> backend.RayBackend:
    """The backend over an engine that can be made to die."""
    blocks: dict[str, Block] = {"transformers": inner or faulty_engine.Settings()}
    return backend.RayBackend(Path.cwd(), settings(**changes).beside(blocks), "faulty_engine")


def asked(count: int = 40) -> list[Request]:
    return [Request(f"r{i:02}", [{"role": "user", "content": f"word{i:02}"}], i, WARM) for i in range(count)]


def alone(requests: list[Request]) -> list[Completion]:
    """What the faulty engine says where it has no fault."""
    return sorted(faulty_engine.Engine(faulty_engine.Settings()).complete(requests), key=lambda done: done.request_id)


def ended(started: list[psutil.Process]) -> bool:
    """Whether all of Ray's processes end; its helpers take a minute where the driver was killed, on an idle machine."""
    return not psutil.wait_procs(started, timeout=180)[1]


class Asked:
    """An engine that notes what it was asked for."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.ids = inner, list[str]()
        self.name, self.version = inner.name, inner.version
        self.model_hash, self.template_hash = inner.model_hash, inner.template_hash

    def complete(self, requests: Any) -> Iterator[Completion]:
        listed = list(requests)
        self.ids += [request.request_id for request in listed]
        return iter(self.inner.complete(listed))

    def close(self) -> None:
        pass


# --- the same rows ---


@WITH_RAY
@pytest.mark.slow
def test_a_run_begins_on_one_machine_and_ends_on_many(tiny: Path, place: Path) -> None:
    """The whole table, bit for bit, log-probabilities too; each row is made once."""
    words = [f"next {letter * n}" for letter in "abcd" for n in range(1, 6)]
    one = generate(7, GENERATE, "M0", prompts(words), embedded(tiny), Work("generate/M0/r0", 0.0, place / "one"))
    started = Work("generate/M0/r0", 0.0, place / "many")
    generate(7, GENERATE, "M0", prompts(words[:5]), embedded(tiny), started)
    many = Asked(embedded_by_ray(tiny, batch_rows=8))
    before = set(psutil.Process().children(recursive=True))
    there: set[psutil.Process] = set()
    complete = many.complete

    def watched(requests: Any) -> Iterator[Completion]:
        for done in complete(requests):
            there.update(set(psutil.Process().children(recursive=True)) - before)
            yield done

    many.complete = watched  # type: ignore[method-assign]
    rows = generate(7, GENERATE, "M0", prompts(words), many, started)  # type: ignore[arg-type]
    assert rows.equals(one)
    assert len(many.ids) == 45
    assert len(there) > 3  # of Ray's own, and two workers
    assert ended(list(there))
    assert list((place / ".tsr" / "ray").iterdir()) == []
    again = Asked(embedded_by_ray(tiny))
    assert generate(7, GENERATE, "M0", prompts(words), again, started).equals(one)  # type: ignore[arg-type]
    assert again.ids == []


@WITH_RAY
@pytest.mark.slow
@pytest.mark.parametrize(("workers", "batch_rows"), [(1, 5), (3, 1), (2, 1000)])
def test_rows_do_not_depend_on_workers_and_batches(workers: int, batch_rows: int) -> None:
    done = list(faulty_by_ray(workers=workers, batch_rows=batch_rows).complete(asked()))
    assert sorted(done, key=lambda one: one.request_id) == alone(asked())


@WITH_RAY
@pytest.mark.slow
def test_tables_do_not_depend_on_the_number_of_workers(tiny: Path, place: Path) -> None:
    """The embedded engine: generations by one and three workers, judgments both ways. One cluster serves all."""
    words = [f"next {letter * n}" for letter in "abcd" for n in (1, 4)]
    judged = generations([f"g{i}" for i in range(12)], prompt_id=words[0], response="bcd e")

    def generated(engine: Any, store: str) -> pl.DataFrame:
        return generate(7, GENERATE, "M0", prompts(words), engine, Work("generate/M0/r0", 0.0, place / store))

    def judgments(engine: Any, store: str, way: str) -> pl.DataFrame:
        changes = {"votes": 2, "temperature": 1.0} if way == "votes" else {}
        how = JUDGE.model_copy(update={"way": way, "distribution": True, "max_new_tokens": 12} | changes)
        return judge_all(7, how, "M0", prompts(words), judged, engine, Work(f"judge/{way}", 0.0, place / store))

    one = generated(embedded(tiny), "one")
    votes, tokens = (judgments(embedded(tiny), "one", way) for way in ("votes", "one_token"))
    assert (one.height, votes.height, tokens.height) == (24, 24, 12)
    for table in (votes, tokens):
        assert table["digit_logprobs"].drop_nulls().len() > 0
    with backend._cluster(settings(workers=3), place / "shards"):
        for workers in (1, 3):
            made = generated(embedded_by_ray(tiny, workers=workers, batch_rows=5), f"by {workers}")
            assert made.equals(one), f"{workers} workers"
        for way, expected in (("votes", votes), ("one_token", tokens)):
            assert judgments(embedded_by_ray(tiny, batch_rows=5), "many", way).equals(expected), way
    backend._remove(place / "shards.lock")


def test_shards_hold_what_was_asked_and_lines_what_was_answered(place: Path) -> None:
    scored = SamplingParams(0.7, 0.9, 5, ("4", "5"), "Score:")
    wide = Request(
        "w",
        [{"role": "user", "content": "ü \u2028 \x00 名\n"}, {"role": "assistant", "content": ""}],
        2**63 - 1,
        scored,
    )
    requests = [*asked(7), wide]
    left = backend.write_shards(requests, place, 3)
    assert left == {"00000000.parquet": ("r00", 3), "00000001.parquet": ("r03", 3), "00000002.parquet": ("r06", 2)}
    assert [one for name in left for one in backend.read_shard(place / name)] == requests
    for done in (
        Completion("a", "t\ud800", "stop", 1, 2, -0.1 - 2**-52, (("5", float("-inf")), ("4", -1e-300))),
        Completion("b", "", "error", 0, 0, None, status="too_long", error="no room"),
    ):
        assert backend.from_line(backend.to_line(done)) == done


def test_a_full_disk_under_the_shards_is_one_line(place: Path) -> None:
    (place / "00000001.parquet").symlink_to("/dev/full")
    with pytest.raises(TsrError, match=r"/00000001\.parquet: cannot be written: No space left on device$"):
        backend.write_shards(asked(7), place, 3)


def test_no_request_starts_no_cluster() -> None:
    assert list(faulty_by_ray(address="127.0.0.1:1").complete([])) == []


# --- workers that die ---


@WITH_RAY
@pytest.mark.slow
def test_a_worker_killed_at_work_loses_no_row_and_doubles_none(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (deaths := place / "deaths").mkdir()
    inner = faulty_engine.Settings(deadly="word13", times=1, deaths=str(deaths))
    done = list(faulty_by_ray(inner).complete(asked()))
    assert len(list(deaths.iterdir())) == 1
    assert sorted(done, key=lambda one: one.request_id) == alone(asked())
    told = capfd.readouterr()
    assert told.out == ""
    assert told.err == "tsr: ray: a worker died; another one begins its batch again\n"


@WITH_RAY
@pytest.mark.slow
def test_the_embedded_engine_killed_from_outside(tiny: Path) -> None:
    """As the test above, by a signal that comes from anywhere, at a worker that holds a model."""
    requests = [
        Request(f"r{i:03}", [{"role": "user", "content": f"next {'abc'[i % 3] * (i % 7 + 1)}"}], i, WARM)
        for i in range(400)
    ]
    killed, done = list[int](), list[Completion]()
    for one in embedded_by_ray(tiny, batch_rows=16).complete(requests):
        done.append(one)
        if not killed:
            workers = [child for child in psutil.Process().children(recursive=True) if "MapWorker" in child.name()]
            killed = [child.pid for child in workers]
            assert killed
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
    assert sorted(done, key=lambda one: one.request_id) == sorted(
        embedded(tiny).complete(requests), key=lambda one: one.request_id
    )


@WITH_RAY
@pytest.mark.slow
def test_a_poisoned_row_is_one_line_and_the_others_are_kept(place: Path) -> None:
    (deaths := place / "deaths").mkdir()
    inner = faulty_engine.Settings(deadly="word13", times=99, deaths=str(deaths))
    work = Work("generate/M0/r0", 0.0, place / "store")
    told = "3 workers died over the 4 rows from r12 on; finished rows are kept"
    with pytest.raises(TsrError, match=told):
        list(work.complete(faulty_by_ray(inner), asked()))
    assert len(list(deaths.iterdir())) == 3
    mended = Asked(faulty_engine.Engine(faulty_engine.Settings()))
    done = list(work.complete(mended, asked()))
    assert mended.ids == ["r12", "r13", "r14", "r15"]
    assert sorted(done, key=lambda one: one.request_id) == alone(asked())


@WITH_RAY
@pytest.mark.slow
def test_workers_that_always_die_end_the_run(place: Path) -> None:
    (deaths := place / "deaths").mkdir()
    inner = faulty_engine.Settings(deadly="word", times=999, deaths=str(deaths))
    with pytest.raises(TsrError, match=r"backend 'ray': the cluster gave up: .*finished rows are kept"):
        list(faulty_by_ray(inner, batch_rows=1).complete(asked()))
    assert len(list(deaths.iterdir())) < len(asked())


def test_what_killed_runs_left_behind_goes_and_nothing_else(place: Path) -> None:
    """A lock names the folder of its cluster; one that is held, or names something else, stays where it is."""
    home = place / ".tsr/ray"
    home.mkdir(parents=True)
    folders = {name: place / name for name in ("tsr-ray-killed", "tsr-ray-held", "mine")}
    for name, folder in folders.items():
        folder.mkdir()
        (home / f"{name}.lock").write_text(str(folder))
        (home / name).mkdir()
    (home / "none.lock").touch()
    (home / "odd.lock").write_bytes(b"\xff")
    with (home / "tsr-ray-held.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with backend._folder() as shards:
            own = Path(backend._temporary(shards.with_suffix(".lock")))
            assert own.is_dir() and shards.is_dir()
        assert not own.exists()
        assert sorted(path.name for path in home.iterdir()) == ["tsr-ray-held", "tsr-ray-held.lock"]
    assert sorted(name for name, folder in folders.items() if folder.is_dir()) == ["mine", "tsr-ray-held"]


@WITH_RAY
@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_driver_that_is_killed_leaves_no_process_and_keeps_its_rows(
    tiny: Path, place: Path, by: signal.Signals
) -> None:
    """Its shards and the folder of its cluster stay until the next run."""
    code = f"""
import sys
import test_ray
from pathlib import Path
requests = test_ray.asked(400)
for i, _ in enumerate(test_ray.Work("generate/M0/r0", 0.0, Path("store")).complete(
    test_ray.embedded_by_ray(Path({str(tiny)!r}), batch_rows=8), requests)):
    if i == 7:
        print("going", flush=True)
        sys.stdin.read()
"""
    driver = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert driver.stdout and driver.stdout.readline() == "going\n"
    started = psutil.Process(driver.pid).children(recursive=True)
    assert len(started) > 3
    driver.send_signal(by)
    driver.wait()
    assert ended(started)
    (lock,) = (place / ".tsr/ray").glob("*.lock")
    assert lock.with_suffix("").is_dir()
    assert (cluster := Path(lock.read_text())).is_dir()
    kept = sum(shard.read_bytes().count(b"\n") for shard in (place / "store").rglob(f"*{SHARD}"))
    assert kept >= 8
    again = Asked(embedded(tiny))
    assert len(list(Work("generate/M0/r0", 0.0, place / "store").complete(again, asked(400)))) == 400  # type: ignore[arg-type]
    assert len(again.ids) == 400 - kept
    assert next(iter(embedded_by_ray(tiny).complete(asked(4)))).status == "ok"
    assert list((place / ".tsr" / "ray").iterdir()) == []
    assert not cluster.exists()


# --- what is refused ---


def nobody_at() -> str:
    """An address of this machine where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@WITH_RAY
@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("nobody", "no cluster answers at 127.0.0.1:[0-9]+: Connection refused"),
        ("no-such-host.invalid:6379", "no cluster answers at no-such-host.invalid:6379: "),
        ("auto", "the cluster at auto cannot be used: Could not find any running Ray instance"),
    ],
)
def test_a_cluster_that_is_not_there(address: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    begun = time.monotonic()
    address = nobody_at() if address == "nobody" else address  # found late: each worker of the tests would find another
    with pytest.raises(TsrError, match=told):
        list(faulty_by_ray(address=address).complete(asked()))
    assert time.monotonic() - begun < 30  # Ray would try for two minutes
    assert list(Path(".tsr/ray").iterdir()) == []


@WITH_RAY
@pytest.mark.parametrize(("address", "tries"), [("", 3), ("auto", 1)])
def test_a_cluster_of_our_own_is_started_again(address: str, tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine Ray gives up after 30 seconds."""
    import ray

    begun: list[dict[str, Any]] = []
    halves: list[subprocess.Popen[bytes]] = []

    def late(**how: Any) -> None:
        begun.append(how)
        halves.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", late)
    with pytest.raises(TsrError, match=r"cannot be used: The current node timed out during startup\.$"):
        list(faulty_by_ray(address=address).complete(asked()))
    assert len(begun) == tries
    assert [half.wait() for half in halves] == [-signal.SIGKILL] * tries


@WITH_RAY
@pytest.mark.slow
def test_a_worker_that_no_machine_has_room_for() -> None:
    with pytest.raises(TsrError, match="a worker takes 1 CPUs and 7 GPUs, and no machine of the cluster has so many"):
        list(faulty_by_ray(gpus_per_worker=7).complete(asked()))


@WITH_RAY
@pytest.mark.slow
@pytest.mark.parametrize(("text", "kind", "told"), [
    ("word13", TsrError, "^backend 'ray': worker on .*: this cannot be$"),
    ("broken", RuntimeError, "ZeroDivisionError"),
])  # fmt: skip
def test_what_goes_wrong_on_a_worker_is_told_here(text: str, kind: type[Exception], told: str) -> None:
    requests = [*asked(), Request("z", [{"role": "user", "content": "broken"}], 1, WARM)]
    inner = faulty_engine.Settings(wrong="word13" if text == "word13" else "")
    with pytest.raises(kind, match=told):
        list(faulty_by_ray(inner).complete(requests if text == "broken" else asked()))
    assert ended([one for one in psutil.Process().children(recursive=True) if "ray" in one.name()])


def job(model: Path, **changes: Any) -> backend.Job:
    made = embedded_by_ray(model).job(Path("shards"))
    return backend.Job(**vars(made) | changes)


@WITH_RAY
def test_a_worker_opens_the_engine_of_the_driver(tiny: Path) -> None:
    assert backend.opened(job(tiny)).version == embedded(tiny).version


@WITH_RAY
def test_a_worker_refuses_what_could_make_other_rows(tiny: Path, make_model: Callable[..., Path], place: Path) -> None:
    about = job(tiny)
    with pytest.raises(TsrError, match="no such model folder; it must lie at the same path on every machine"):
        backend.opened(job(tiny, folder=str(place / "gone")))
    with pytest.raises(TsrError, match=r"is another model there, .*; expected .*, as on the driver"):
        backend.opened(job(tiny, folder=str(make_model(seed=5))))
    name, model, template, _ = about.identity
    other = (name, model, template, "of other libraries")
    with pytest.raises(
        TsrError, match=r"its rows may differ from the driver's: torch is .* there and 1.0 on the driver"
    ):
        backend.opened(job(tiny, identity=other, packages=about.packages | {"torch": "1.0"}))
    with pytest.raises(TsrError, match=r"its rows may differ from the driver's: device .* is another one there"):
        backend.opened(job(tiny, identity=other))
    with pytest.raises(TsrError, match=r"gone\.parquet: .*; the folder of the store must be there on every machine"):
        list(backend.read_shard(place / "gone.parquet"))


@pytest.mark.parametrize("address", ["ray://head:10001", "head", ":6379", "head:", "head:port"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ValueError, match="expected empty, auto or host:port"):
        settings(address=address)


@WITH_RAY
def test_an_engine_needs_its_block_and_its_gpus(tiny: Path) -> None:
    with pytest.raises(TsrError, match="backend 'ray': backends has no block 'vllm', which is its engine"):
        backend.open_backend(tiny, settings(engine="vllm").beside({}))
    block = params.load(ROOT / "params.yaml").profiles["paper"].backends["vllm"]
    halved = block.model_copy(update={"tensor_parallel_size": 4})
    with pytest.raises(TsrError, match=r"ray\.gpus_per_worker is 2; vllm\.tensor_parallel_size asks for 4"):
        backend.open_backend(tiny, settings(engine="vllm", gpus_per_worker=2).beside({"vllm": halved}))


# --- strangers ---

STRANGER = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
print("ran", ray.get(ray.remote(num_cpus=0)(lambda: 1).remote()))
"""


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user has set nothing about tokens."""
    for name in TOKENS:
        monkeypatch.delenv(name, raising=False)


@WITH_RAY
@pytest.mark.slow
@pytest.mark.usefixtures("unset")
def test_a_cluster_of_our_own_takes_no_work_from_strangers(place: Path) -> None:
    """Neither from one without a token nor from one with another; Ray was imported before."""
    import ray
    from ray._raylet import AuthenticationMode, get_authentication_mode

    (place / ".ray").mkdir()
    (place / ".ray/auth_token").write_text("ab" * 32)  # as Ray makes one for a user, for good
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"HOME": str(place)}
    strangers: dict[str, subprocess.Popen[str]] = {}
    told: dict[str, tuple[str, str]] = {}
    for _ in faulty_by_ray(workers=1).complete(asked(8)):
        if told:
            continue
        (raylet,) = (child for child in psutil.Process().children(recursive=True) if child.name() == "raylet")
        ours = {name: value for name, value in raylet.environ().items() if name in TOKENS}
        assert len(ours["RAY_AUTH_TOKEN"]) == 64
        assert not set(TOKENS) & set(os.environ), "nothing else that is started here gets it"
        command = [sys.executable, "-c", STRANGER, ray.get_runtime_context().gcs_address]
        ways = {"no token": {}, "another token": {"RAY_AUTH_MODE": "token"}, "the token": ours}
        for way, more in ways.items():
            strangers[way] = subprocess.Popen(command, cwd="/", env=clean | more, text=True, stdout=-1, stderr=-1)
        told = {way: stranger.communicate(timeout=300) for way, stranger in strangers.items()}
    assert told["the token"][0] == "ran 1\n", told["the token"]
    for way in ("no token", "another token"):
        out, wrong = told[way]
        assert (out, strangers[way].returncode) == ("", 1), (out, wrong)
        assert "Authentication" in wrong or "Failed to connect" in wrong, wrong
    assert get_authentication_mode() != AuthenticationMode.TOKEN, "a cluster elsewhere may come next"


@WITH_RAY
@pytest.mark.usefixtures("unset")
@pytest.mark.parametrize(
    ("given", "own", "expected"),
    [
        ({}, True, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "fresh"}),
        ({"RAY_AUTH_MODE": "token"}, True, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "fresh"}),
        ({"RAY_AUTH_MODE": "disabled"}, True, {"RAY_AUTH_MODE": "disabled"}),
        ({"RAY_AUTH_TOKEN": "mine"}, True, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "mine"}),
        ({"RAY_AUTH_TOKEN_PATH": "f"}, True, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "f"}),
        ({}, False, {}),
        ({"RAY_AUTH_MODE": "k8s"}, True, {"RAY_AUTH_MODE": "k8s"}),
        ({"RAY_AUTH_TOKEN": "mine"}, False, {"RAY_AUTH_TOKEN": "mine"}),
    ],
)  # fmt: skip
def test_tokens_that_the_user_has_set_stay(
    given: dict[str, str], own: bool, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    def now() -> dict[str, str]:
        return {name: os.environ[name] for name in TOKENS if name in os.environ}

    made = set()
    for _ in range(2):
        with backend._token(own=own):
            found = now()
            os.environ["RAY_AUTH_MODE"] = "token"  # as Ray does
        assert now() == given
        fresh = expected.get("RAY_AUTH_TOKEN") == "fresh"
        made.add(found["RAY_AUTH_TOKEN"] if fresh else "")
        assert found | ({"RAY_AUTH_TOKEN": "fresh"} if fresh else {}) == expected
    assert len(made) == (2 if fresh else 1)


# --- a cluster that others have started ---


@WITH_RAY
@pytest.mark.slow
@pytest.mark.usefixtures("unset")
@pytest.mark.parametrize("guarded", [False, True])
def test_a_cluster_at_an_address_runs_the_code_of_this_checkout(
    tiny: Path, place: Path, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """The cluster is started where no `stages` can be found; it outlives the run. It may ask for the user's token."""
    address = nobody_at()
    keys = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "cd" * 32} if guarded else {"RAY_AUTH_MODE": "disabled"}
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "RAY_USAGE_STATS_ENABLED": "0"
    }
    bare |= keys
    home = backend._temporary(place / "cluster.lock")
    start = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--port", address.rpartition(":")[2]]
    start += [
        "--num-cpus=2",
        "--include-dashboard=false",
        f"--temp-dir={home}",
        "--object-store-memory=100000000",
        "--block",
    ]
    head = subprocess.Popen(start, cwd=place, env=bare, stdout=subprocess.PIPE, text=True)
    try:
        assert head.stdout and any("Ray runtime started" in line for line in head.stdout)
        if guarded:
            with pytest.raises(TsrError, match=f"the cluster at {address} cannot be used: "):
                list(embedded_by_ray(tiny, address=address).complete(asked()))
            for name, value in keys.items():
                monkeypatch.setenv(name, value)
        done = list(embedded_by_ray(tiny, address=address, workers=4).complete(asked()))
        assert head.poll() is None
        assert sorted(done, key=lambda one: one.request_id) == sorted(
            embedded(tiny).complete(asked()), key=lambda one: one.request_id
        )
    finally:
        processes = psutil.Process(head.pid).children(recursive=True)
        head.terminate()
        head.wait()
        for process in psutil.wait_procs(processes, timeout=20)[1]:
            process.kill()
        backend._remove(place / "cluster.lock")


# --- what it brings ---


def test_on_paper_the_driver_is_the_bottleneck_in_the_end() -> None:
    workers = {"rows_a_second": {"1 worker": 100.0}, "seconds_to_the_first_batch": 10.0, "batch_rows": 100}
    rows = bench_ray.on_paper({"workers": workers, "driver": {"rows_a_second": 3200}})
    assert [row["workers"] for row in rows] == [1, 2, 8, 64]
    assert [row["seconds"] for row in rows] == [10_011, 5_011, 1_261, 324]  # 64 workers would make 6,400 a second
    assert [round(row["share"], 2) for row in rows] == [1.0, 1.0, 0.99, 0.48]


@WITH_RAY
@pytest.mark.slow
def test_the_benchmark_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_ray, "REPEATS", 1)
    monkeypatch.setattr(bench_ray, "SHAPES", {"20M": {"hidden_size": 32, "layers": 2, "heads": 2, "context": 128}})
    monkeypatch.setattr(bench_ray, "BATCHES", (8, 32))
    measured = bench_ray.measure(rows=64, batch_rows=8, driver_rows=1000, batched_rows=32)
    assert measured["workers"]["rows_a_second"]["2 workers"] > 0
    assert measured["driver"]["rows_a_second"] > 0
    assert f"| 64 | {bench_ray.on_paper(measured)[-1]['seconds']:,} |" in bench_ray.table(measured)
