"""Finished rows are paid for once: what is kept, what is asked for again, and what damage costs."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from conftest import MakeModel
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import GENERATE, JUDGE, embedded, generations, prompts, work

from stages import gc, paths, rowstore
from stages.backends import Completion, Request, SamplingParams, failed
from stages.completing import Work, outcomes
from stages.errors import TsrError
from stages.generate import generate
from stages.judge import judge_all
from stages.rowstore import Rows, context_of, opened, row_key

HOT = SamplingParams(0.8, 1.0, 8)
COLD = SamplingParams(0.0, 1.0, 8)


@dataclass
class Counting:
    """A backend that notes what it is asked for; `broken` prompts fail."""

    name: str = "counting"
    model_hash: str = "weights"
    template_hash: str = "t"
    version: str = "1"
    broken: frozenset[str] = frozenset()
    stop_after: int = 10**9
    asked: list[Request] = field(default_factory=list)

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            if len(self.asked) == self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(request)
            text = request.messages[-1]["content"]
            if text in self.broken:
                yield failed(request, "server_error", "no")
            else:
                told = f"{text} {request.seed if request.sampling.temperature else ''}"
                yield Completion(request.request_id, told, "stop", 1, 2, -1.0, (("4", -0.5),))

    def close(self) -> None:
        pass


def requests(count: int, how: SamplingParams = HOT, text: str = "p{}") -> list[Request]:
    return [Request(f"r{i}", [{"role": "user", "content": text.format(i)}], i, how) for i in range(count)]


def done(work: Work, backend: Counting, asked: list[Request]) -> dict[str, Completion]:
    found = list(work.complete(backend, asked))
    assert len(found) == len(asked)
    return {c.request_id: c for c in found}


def test_a_second_run_asks_for_nothing_and_gives_the_same(tmp_path: Path) -> None:
    first, again = Counting(), Counting()
    whole = done(work(store=tmp_path), first, requests(20))
    assert len(first.asked) == 20
    assert done(work(store=tmp_path), again, requests(20)) == whole
    assert again.asked == []


def test_more_prompts_cost_what_is_new_and_order_is_immaterial(tmp_path: Path) -> None:
    done(work(store=tmp_path), Counting(), requests(20))
    more = requests(21)
    random.Random(1).shuffle(more)
    backend = Counting()
    done(work(store=tmp_path), backend, more)
    assert [r.request_id for r in backend.asked] == ["r20"]


@pytest.mark.parametrize("change", [{"name": "other"}, {"version": "2"}, {"model_hash": "w2"}, {"template_hash": "u"}])
def test_another_engine_code_weights_or_template_reuses_nothing(tmp_path: Path, change: dict[str, str]) -> None:
    done(work(store=tmp_path), Counting(), requests(5))
    backend = Counting(**change)  # type: ignore[arg-type]
    done(work(store=tmp_path), backend, requests(5))
    assert len(backend.asked) == 5


@pytest.mark.parametrize(
    "change",
    [{"messages": [{"role": "user", "content": "else"}]}, {"seed": 99}]
    + [
        {"sampling": replace(HOT, **how)}
        for how in (
            {"temperature": 0.7},
            {"top_p": 0.9},
            {"max_new_tokens": 9},
            {"score_tokens": ("4",)},
            {"score_after": "="},
        )
    ],
)
def test_all_that_decides_a_row_is_in_its_key(change: dict[str, object]) -> None:
    one = requests(1)[0]
    assert row_key(replace(one, **change)) != row_key(one)  # type: ignore[arg-type]
    assert row_key(replace(one, request_id="another")) == row_key(one)


def test_an_earlier_setting_costs_nothing(tmp_path: Path) -> None:
    for how in (HOT, replace(HOT, temperature=0.5)):
        done(work(store=tmp_path), Counting(), requests(5, how))
    back = Counting()
    done(work(store=tmp_path), back, requests(5, HOT))
    assert back.asked == []


def test_equal_requests_are_asked_for_once(tmp_path: Path) -> None:
    """At temperature 0 the seed decides nothing: a judge reads equal responses once."""
    cold, hot = Counting(), Counting()
    same = [replace(r, messages=requests(1)[0].messages) for r in requests(6, COLD)]
    assert {c.text for c in done(work(store=tmp_path), cold, same).values()} == {"p0 "}
    assert len(cold.asked) == 1
    warm = [replace(r, sampling=HOT) for r in same]
    assert len({c.text for c in done(work(store=tmp_path), hot, warm).values()}) == 6
    assert len(hot.asked) == 6


def test_a_stopped_run_keeps_what_was_finished(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(work(store=tmp_path).complete(Counting(stop_after=7), requests(20)))
    rest = Counting()
    done(work(store=tmp_path), rest, requests(20))
    assert [r.request_id for r in rest.asked] == [f"r{i}" for i in range(7, 20)]


def test_failures_are_rows_and_are_tried_again(tmp_path: Path) -> None:
    bad = Counting(broken=frozenset({"p3"}))
    whole = done(work(0.1, tmp_path), bad, requests(20))
    assert [c.request_id for c in whole.values() if c.status != "ok"] == ["r3"]
    assert (whole["r3"].finish_reason, whole["r3"].text, whole["r3"].error) == ("error", "", "no")
    mended = Counting()
    assert done(work(0.0, tmp_path), mended, requests(20))["r3"].status == "ok"
    assert [r.request_id for r in mended.asked] == ["r3"]


def test_too_many_failures_stop_the_stage_and_keep_the_rest(tmp_path: Path) -> None:
    bad = Counting(broken=frozenset({"p3", "p5"}))
    told = r"^generate/M0/r0: 2 of 20 rows failed \(server_error 2\); max_failed_share is 0\.05"
    with pytest.raises(TsrError, match=told):
        list(work(0.05, tmp_path).complete(bad, requests(20)))
    rest = Counting()
    done(work(0.0, tmp_path), rest, requests(20))
    assert len(rest.asked) == 20 - 4  # r0, r1, r2 and r4 were finished


def test_a_failed_response_gets_no_vote_and_no_pair(tmp_path: Path) -> None:
    backend = Counting(broken=frozenset({"next abc"}))
    asked, two = prompts(["next abc", "next xyz"]), GENERATE.model_copy(update={"samples": 2})
    made = generate(7, two, "M0", asked, backend, work(0.5))
    lost = made.filter(status="server_error")
    assert lost["prompt_id"].to_list() == ["next abc"] * 2
    assert lost["logprob_sum"].to_list() == [None, None]
    votes = judge_all(7, JUDGE, "J", asked, made, Counting(), work())
    assert set(votes["generation_id"]) == set(made.filter(status="ok")["generation_id"])


@pytest.mark.parametrize("keep", [0.3, 0.97, -1])
def test_a_torn_shard_costs_the_torn_rows_and_is_named(
    tmp_path: Path, keep: float, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = done(work(store=tmp_path), Counting(), requests(20))
    shard = next(tmp_path.rglob("*.rows"))
    content = shard.read_bytes()
    shard.write_bytes(content[: int(keep * len(content))] if keep > 0 else content[:-1])
    sound = shard.read_bytes().count(b"\n")
    capsys.readouterr()
    rest = Counting()
    assert done(work(store=tmp_path), rest, requests(20)) == whole
    assert len(rest.asked) == 20 - sound
    assert f"{shard}: 1 torn or damaged rows are made again, {sound} are sound" in capsys.readouterr().err
    assert done(work(store=tmp_path), Counting(stop_after=0), requests(20)) == whole
    assert "damaged" not in capsys.readouterr().err


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0, max_value=10**6), st.integers(min_value=1, max_value=255))
def test_a_flipped_byte_anywhere_is_never_read(at: int, flip: int) -> None:
    store = work().store
    whole = done(work(store=store), Counting(), requests(6))
    shard = next(store.rglob("*.rows"))
    content = bytearray(shard.read_bytes())
    content[at % len(content)] ^= flip
    shard.write_bytes(bytes(content))
    assert done(work(store=store), Counting(), requests(6)) == whole


def test_a_row_is_kept_as_it_was(tmp_path: Path) -> None:
    row = Completion("r", "a\n\x00\u2028 \ud800 <s> ü", "length", 3, 9, -1 / 3, (("4", -0.1), ("10", float("-inf"))))
    with opened(tmp_path) as rows:
        rows.add("0" * 32, row)
        assert rows.get("0" * 32, "r") == row
    assert Rows(tmp_path).get("0" * 32, "r") == row


def test_the_store_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up takes the first bytes of a line; the rows before it count."""
    write, taken = rowstore.os.write, iter(range(100))
    monkeypatch.setattr(rowstore.os, "write", lambda fd, line: write(fd, line if next(taken) < 4 else line[:9]))
    with pytest.raises(TsrError, match=r"a finished row cannot be kept: No space left on device; those before it are"):
        list(work(store=tmp_path).complete(Counting(), requests(20)))
    monkeypatch.undo()
    rest = Counting()
    done(work(store=tmp_path), rest, requests(20))
    assert len(rest.asked) == 16


