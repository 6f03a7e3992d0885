"""`tsr run`: which stage starts next, as pure functions; and whole runs against `dvc repro`, on made-up stages."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stages import params
from stages.errors import TsrError
from stages.running import lock_text, needs
from stages.running import run as tool
from stages.running.schedule import Schedule, Slots, Task

ROOT = Path(__file__).resolve().parents[1]


# --- which stage starts next -----------------------------------------------------------------------------------------


def chain(**before: str) -> list[Task]:
    """Tasks of one second by name, with what they rest on."""
    return [Task(name, tuple(names.split())) for name, names in before.items()]


def names(schedule: Schedule) -> list[str]:
    """What starts now."""
    return [task.name for task, _ in schedule.take()]


def test_what_is_ready_runs_side_by_side() -> None:
    schedule = Schedule(chain(a="", b="a", c="a", d="b c"), Slots(2))
    assert names(schedule) == ["a"]
    assert names(schedule) == []
    schedule.end("a", ok=True)
    assert names(schedule) == ["b", "c"]
    schedule.end("c", ok=True)
    assert names(schedule) == []
    schedule.end("b", ok=True)
    assert names(schedule) == ["d"]
    assert not schedule.over
    schedule.end("d", ok=True)
    assert schedule.over


def test_the_longest_way_goes_first() -> None:
    tasks = [Task("short"), Task("long", seconds=3), Task("start"), Task("rest", ("start",), seconds=9)]
    assert names(Schedule(tasks, Slots(1))) == ["start"]
    assert names(Schedule(tasks, Slots(2))) == ["start", "long"]
    assert names(Schedule([Task("b"), Task("a")], Slots(1))) == ["b"], "equal ones in the given order"


def test_a_failure_stops_what_rests_on_it_and_nothing_else() -> None:
    schedule = Schedule(chain(a="", b="", c="a", d="c", e="b", f="d e"), Slots(2))
    assert names(schedule) == ["a", "b"]
    assert schedule.end("a", ok=False) == ["c", "d", "f"]
    schedule.end("b", ok=True)
    assert names(schedule) == ["e"]
    schedule.end("e", ok=True)
    assert schedule.over
    assert schedule.named("done") == ["b", "e"]
    told = "run: failed: a (.tsr/run/a.log); not run because of it: c, d, f"
    assert f"run: {tool.blamed(schedule)}" == told


def test_a_large_stage_is_not_passed_by_small_ones_for_ever() -> None:
    tasks = [Task("one", gpus=1, seconds=9), Task("all", gpus=2, seconds=5), Task("two", gpus=1), Task("sql")]
    schedule = Schedule(tasks, Slots(9, 2))
    assert [(task.name, gpus) for task, gpus in schedule.take()] == [("one", (0,)), ("sql", ())]
    schedule.end("one", ok=True)
    assert [(task.name, gpus) for task, gpus in schedule.take()] == [("all", (0, 1))]
    schedule.end("all", ok=True)
    assert [(task.name, gpus) for task, gpus in schedule.take()] == [("two", (0,))]


def test_a_stage_of_many_processes_takes_as_many_cpu_slots() -> None:
    tasks = [Task("two", seconds=9, cpus=2), Task("nine", seconds=8, cpus=9), Task("one", seconds=7)]
    schedule = Schedule(tasks, Slots(3))
    assert names(schedule) == ["two"], "what needs all slots is not passed by a small one for ever"
    schedule.end("two", ok=True)
    assert names(schedule) == ["nine"], "more than there are is all that there are"
    schedule.end("nine", ok=True)
    assert names(schedule) == ["one"]
    schedule = Schedule([Task("two", cpus=2), Task("one")], Slots(3))
    assert names(schedule) == ["two", "one"]


def test_what_would_never_end_is_refused() -> None:
    with pytest.raises(TsrError, match="stage a: rests on b, which does not come before it"):
        Schedule(chain(a="b", b="a"), Slots(1))
    with pytest.raises(TsrError, match="stage a: rests on a"):
        Schedule(chain(a="a"), Slots(1))
    with pytest.raises(TsrError, match=r"stage a: takes 2 GPUs; slots\.gpu is 1"):
        Schedule([Task("a", gpus=2)], Slots(1, 1))


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Task], Slots]:
    """Made-up graphs, whose stages rest on earlier ones."""
    slots = Slots(draw(st.integers(1, 4)), draw(st.integers(0, 3)))
    tasks = []
    for number in range(draw(st.integers(1, 12))):
        before = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        gpus, seconds, cpus = draw(st.integers(0, slots.gpu)), draw(st.integers(1, 5)), draw(st.integers(1, 6))
        tasks.append(Task(f"s{number}", tuple(f"s{one}" for one in sorted(before)), gpus, float(seconds), cpus))
    return tasks, slots


@given(graphs(), st.randoms(use_true_random=False), st.sets(st.integers(0, 11), max_size=2))
def test_every_graph_ends_in_order_within_its_slots(
    graph: tuple[list[Task], Slots], draw: Any, failing: set[int]
) -> None:
    """Whatever order stages end in: all run once, but those that rest on a failed one, and nothing is idle."""
    tasks, slots = graph
    by_name = {task.name: task for task in tasks}
    schedule = Schedule(tasks, slots)
    at_work: dict[str, tuple[int, ...]] = {}
    ran: list[str] = []
    while not schedule.over:
        for task, gpus in schedule.take():
            assert all(schedule.state[name] == "done" for name in task.before)
            assert task.name not in ran
            at_work[task.name] = gpus
            ran.append(task.name)
            assert len(gpus) == task.gpus
        taken = [number for gpus in at_work.values() for number in gpus]
        assert sum(min(by_name[name].cpus, slots.cpu) for name in at_work) <= slots.cpu
        assert len(taken) == len(set(taken)) <= slots.gpu
        assert at_work, "something runs as long as the run is not over"
        name = draw.choice(sorted(at_work))
        del at_work[name]
        schedule.end(name, ok=int(name[1:]) not in failing)
    failed = {name for name in ran if int(name[1:]) in failing}
    lost: set[str] = set()
    for task in tasks:
        if set(task.before) & (failed | lost):
            lost.add(task.name)
    assert set(ran) == set(by_name) - lost
    assert set(schedule.named("skipped")) == lost == set(schedule.blame)
    assert set(schedule.blame.values()) <= failed


@given(graphs())
def test_what_starts_is_decided_by_the_graph_alone(graph: tuple[list[Task], Slots]) -> None:
    def order() -> list[str]:
        schedule, found = Schedule(*graph), []
        while not schedule.over:
            found += names(schedule)
            schedule.end(schedule.named("running")[0], ok=True)
        return found

    assert order() == order()


# --- what a stage takes ----------------------------------------------------------------------------------------------


def with_settings(profile: str, **blocks: dict[str, Any]) -> params.Params:
    """params.yaml under a profile, with some keys of some blocks changed."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"profile": profile}
    for path, keys in blocks.items():
        block = raw[profile]
        for part in path.split("__"):
            block = block[part]
        block |= keys
    return params.parse(raw, Path("params.yaml"))