def test_a_backend_that_forgets_or_invents_a_request_is_told(tmp_path: Path) -> None:
    class Forgets(Counting):
        def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
            yield from list(super().complete(requests))[1:]

    class Invents(Counting):
        def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
            yield from (replace(c, request_id="x") for c in super().complete(requests))

    with pytest.raises(TsrError, match="gave no completion for 1 requests, first r0"):
        list(work(store=tmp_path / "a").complete(Forgets(), requests(3)))
    with pytest.raises(TsrError, match="completed x, which was not asked for"):
        list(work(store=tmp_path / "b").complete(Invents(), requests(3)))


def test_a_live_shard_is_read_up_to_its_end_and_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        writer.add("a" * 32, Completion("r", "t", "stop", 1, 1, -1.0))
        shard = next(tmp_path.glob("*.rows"))
        with shard.open("ab") as torn:
            torn.write(b"half a line")
        before = shard.read_bytes()
        assert "a" * 32 in Rows(tmp_path)
        assert shard.read_bytes() == before


def test_gc_frees_what_no_planned_stage_was_made_of(tmp_path: Path) -> None:
    done(Work("generate/M0/r0", 0.0, tmp_path), Counting(version="1"), requests(5))
    done(Work("generate/M0/r0", 0.0, tmp_path), Counting(version="2"), requests(6))
    done(Work("generate/gone/r0", 0.0, tmp_path), Counting(version="3"), requests(7))
    stale = gc.stale(tmp_path, {"generate/M0/r0"})
    assert sorted(context.rows for context in stale) == [5, 7]
    assert all(context.bytes > 0 for context in stale)
    gc.free(tmp_path, {"generate/M0/r0"})
    kept = Counting(version="2")
    done(Work("generate/M0/r0", 0.0, tmp_path), kept, requests(6))
    assert kept.asked == []
    assert gc.stale(tmp_path, {"generate/M0/r0"}) == []


def test_gc_leaves_a_store_alone_that_is_being_written(tmp_path: Path) -> None:
    done(Work("generate/M0/r0", 0.0, tmp_path), Counting(), requests(5))
    with (
        rowstore.in_use(tmp_path),
        pytest.raises(TsrError, match="a run is making rows; run `tsr gc` when it has ended"),
    ):
        gc.free(tmp_path, set())
    gc.free(tmp_path, set())
    assert not list(tmp_path.rglob("*.rows"))


def test_gc_frees_earlier_settings_and_keeps_what_an_interrupted_run_made(tmp_path: Path) -> None:
    label = "generate/M0/r0"
    done(work(store=tmp_path), Counting(), requests(5))
    done(work(store=tmp_path), Counting(), requests(6, replace(HOT, temperature=0.5)))
    assert [context.rows for context in gc.stale(tmp_path, {label})] == [5]
    with pytest.raises(KeyboardInterrupt):
        list(work(store=tmp_path).complete(Counting(stop_after=3), requests(20, COLD)))
    gc.free(tmp_path, {label})
    rest = Counting()
    done(work(store=tmp_path), rest, requests(20, COLD))
    assert len(rest.asked) == 17


def test_gc_spares_what_another_checkout_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        done(work(store=tmp_path / "store"), Counting(version=name), requests(5))
    assert gc.free(tmp_path / "store", {"generate/M0/r0"}) == []
    (tmp_path / "one").rmdir()
    assert len(gc.free(tmp_path / "store", {"generate/M0/r0"})) == 1


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout as the current folder, whose store is beneath it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TSR_STORE", raising=False)
    monkeypatch.delenv("TSR_DATA", raising=False)
    return tmp_path