def test_on_a_cpu_no_stage_takes_a_gpu() -> None:
    assert set(needs.gpus(with_settings("micro")).values()) == {0}
    loose = with_settings("micro", training={"device": "auto"}, generate={"backend": "vllm"})
    assert set(needs.gpus(loose).values()) == {0}, "slots.gpu says that there is none"


def test_stages_take_the_gpus_that_their_settings_ask_for() -> None:
    assert set(needs.gpus(with_settings("small")).values()) == {1}
    found = needs.gpus(with_settings("paper", backends__vllm={"tensor_parallel_size": 4}))
    assert {stage: found[stage] for stage in ("sft", "dpo", "tune", "measure")} == {
        "sft": 8,
        "dpo": 8,
        "tune": 8,
        "measure": 1,
    }
    assert {found[stage] for stage in ("generate", "judge", "evaluate")} == {4}


def test_ray_takes_the_slots_of_its_workers_where_its_cluster_is_our_own() -> None:
    by_ray = {"generate": {"backend": "ray"}}
    for there, workers, each, gpus in ((8, 2, 1, 2), (8, 3, 2, 6), (8, 3, 0.5, 2), (7, 10, 0.7, 7), (0, 4, 0, 0)):
        ray = {"address": "", "workers": workers, "cpus_per_worker": 3, "gpus_per_worker": each}
        asked = with_settings("micro", slots={"gpu": there}, backends__ray=ray, **by_ray)
        found = needs.gpus(asked)
        assert {found[stage] for stage in ("generate", "evaluate")} == {gpus}
        assert {found[stage] for stage in ("judge", "sft")} == {0}
        slots = needs.cpus(asked)
        assert {slots[stage] for stage in ("generate", "evaluate")} == {3 * workers}
        assert {slots[stage] for stage in ("judge", "sft")} == {1}
        for address in ("auto", "head:6379"):
            elsewhere = with_settings("micro", slots={"gpu": there}, backends__ray=ray | {"address": address}, **by_ray)
            assert set(needs.gpus(elsewhere).values()) == {0}
            assert set(needs.cpus(elsewhere).values()) == {1}
    missing = with_settings("micro", backends__ray={"gpus_per_worker": 1}, **by_ray)
    with pytest.raises(
        TsrError, match=r"micro\.backends\.ray\.gpus_per_worker asks for 2 GPUs; micro\.slots\.gpu is 0"
    ):
        needs.gpus(missing)


def test_processes_that_train_together_on_a_cpu_take_a_slot_each() -> None:
    def found(device: str, gpus: int) -> set[int]:
        training = {"device": device, "launch": str(ROOT / "stages/accelerate/two_processes.yaml")}
        slots = needs.cpus(with_settings("micro", training=training, slots={"gpu": gpus}))
        assert {slots[stage] for stage in ("generate", "judge", "evaluate")} == {1}
        return {slots[stage] for stage in ("sft", "dpo", "tune")}

    assert found("cpu", 0) == found("cpu", 2) == found("auto", 0) == {2}
    assert found("auto", 2) == found("cuda", 2) == {1}
    assert set(needs.cpus(with_settings("micro")).values()) == {1}


@pytest.mark.parametrize("said", ["num_processes: two", "num_processes:", "- 2", "", "mixed_precision: no"])
def test_a_launch_file_that_names_no_number_takes_one_slot(said: str, tmp_path: Path) -> None:
    """The stage that trains says what is wrong with it."""
    (tmp_path / "odd.yaml").write_text(said)
    training = {"device": "cpu", "launch": str(tmp_path / "odd.yaml")}
    assert set(needs.cpus(with_settings("micro", training=training)).values()) == {1}


def test_gpus_that_are_not_there_are_one_line() -> None:
    with pytest.raises(TsrError, match=r"micro\.training\.device asks for 1 GPUs; micro\.slots\.gpu is 0"):
        needs.gpus(with_settings("micro", training={"device": "cuda"}))
    with pytest.raises(TsrError, match=r"CUDA_VISIBLE_DEVICES=3 names 1 GPUs"):
        tool.visible(2, "3")
    assert tool.visible(2, None) == ["0", "1"]
    assert tool.visible(2, "5,7") == ["5", "7"]
    assert tool.visible(0, "") == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": "x"}'])
def test_seconds_that_cannot_be_read_are_guessed(tmp_path: Path, text: str) -> None:
    (tmp_path / "seconds.json").write_text(text)
    known = needs.Seconds(tmp_path / "seconds.json")
    assert known.of("sft") > known.of("dpo@sr-1") > known.of("pair@sr-1") > 0
    known.keep("pair@sr-1", 100.0)
    known.write()
    assert needs.Seconds(tmp_path / "seconds.json").of("pair@sr-1") == 100.0


# --- dvc.lock as text ------------------------------------------------------------------------------------------------