def test_gc_keeps_what_tools_asked_of_models_that_are_there(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many rows as the label is long, so that they can be told apart."""
    plan = {"answers": {}, "judges": {}, "models": []}
    kept = ["tournament/M0/eval", "arena_hard/sr-1", "arena_hard/J/sr-1", "mt_bench/J/sr-1"]
    gone = ["tournament/K/eval", "arena_hard/sr-2", "mt_bench/J/sr-2", "generate/M0/r9"]
    for label in (*kept, *gone):
        done(Work(label, 0.0, paths.store()), Counting(version=label), requests(len(label)))
    for name in ("M0", "J", "sr-1"):
        paths.model(name).mkdir(parents=True)
    for dry_run in (True, False):
        gc.run(plan, dry_run=dry_run)
        told = capsys.readouterr().out
        freed, left = (sum(len(label) for label in labels) for labels in (gone, kept))
        assert f"free{'' if dry_run else 'd'} {freed} rows, " in told
        assert f"; {left} rows, " in told
        assert len(told.splitlines()) == len(gone) + 1
    gc.run(plan, dry_run=False)
    assert "gc: freed 0 rows" in capsys.readouterr().out


def test_gc_frees_the_checkpoints_of_trainings_that_will_not_go_on(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = {"answers": {}, "judges": {}, "models": []}
    for name in ("M0-1", "sr-1-2", "sr-2-3", "sr-3-4", "mine-5"):
        weights = paths.store() / "training" / name / "checkpoint-8" / "model.safetensors"
        weights.parent.mkdir(parents=True)
        weights.write_bytes(bytes(3 * 2**20))
    for pairs in (paths.pairs("sr-1"), paths.pairs("sr-2"), Path("data/imported/x/pairs/mine.parquet")):
        pairs.parent.mkdir(parents=True, exist_ok=True)
        pairs.touch()
    paths.model("sr-1").mkdir(parents=True)  # trained since; the pairs of sr-3 are gone
    logs = paths.store() / "tensorboard" / "sr-1-2"
    logs.mkdir(parents=True)
    gc.run(plan, dry_run=True)
    told = capsys.readouterr().out
    assert ".tsr/training/sr-1-2: a stopped training, 3.0 MiB\n.tsr/training/sr-3-4: a stopped" in told
    assert "would free 0 rows and 2 stopped trainings, 6.0 MiB; 0 rows and 3 stopped trainings, 9.0 MiB in use" in told
    gc.run(plan, dry_run=False)
    assert sorted(path.name for path in (paths.store() / "training").iterdir()) == ["M0-1", "mine-5", "sr-2-3"]
    assert logs.is_dir()


def test_gc_spares_the_checkpoints_of_another_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        done(work(store=store), Counting(version=name), requests(5))
    (store / "training/sr-1-2").mkdir(parents=True)
    paths.model("sr-1").mkdir(parents=True)
    other = tmp_path / "one" / paths.pairs("sr-1")
    other.parent.mkdir(parents=True)
    other.touch()
    assert gc.abandoned(store) == []
    other.unlink()
    assert [context.folder.name for context in gc.abandoned(store)] == ["sr-1-2"]


@pytest.mark.parametrize("place", ["file/store", "/proc/nope"])
def test_a_store_that_cannot_be_is_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TsrError, match="the store of finished rows cannot be written"):
        list(work(store=tmp_path / place).complete(Counting(), requests(1)))


def test_more_shards_than_files_may_be_open(tmp_path: Path) -> None:
    for count in range(1, 40):
        done(work(store=tmp_path), Counting(), requests(count))
    assert len(list(tmp_path.rglob("*.rows"))) == 39
    with opened(next((tmp_path / "rows").iterdir())) as rows:
        for request in requests(39):
            rows.get(row_key(request), "r")
        assert len(rows._open) <= 32


def test_the_embedded_backend_resumes_bit_for_bit(tiny: Path, tmp_path: Path, make_model: MakeModel) -> None:
    ids = [f"next {word}" for word in ("abc", "kitten", "q", "zzz")]
    whole = generate(7, GENERATE, "M0", prompts(ids), embedded(tiny), work())
    store = tmp_path / "store"
    part = GENERATE.model_copy(update={"samples": 1})
    generate(7, part, "M0", prompts(ids[:2]), embedded(tiny, 16), work(store=store))
    resumed = embedded(tiny, 16)
    assert generate(7, GENERATE, "M0", prompts(ids), resumed, work(store=store)).equals(whole)
    unloaded = embedded(tiny)
    assert generate(7, GENERATE, "M0", prompts(ids), unloaded, work(store=store)).equals(whole)
    assert unloaded._loaded is None  # nothing was loaded for nothing
    other = make_model(seed=2)
    assert context_of(embedded(other), HOT) != context_of(embedded(tiny), HOT)
    assert context_of(embedded(tiny), COLD) != context_of(embedded(tiny), HOT)


def test_completions_become_a_frame_with_every_field() -> None:
    asked = requests(3)
    rows = outcomes([Completion("r0", "a", "stop", 1, 2, 1e-12, (("4", -0.5),)), failed(asked[1], "refused", "no")])
    assert rows["logprob_sum"].to_list() == [0.0, None]
    assert rows["status"].to_list() == ["ok", "refused"]
    assert rows["score_logprobs"].to_list() == [[{"token": "4", "logprob": -0.5}], None]
    assert outcomes([]).height == 0
    assert generations(["g"]).height == 1