def test_an_entry_is_written_as_dvc_writes_it() -> None:
    """Each entry of this project's own dvc.lock, taken out and put back."""
    from dvc.utils.serialize import dumps_yaml, parse_yaml

    text = (ROOT / "dvc.lock").read_text()
    known = parse_yaml(text, "dvc.lock")["stages"]
    found = lock_text.entries(text)
    assert found is not None
    assert list(found) == list(known)
    for name in list(known)[:10]:
        entry = dumps_yaml({"schema": "2.0", "stages": {name: known[name]}})
        assert lock_text.put(text, entry, lambda _: -1) == text
        without = lock_text.HEAD + "".join(block for other, block in found.items() if other != name)
        assert lock_text.put(without, entry, list(known).index) == text


@pytest.mark.parametrize("text", ["schema: '2.0'\ndatasets: []\n", lock_text.HEAD + "  'a b':\n    cmd: x\n"])
def test_another_dvc_lock_is_left_to_dvc(text: str) -> None:
    assert lock_text.put(text, lock_text.HEAD + "  a:\n    cmd: x\n", lambda _: 0) is None


# --- whole runs, on made-up stages -----------------------------------------------------------------------------------

DRIVER = """
import signal
import sys
from pathlib import Path
from stages import params
from stages.errors import TsrError
from stages.running import run
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may themselves run under nohup
try:
    known = params.load(Path(sys.argv[1]))
    flags = {flag.strip("-").partition("-")[0]: True for flag in sys.argv[3:] if flag.startswith("--")}
    sys.exit(run.run(known, [name for name in sys.argv[3:] if not name.startswith("--")], int(sys.argv[2]), **flags))
except TsrError as error:
    print(f"tsr: {error}", file=sys.stderr)
    sys.exit(2)
"""
WAITS = "i=0; until [ -e {flag} ]; do sleep 0.05; i=$((i+1)); [ $i -lt 600 ] || exit 1; done"


def stage(out: str, *deps: str, first: str = "true") -> dict[str, Any]:
    """A stage that writes what it reads."""
    return {"cmd": f"{first} && cat {' '.join(deps)} > {out}", "deps": list(deps), "outs": [out]}


DIAMOND = {
    "top": stage("z", "y", "x"),
    "left": stage("y", "w"),
    "right": stage("x", "w", "other"),
    "root": stage("w", "source"),
    "alone": stage("v", "other"),
}


class Made:
    """A folder with made-up stages under git and DVC."""

    def __init__(self, folder: Path, stages: dict[str, Any]) -> None:
        self.folder = folder
        folder.mkdir()
        self.stages(stages)
        for name in ("source", "other"):
            (folder / name).write_text(f"{name}\n")
        (folder / ".dvc").mkdir()
        (folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
        self.run("git", "init", "-q")

    def stages(self, stages: dict[str, Any]) -> None:
        (self.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))

    def run(self, *command: str, ok: bool = True) -> str:
        done = subprocess.run(command, cwd=self.folder, env=ENV, capture_output=True, text=True, check=False)
        assert not ok or done.returncode == 0, done.stdout + done.stderr
        self.code = done.returncode
        return done.stderr + done.stdout if ok else done.stdout + done.stderr  # what counts stands last

    def tsr(self, *names: str, jobs: int = 2, ok: bool = True) -> str:
        return self.run(*driver(jobs, *names), ok=ok)

    def lock(self) -> str:
        return (self.folder / "dvc.lock").read_text()


ENV = os.environ | {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}


def driver(jobs: int, *names: str) -> list[str]:
    return [sys.executable, "-c", DRIVER, str(ROOT / "params.yaml"), str(jobs), *names]


def twins(tmp_path: Path, stages: dict[str, Any]) -> tuple[Made, Made]:
    return Made(tmp_path / "one", stages), Made(tmp_path / "other", stages)


CHANGES = [None, ("source", "changed\n"), ("other", "too\n"), ("source", "source\n"), {"new": stage("n", "w")}]


@pytest.mark.parametrize("steps", [CHANGES[:1], pytest.param(CHANGES, marks=pytest.mark.slow)], ids=["quick", "slow"])
def test_the_same_dvc_lock_as_dvc_repro(tmp_path: Path, steps: list[Any]) -> None:
    """From nothing, after a change, with a new stage among the old, and with a result of the run cache."""
    ours, dvc = twins(tmp_path, DIAMOND)
    told = []
    for step in steps:
        for made in (ours, dvc):
            if isinstance(step, tuple):
                (made.folder / step[0]).write_text(step[1])
            elif step:
                made.stages(step | DIAMOND)
        told.append(ours.tsr().splitlines()[-1].rpartition(", in ")[0])
        dvc.run("dvc", "repro", "-q")
        assert ours.lock() == dvc.lock()
    assert "up to date" in ours.run("dvc", "status")
    expected = [
        "run: 5 stages, 5 ran, 0 taken from the run cache, 0 unchanged",
        "run: 5 stages, 4 ran, 0 taken from the run cache, 1 unchanged",
        "run: 5 stages, 3 ran, 0 taken from the run cache, 2 unchanged",
        "run: 5 stages, 2 ran, 2 taken from the run cache, 1 unchanged",
        "run: 6 stages, 1 ran, 0 taken from the run cache, 5 unchanged",
    ]
    assert told == expected[: len(told)]
    assert (ours.folder / "z").read_text() == (dvc.folder / "z").read_text()
    assert "cat y x" in (ours.folder / ".tsr/run/top.log").read_text()


def test_stages_run_side_by_side_and_no_more_than_slots(tmp_path: Path) -> None:
    """Each of two waits for the other; with one slot neither could end."""
    meet = {
        "a": stage("x", "source", first=f"touch a.flag; {WAITS.format(flag='b.flag')}"),
        "b": stage("y", "source", first=f"touch b.flag; {WAITS.format(flag='a.flag')}"),
        "c": stage("z", "source", first="touch c.flag; [ -e x ]; [ -e y ]"),
    }
    made = Made(tmp_path / "made", meet)
    assert "3 ran" in made.tsr(jobs=2)


def test_a_failing_stage_stops_what_rests_on_it_alone(tmp_path: Path) -> None:
    broken = DIAMOND | {"left": stage("y", "w", first="echo the cause; exit 3")}
    ours, dvc = twins(tmp_path, broken)
    told = ours.tsr(ok=False)
    assert ours.code == 2
    assert "    the cause" in told.splitlines()
    assert "ERROR: left: failed to run: echo the cause; exit 3 && cat w > y, exited with 3" in told
    assert told.splitlines()[-1] == "tsr: run: failed: left (.tsr/run/left.log); not run because of it: top"
    assert (ours.folder / "x").exists()
    assert (ours.folder / "v").exists()
    dvc.run("dvc", "repro", "-q", "--keep-going", ok=False)
    assert dvc.code != 0
    assert ours.lock() == dvc.lock()
    for made in (ours, dvc):
        made.stages(DIAMOND)
    assert "2 ran, 0 taken from the run cache, 3 unchanged" in ours.tsr()
    dvc.run("dvc", "repro", "-q")
    assert ours.lock() == dvc.lock()


def test_seconds_that_cannot_be_written_are_no_reason_to_fail(tmp_path: Path) -> None:
    """As on a full disk: the last line is what became of the stages."""
    made = Made(tmp_path / "made", {"good": stage("x", "source"), "bad": stage("y", "source", first="false")})
    (made.folder / ".tsr/run/seconds.json/in the way").mkdir(parents=True)
    assert "1 ran" in made.tsr("good")
    told = made.tsr(ok=False)
    assert (made.code, told.splitlines()[-1]) == (
        2,
        "tsr: run: failed: bad (.tsr/run/bad.log); not run because of it: nothing",
    )


def test_targets_and_a_dry_run(tmp_path: Path) -> None:
    made = Made(tmp_path / "made", DIAMOND)
    assert made.tsr("left", "--dry-run").splitlines() == [
        "root",
        "left",
        "run: 2 of 2 stages changed; may follow: nothing",
    ]
    assert not (made.folder / "dvc.lock").exists()
    assert "2 stages, 2 ran" in made.tsr("left")
    assert not (made.folder / "v").exists()
    made.tsr()
    (made.folder / "source").write_text("changed")
    told = made.tsr("--dry-run").splitlines()
    assert told == ["root", "run: 1 of 5 stages changed; may follow: left, right, top"]
    said = made.tsr("nowhere", ok=False)
    assert made.code == 2
    assert said.splitlines()[-1].startswith("tsr: dvc: ")
    assert "nowhere" in said


@pytest.mark.slow
def test_what_was_made_elsewhere_comes_from_the_remote(tmp_path: Path) -> None:
    """Another clone runs one stage and pushes it; none of its dvc.lock comes back, and yet nothing runs twice."""
    here = Made(tmp_path / "here", DIAMOND)
    said = here.tsr("--pull", ok=False)
    assert here.code == 2
    assert said.splitlines()[-1].startswith("tsr: run: --pull: ")
    here.run("dvc", "remote", "add", "-q", "--default", "store", str(tmp_path / "store"))
    assert f"run: --pull: {tmp_path / 'store'}: nothing is there yet" in here.tsr("--pull", "--dry-run")
    there = Made(tmp_path / "there", DIAMOND)
    shutil.copy(here.folder / ".dvc/config", there.folder / ".dvc/config")
    assert "3 stages, 3 ran" in there.tsr("right", "alone")
    there.run("dvc", "push", "-q", "--run-cache", "right", "alone")
    told = here.tsr("--pull")
    assert "5 stages, 3 ran, 2 taken from the run cache" in told
    assert "nothing is there" not in told
    here.run("dvc", "push", "-q", "--run-cache")
    shutil.copy(here.folder / "dvc.lock", there.folder / "dvc.lock")
    for kept in (there.folder / ".dvc/cache", there.folder / "w", there.folder / "x", there.folder / "v"):
        shutil.rmtree(kept) if kept.is_dir() else kept.unlink()
    assert "0 ran, 0 taken from the run cache, 5 unchanged" in there.tsr("--pull")
    assert not (there.folder / "z").exists(), "of what did not change nothing is fetched"
    there.stages(DIAMOND | {"top": stage("z", "y", "x", first="true again")})
    assert "1 ran, 0 taken from the run cache, 4 unchanged" in there.tsr("--pull")
    assert sorted(path.name for path in there.folder.glob("?")) == ["x", "y", "z"]


HANGING = {
    "slow": stage("x", "source", first="sh -c 'echo $$ > pid; exec sleep 600' & touch started; wait; false"),
    "other": stage(
        "y", "source", first="trap '' TERM; echo $$ > stubborn; touch stubborn.started; sleep 600; sleep 600"
    ),
    "quick": stage("z", "other"),
    "last": stage("w", "x"),
}


def wait_for(*paths: Path) -> None:
    """Wait for files; a minute is much more than they take."""
    until = time.monotonic() + 60
    while not all(path.exists() for path in paths):
        assert time.monotonic() < until, [path for path in paths if not path.exists()]
        time.sleep(0.05)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


class Hanging:
    """A run whose stages hang, and the processes that come from it."""

    def __init__(self, folder: Path) -> None:
        self.made = Made(folder, HANGING)
        self.process = subprocess.Popen(
            driver(2, "slow", "other"),
            cwd=folder,
            env=ENV,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        wait_for(folder / "pid", folder / "started", folder / "stubborn.started")
        below = [one.pid for one in psutil.Process(self.process.pid).children(recursive=True)]
        assert self.pid("pid") in below
        assert self.pid("stubborn") in below
        self.below = below

    def pid(self, name: str) -> int:
        return int((self.made.folder / name).read_text())

    def clear(self) -> None:
        """Leave nothing behind, whatever the test found."""
        for pid in (self.process.pid, *self.below):
            with suppress(psutil.Error):  # it is gone
                for one in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
                    one.kill()
        if self.process.stdout and not self.process.stdout.closed:
            self.process.communicate()


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Hanging]:
    made = Hanging(tmp_path / "made")
    yield made
    made.clear()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_process_and_no_lock(hanging: Hanging, number: signal.Signals) -> None:
    """One of the commands does not end by SIGTERM, one has let go of its child."""
    made, process, below = hanging.made, hanging.process, hanging.below
    process.send_signal(number)
    told = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + number
    assert f"run: stopped by {number.name}; 2 stages, 0 ran" in told
    assert all(gone(pid) for pid in below)
    made.stages(HANGING | {"slow": stage("x", "source"), "other": stage("y", "source")})
    assert "4 ran" in made.tsr()
    assert "up to date" in made.run("dvc", "status")


@pytest.mark.slow
def test_a_killed_run_takes_its_commands_along_and_locks_nothing(hanging: Hanging) -> None:
    """Those that end by SIGTERM; what ignores it ends by `kill -9` alone."""
    hanging.process.kill()
    until = time.monotonic() + 60
    while not gone(hanging.pid("pid")):
        assert time.monotonic() < until
        time.sleep(0.05)
    hanging.clear()
    (hanging.made.folder / ".dvc/tmp/rwlock").write_text("")  # as DVC leaves it when it is killed while it writes there
    hanging.made.stages({"slow": stage("x", "source"), "quick": stage("z", "other")})
    told = hanging.made.tsr()
    assert "2 ran" in told
    assert "run: .dvc/tmp/rwlock: was cut off when a DVC was killed; removed" in told


@pytest.mark.slow
def test_others_may_look_meanwhile_and_a_second_run_is_one_line(hanging: Hanging) -> None:
    made = hanging.made
    said = made.tsr(ok=False)
    assert made.code == 2
    assert said.splitlines() == [f"tsr: run: another `tsr run` is at work here (process {hanging.process.pid})"]
    made.run("dvc", "status", "quick")
    refused = made.run("dvc", "repro", "slow", ok=False)
    assert made.code != 0
    assert "is busy, it is being blocked by" in refused
    assert "didn't change" not in made.run("dvc", "repro", "quick")


@pytest.mark.slow
def test_a_run_waits_for_another_dvc(tmp_path: Path) -> None:
    first = f"touch started; {WAITS.format(flag='go')}"
    made = Made(tmp_path / "made", {"slow": stage("x", "source", first=first), "quick": stage("z", "x")})
    dvc = subprocess.Popen(["dvc", "repro", "-q", "slow"], cwd=made.folder, env=ENV)
    wait_for(made.folder / "started")
    ours = subprocess.Popen(driver(2), cwd=made.folder, env=ENV, stdout=subprocess.PIPE, text=True)
    wait_for(made.folder / ".tsr/run/slow.log")
    assert "waiting for another DVC" in (made.folder / ".tsr/run/slow.log").read_text()
    (made.folder / "go").touch()
    assert dvc.wait(timeout=60) == 0
    assert "1 ran, 1 taken from the run cache" in ours.communicate(timeout=60)[0]
    assert ours.returncode == 0


def test_on_a_terminal_there_is_one_picture(tmp_path: Path) -> None:
    import pty

    made = Made(tmp_path / "made", DIAMOND | {"left": stage("y", "w", first="sleep 1; false")})
    main, side = pty.openpty()
    process = subprocess.Popen(driver(2), cwd=made.folder, env=ENV | {"TERM": "xterm"}, stdout=side, stderr=side)
    os.close(side)
    told = b""
    while True:
        try:
            told += os.read(main, 4096)
        except OSError:  # Linux says so when the other side is closed
            break
    os.close(main)
    assert process.wait() == 2
    text = told.decode()
    for word in ("▶", "✔", "root", "alone", "/5 stages", "left: failed after", "tsr: run: failed: left"):
        assert word in text, word
