import asyncio
import gc
import itertools
import json
import math
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import fake_server as fake
import pytest
from fake_server import FakeServer, Fault, error
from pydantic import ValidationError

from stages.backends import Completion, Request, SamplingParams
from stages.backends import openai as module
from stages.backends.openai import OpenAiBackend, Settings, open_backend
from stages.errors import TsrError

WARM = SamplingParams(temperature=0.8, top_p=1.0, max_new_tokens=16)
SCORING = replace(WARM, score_tokens=("0", "1", "2", "9"), score_after="Score:")
KEY = "sk-very-secret-key"


@pytest.fixture(autouse=True)
def _quick_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_S", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SOME_KEY", KEY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return endpoint_folder(tmp_path / "gpt", model="M0")


def endpoint_folder(folder: Path, **said: str) -> Path:
    folder.mkdir()
    (folder / "endpoint.json").write_text(json.dumps(said))
    return folder


def settings(url: str, **more: Any) -> Settings:
    usual = {"api_key_env": "SOME_KEY", "concurrency": 4, "timeout_s": 5, "retries": 2, "budget_tokens": 0}
    return Settings(**({"base_url": url, "logprobs": False} | usual | more))


def asked(count: int = 12, how: SamplingParams = WARM) -> list[Request]:
    return [Request(f"r{i}", [{"role": "user", "content": f"say {i}"}], 2**40 + i, how) for i in range(count)]


def completed(folder: Path, server: FakeServer, requests: list[Request], **more: Any) -> dict[str, Completion]:
    done = list(open_backend(folder, settings(server.url, **more)).complete(requests))
    assert len({c.request_id for c in done}) == len(done) == len(requests)
    return {c.request_id: c for c in done}


def one(folder: Path, server: FakeServer, how: SamplingParams = WARM, **more: Any) -> Completion:
    return completed(folder, server, asked(1, how), **more)["r0"]


def test_a_completion_is_what_the_server_says(folder: Path) -> None:
    with FakeServer() as server:
        done = one(folder, server)
        body = server.asked[0]
        choice = server.reply(body)["choices"][0]
    assert done == Completion("r0", choice["message"]["content"], "stop", 2, 7, None)
    assert body == {
        "model": "M0",
        "messages": [{"role": "user", "content": "say 0"}],
        "temperature": 0.8,
        "top_p": 1.0,
        "max_completion_tokens": 16,
        "seed": 0,  # 2**40, cut to 31 bits
    }
    assert server.keys == [f"Bearer {KEY}"]


def test_the_length_and_how_it_ended(folder: Path) -> None:
    with FakeServer() as server:
        done = one(folder, server, replace(WARM, max_new_tokens=4))
    assert (done.finish_reason, done.response_tokens) == ("length", 4)


def test_order_and_concurrency_do_not_matter(folder: Path) -> None:
    requests = asked(24, SCORING)
    with FakeServer(latency_s=0.005) as server:
        whole = completed(folder, server, requests, concurrency=1)
        assert server.highest == 1
        assert completed(folder, server, requests[::-1], concurrency=8) == whole
        assert completed(folder, server, requests[5:9]).items() <= whole.items()
    assert len({c.text for c in whole.values()}) == 24


def test_no_more_than_the_window_is_in_flight(folder: Path) -> None:
    with FakeServer(latency_s=0.03) as server:
        completed(folder, server, asked(20), concurrency=5)
        assert server.highest == 5


def test_completions_come_as_they_finish(folder: Path) -> None:
    with FakeServer(by_text={"say 0": [Fault(slow_s=0.5)]}) as server:
        done = [c.request_id for c in open_backend(folder, settings(server.url)).complete(asked(8))]
    assert done[-1] == "r0"


def test_replies_come_in_while_the_caller_is_busy(folder: Path) -> None:
    """Else a slow caller would make time-outs, and pay for every such request twice."""
    with FakeServer(latency_s=0.05) as server:
        for _ in open_backend(folder, settings(server.url, timeout_s=0.2, concurrency=2)).complete(asked(3)):
            time.sleep(0.25)
        assert len(server.asked) == 3


def endless(read: list[int]) -> Iterator[Request]:
    for i in itertools.count():
        read.append(i)
        yield Request(f"r{i}", [{"role": "user", "content": f"say {i}"}], i, WARM)


def test_an_endless_stream_is_read_as_far_as_the_window(folder: Path) -> None:
    read: list[int] = []
    with FakeServer() as server:
        stream = open_backend(folder, settings(server.url, concurrency=3)).complete(endless(read))
        some = list(itertools.islice(stream, 5))
        stream.close()  # type: ignore[attr-defined]
    assert len(some) == 5
    assert len(read) <= 5 + 3


@pytest.mark.parametrize("how", ["close", "raise", "forget"])
def test_an_early_end_cancels_and_leaves_nothing(
    folder: Path, how: str, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    slow = {f"say {i}": [Fault(slow_s=30)] for i in range(1, 4)}
    began, threads = time.monotonic(), threading.active_count()
    with FakeServer(by_text=slow) as server:
        stream = open_backend(folder, settings(server.url, timeout_s=30)).complete(asked(4))
        assert next(stream).request_id == "r0"
        if how == "close":
            stream.close()  # type: ignore[attr-defined]
        elif how == "raise":
            with pytest.raises(ZeroDivisionError):
                stream.throw(ZeroDivisionError())  # type: ignore[attr-defined]
        del stream
        gc.collect()
        assert not [t for t in threading.enumerate() if t.name == "openai backend"]
    assert time.monotonic() - began < 10
    assert threading.active_count() <= threads + 8  # the fake server's own threads
    assert not [r for r in caplog.records if r.name == "asyncio"]
    assert not [w for w in recwarn if issubclass(w.category, (RuntimeWarning, ResourceWarning))]


def test_an_end_at_any_moment_leaves_no_task_behind(folder: Path) -> None:
    """Also while connections are being made, whose tasks belong to the library below."""

    def broken(count: int) -> Iterator[Request]:
        yield from asked(count)
        raise OSError("disk")

    with FakeServer(latency_s=0.01) as server, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        backend = open_backend(folder, settings(server.url, concurrency=8))
        for count in range(1, 9):
            with pytest.raises(OSError, match="disk"):
                list(backend.complete(broken(count)))
            stream = backend.complete(asked(20))
            list(itertools.islice(stream, count))
            stream.close()  # type: ignore[attr-defined]
        gc.collect()
    assert [str(w.message) for w in seen] == []
    assert not [t for t in threading.enumerate() if t.name == "openai backend"]


def test_it_runs_inside_a_running_loop(folder: Path) -> None:
    async def inside(server: FakeServer) -> dict[str, Completion]:
        return completed(folder, server, asked(3))

    with FakeServer() as server:
        assert len(asyncio.run(inside(server))) == 3


def test_no_requests_no_connection(folder: Path) -> None:
    assert list(open_backend(folder, settings("http://127.0.0.1:1/v1")).complete([])) == []


def test_opening_is_cheap(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    backend = open_backend(folder, settings("http://127.0.0.1:1/v1"))
    backend.close()
    with pytest.raises(TsrError, match=r"pip install 'tsr\[openai\]'"):
        next(backend.complete(asked(1)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Completion]:
    """What three requests are answered when nothing goes wrong."""
    with FakeServer() as server:
        return completed(endpoint_folder(tmp_path_factory.mktemp("whole") / "gpt", model="M0"), server, asked(3))


FAULTS = {
    "429": fake.LIMITED,
    "408": error(408),
    "409": error(409),
    "500": fake.BROKEN,
    "503": error(503),
    "half a body": fake.HALF,
    "garbage": fake.GARBAGE,
    "no JSON": fake.NOT_JSON,
    "no choices": fake.NO_CHOICES,
    "empty choices": fake.EMPTY_CHOICES,
    "no model": Fault(change={"model": None}),
    "no end": Fault(change={"choices": [{"message": {"content": "x"}}]}),
    "aborted": Fault(change={"choices": [{"message": {"content": "x"}, "finish_reason": "abort"}]}),
    "dropped": fake.DROPPED,
    "slow": Fault(slow_s=0.4),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_passes_changes_nothing(folder: Path, whole: dict[str, Completion], name: str) -> None:
    more = {"timeout_s": 0.2} if name == "slow" else {}
    with FakeServer(by_text={"say 1": [FAULTS[name]] * 2}) as server:
        assert completed(folder, server, asked(3), **more) == whole
        assert len(server.asked) == 5


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_stays_fails_its_row_alone_and_always_in_the_same_words(
    folder: Path, whole: dict[str, Completion], name: str
) -> None:
    more = {"timeout_s": 0.15, "retries": 1} if name == "slow" else {"retries": 1}
    rows = []
    for _ in range(2):
        with FakeServer(by_text={"say 1": [FAULTS[name]] * 2}) as server:
            done = completed(folder, server, asked(3), **more)
            assert len(server.asked) == 4
        rows.append(done.pop("r1"))
        assert done == {k: c for k, c in whole.items() if k != "r1"}
    assert rows[0] == rows[1]
    assert (rows[0].text, rows[0].finish_reason, rows[0].logprob_sum) == ("", "error", None)
    assert rows[0].status == ("timeout" if name in ("slow", "408") else "server_error")
    assert rows[0].error


def test_no_retries_is_one_try(folder: Path) -> None:
    with FakeServer(always=fake.BROKEN) as server:
        assert one(folder, server, retries=0).error == "the server answered with HTTP status 500"
        assert len(server.asked) == 1


def test_retry_after_is_honoured(folder: Path) -> None:
    with FakeServer(script=[error(429, headers={"Retry-After": "0.4"})]) as server:
        began = time.monotonic()
        assert one(folder, server).status == "ok"
        assert 0.4 <= time.monotonic() - began < 4


def test_waits_grow_are_bounded_and_leave_the_global_generator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import random

    monkeypatch.setattr(module, "BACKOFF_S", 1.0)
    random.seed(1)
    before = random.getstate()
    for attempt in range(2000):
        most = min(30.0, 2.0 ** min(attempt, 30))
        assert most / 2 <= module._delay(attempt, 0) <= most
    assert module._delay(0, 50) == 50
    assert module._delay(0, 1e9) == module.MAX_RETRY_AFTER_S
    assert random.getstate() == before
    assert [module._retry_after(h) for h in (None, "", "soon", "nan", "inf", "3")] == [0, 0, 0, 0, 0, 3]
    assert 97 < module._retry_after(formatdate(time.time() + 99, usegmt=True)) <= 99


def test_another_model_than_the_asked_one_is_an_error(folder: Path) -> None:
    with FakeServer(always=fake.WRONG_MODEL) as server, pytest.raises(TsrError) as said:
        one(folder, server)
    assert "answered as 'M0-2026-01-01'; expected 'M0': name that snapshot as the model" in str(said.value)
    assert len(server.asked) == 1


def test_a_model_that_is_not_listed_is_named_before_anything_is_paid(folder: Path) -> None:
    with FakeServer(models=("b", "a")) as server, pytest.raises(TsrError) as said:
        one(folder, server)
    assert str(said.value) == f"{server.url}: the server has no model 'M0'; it lists: a, b"
    assert server.asked == []


@pytest.mark.parametrize(
    "listing", [fake.GARBAGE, error(404), error(403), error(405), fake.BROKEN, Fault(change={"data": []})]
)
def test_a_server_without_a_list_is_asked(folder: Path, listing: Fault) -> None:
    with FakeServer(listing=listing) as server:
        assert one(folder, server).status == "ok"
    with FakeServer(models=None) as server:
        assert one(folder, server).status == "ok"


def test_the_list_is_asked_for_once_and_again_after_a_fault(folder: Path) -> None:
    with FakeServer() as server:
        completed(folder, server, asked(5))
        assert server.listed == 1
    with FakeServer(listing=fake.DROPPED) as server:
        with pytest.raises(TsrError, match="cannot be reached"):
            one(folder, server)
        assert server.listed == 3


def test_the_folders_name_is_the_model_where_nothing_else_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, weights = endpoint_folder(tmp_path / "other", model="gpt-9"), tmp_path / "M0"
    weights.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"):
        (weights / name).write_text("{}")
    with FakeServer(models=("M0", "gpt-9")) as server:
        assert one(weights, server).status == "ok"
        monkeypatch.chdir(weights)
        assert one(Path(), server).status == "ok"
        assert one(other, server).status == "ok"
    assert [body["model"] for body in server.asked] == ["M0", "M0", "gpt-9"]


def test_an_endpoints_own_server_wins(tmp_path: Path) -> None:
    with FakeServer() as mine, FakeServer() as general:
        there = endpoint_folder(tmp_path / "there", model="M0", base_url=mine.url)
        assert one(there, general).status == "ok"
        assert (len(mine.asked), len(general.asked)) == (1, 0)
    with pytest.raises(TsrError, match=r"endpoint.json: base_url: expected http"):
        open_backend(endpoint_folder(tmp_path / "odd", model="M0", base_url="example.org"), settings(general.url))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), "HTTP status 401; check the key in SOME_KEY"),
        (error(403, KEY), "HTTP status 403; check what the key in SOME_KEY may use"),
        (error(404, KEY), "404; check base_url (it mostly ends in /v1) and that the server has a model 'M0'"),
        (error(402, f"pay for {KEY}"), "HTTP status 402; pay for ***"),
        (error(429, "no money", code="insufficient_quota"), "HTTP status 429; no money"),
        (error(400, f"not {KEY}", param="temperature"), "the server refuses temperature: not ***"),
        (error(400, "unknown", param="add_generation_prompt"), "the server refuses add_generation_prompt: unknown"),
    ],
)
def test_what_fails_every_request_is_one_line_at_once(folder: Path, fault: Fault, words: str) -> None:
    with FakeServer(always=fault) as server, pytest.raises(TsrError) as said:
        one(folder, server)
    assert str(said.value).startswith(f"{server.url}: the server ")
    assert str(said.value).endswith(words)
    assert len(server.asked) == 1
    assert KEY not in "".join(traceback.format_exception(said.value))


def test_a_key_that_the_list_refuses(folder: Path) -> None:
    with FakeServer(listing=error(401)) as server, pytest.raises(TsrError, match="check the key in SOME_KEY"):
        one(folder, server)


def test_rows_that_are_done_come_before_the_error(folder: Path) -> None:
    rows = []
    with FakeServer(by_text={"say 5": [error(401)]}) as server, pytest.raises(TsrError, match="401"):
        for done in open_backend(folder, settings(server.url, concurrency=1)).complete(asked(8)):
            rows.append(done.request_id)
    assert rows == [f"r{i}" for i in range(5)]


@pytest.mark.parametrize("key", [None, "", KEY + "\n", "ключ", "sk-\nInjected: yes"])
def test_keys(folder: Path, key: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    if key is None:
        monkeypatch.delenv("SOME_KEY")
    else:
        monkeypatch.setenv("SOME_KEY", key)
    with FakeServer() as server:
        if key and key.strip() != KEY:
            with pytest.raises(TsrError) as said:
                one(folder, server)
            assert str(said.value) == "SOME_KEY: the key holds characters that no HTTP header may have"
        else:
            assert one(folder, server).status == "ok"
            assert server.keys == [f"Bearer {KEY}" if key else "Bearer none"]


def test_a_password_in_the_url_is_not_shown(folder: Path) -> None:
    password = "hidden"
    with pytest.raises(TsrError) as said:
        list(open_backend(folder, settings(f"http://me:{password}@127.0.0.1:1/v1")).complete(asked(1)))
    assert str(said.value).startswith("http://127.0.0.1:1/v1: the server cannot be reached")
    assert password not in "".join(traceback.format_exception(said.value))


def test_a_server_that_is_not_there(folder: Path) -> None:
    with FakeServer() as server:
        pass
    with pytest.raises(TsrError) as said:
        one(folder, server)
    why = "the server cannot be reached: the connection broke; check base_url and the server"
    assert str(said.value) == f"{server.url}: {why}"


def test_a_server_that_goes_away_fails_no_row(folder: Path) -> None:
    """Its rows would stand as failed for good, though nothing is wrong with them."""
    rows = []
    with FakeServer(by_text={"say 3": [fake.GONE]}) as server, pytest.raises(TsrError, match="cannot be reached"):
        for done in open_backend(folder, settings(server.url, concurrency=1)).complete(asked(8)):
            rows.append(done)
    assert [(c.request_id, c.status) for c in rows] == [(f"r{i}", "ok") for i in range(3)]


@pytest.mark.parametrize(
    "fault",
    [
        fake.TOO_LONG,
        error(400, "This model's maximum context length is 128 tokens. However, ...", param="input_tokens", code=400),
        error(400, "the request exceeds the available context size", type="exceed_context_size_error"),
        error(413, "Too many tokens"),
        error(422, "x", code="context_length_exceeded"),
        error(400, "max_tokens is too large: the maximum context length is 8", param="max_completion_tokens"),
    ],
)
def test_too_long(folder: Path, fault: Fault) -> None:
    with FakeServer(by_text={"say 1": [fault]}) as server:
        done = completed(folder, server, asked(3))
        assert len(server.asked) == 3
    assert {k: c.status for k, c in done.items()} == {"r0": "ok", "r1": "too_long", "r2": "ok"}
    assert done["r1"].error == "the server says that the request is longer than the model's context"


REFUSALS = {
    "the server refused with HTTP status 400 (invalid_prompt)": fake.REFUSED,
    "the server refused with HTTP status 400": error(400, "request 8f1e2 is bad", code=400),
    "the server refused with HTTP status 422": Fault(status=422, body=b'{"detail": [{"loc": ["body"]}]}'),
    "the server refused with HTTP status 413": Fault(status=413, body=b"<html>"),
    "refused by the content filter": Fault(
        change={"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]}
    ),
    "refused by the model": Fault(
        change={"choices": [{"message": {"content": None, "refusal": "I cannot"}, "finish_reason": "stop"}]}
    ),
}


@pytest.mark.parametrize("words", REFUSALS)
def test_refused(folder: Path, words: str) -> None:
    with FakeServer(by_text={"say 1": [REFUSALS[words]]}) as server:
        done = completed(folder, server, asked(3))
        assert len(server.asked) == 3
    assert {k: c.status for k, c in done.items()} == {"r0": "ok", "r1": "refused", "r2": "ok"}
    assert done["r1"].error == words


def test_no_content_is_an_empty_text(folder: Path) -> None:
    choices = [{"message": {"content": None}, "finish_reason": "length"}]
    with FakeServer(always=Fault(change={"choices": choices})) as server:
        done = one(folder, server)
    assert (done.text, done.finish_reason, done.status) == ("", "length", "ok")


def test_no_usage_is_0_tokens_but_not_with_a_budget(folder: Path) -> None:
    with FakeServer(always=Fault(change={"usage": None})) as server:
        done = one(folder, server)
        assert (done.prompt_tokens, done.response_tokens, done.status) == (0, 0, "ok")
        with pytest.raises(TsrError, match="tells no usage"):
            one(folder, server, budget_tokens=5)


def test_a_server_that_ignores_the_length_is_an_error(folder: Path) -> None:
    usage = {"prompt_tokens": 2, "completion_tokens": 900}
    with FakeServer(always=Fault(change={"usage": usage})) as server, pytest.raises(TsrError) as said:
        one(folder, server)
    assert str(said.value).endswith("the server ignores max_completion_tokens: asked 16, got 900")


def test_the_budget_ends_it_and_keeps_what_is_paid(folder: Path) -> None:
    rows = []
    with FakeServer(latency_s=0.02) as server, pytest.raises(TsrError) as said:
        for done in open_backend(folder, settings(server.url, budget_tokens=30, concurrency=2)).complete(asked(20)):
            rows.append(done)
    assert len(rows) == len(server.asked)  # 9 tokens each: spent after the fourth, with at most one more in flight
    assert 4 <= len(rows) <= 5
    assert all(c.status == "ok" for c in rows)
    assert f"budget of 30 tokens is spent: {9 * len(rows)} were used; finished rows are kept; " in str(said.value)
    assert "raise backends.openai.budget_tokens and run again" in str(said.value)


def test_a_budget_that_is_just_enough_is_no_error(folder: Path) -> None:
    with FakeServer() as server:
        assert len(completed(folder, server, asked(4), budget_tokens=36, concurrency=1)) == 4
        assert len(completed(folder, server, asked(4), budget_tokens=28, concurrency=1)) == 4


def test_log_probabilities(folder: Path) -> None:
    with FakeServer() as server:
        done = one(folder, server, logprobs=True)
        assert done.logprob_sum == 7 * fake.FIRST
        assert done.score_logprobs is None
        assert server.asked[0]["logprobs"] is True
        assert "top_logprobs" not in server.asked[0]
        assert one(folder, server).logprob_sum is None
        assert "logprobs" not in server.asked[1]


@pytest.mark.parametrize("tokens", [None, [], [{"token": "a"}], [{"token": "a", "logprob": -9999.0}]])
def test_log_probabilities_that_are_not_told(folder: Path, tokens: Any) -> None:
    choices = [{"message": {"content": "a"}, "finish_reason": "stop", "logprobs": {"content": tokens}}]
    with FakeServer(always=Fault(change={"choices": choices})) as server:
        assert one(folder, server, logprobs=True).logprob_sum is None


@pytest.mark.parametrize("spelling", ["bytes", " ", "\u2581", "\u0120"])
def test_score_tokens_are_read_where_the_score_stands(folder: Path, spelling: str) -> None:
    with FakeServer(spelling=spelling) as server:
        done = one(folder, server, SCORING)
        assert (server.asked[0]["logprobs"], server.asked[0]["top_logprobs"]) == (True, 20)
        drawn = fake.digest(server.asked[0])[3] % 5
    assert done.text.endswith(f"Score: {drawn}")
    assert done.score_logprobs is not None
    read = dict(done.score_logprobs)
    assert list(read) == ["0", "1", "2"]  # 9 is not among the likeliest
    others = [i for i in range(5) if i != drawn]
    assert read == {str(i): fake.FIRST if i == drawn else fake.FIRST - 1 - others.index(i) for i in range(3)}


def test_no_score_position_no_score(folder: Path) -> None:
    with FakeServer() as server:
        assert one(folder, server, replace(SCORING, score_after="Grade:")).score_logprobs is None
        assert one(folder, server, replace(SCORING, max_new_tokens=4)).score_logprobs is None
        first = one(folder, server, replace(SCORING, score_after="")).score_logprobs
        assert first is not None
        assert dict(first) == {"0": -1.25, "1": -2.25, "2": -3.25}


def test_two_spellings_of_a_score_are_added_and_one_listed_twice_is_not() -> None:
    top = [{"token": t, "logprob": math.log(p)} for t, p in [(" 4", 0.5), ("4", 0.25), (" 3", 0.125), (" 3", 0.125)]]
    token = module._Token.model_validate(top[0] | {"top_logprobs": top})
    request = Request("r", [], 0, replace(WARM, score_tokens=("4", "3")))
    score = module._score_logprobs(request, [token])
    assert score is not None
    assert dict(score) == pytest.approx({"4": math.log(0.75), "3": math.log(0.125)})


def test_a_server_without_log_probabilities_cannot_score(folder: Path) -> None:
    choices = [{"message": {"content": "Score: 3"}, "finish_reason": "stop"}]
    with FakeServer(always=Fault(change={"choices": choices})) as server:
        with pytest.raises(TsrError, match="gives no log-probabilities"):
            one(folder, server, SCORING)
        assert one(folder, server, logprobs=True).logprob_sum is None


def test_a_trailing_assistant_message_is_to_be_continued(folder: Path) -> None:
    messages = [{"role": "user", "content": "say"}, {"role": "assistant", "content": "well"}]
    with FakeServer() as server:
        completed(folder, server, [Request("r", messages, 1, WARM)])
        completed(folder, server, [Request("r", messages[:1], 1, WARM)])
    assert (server.asked[0]["add_generation_prompt"], server.asked[0]["continue_final_message"]) == (False, True)
    assert server.asked[0]["messages"] == messages
    assert "continue_final_message" not in server.asked[1]


def test_seeds_stay_apart_and_in_range(folder: Path) -> None:
    same = asked(1)[0]
    requests = [replace(same, request_id=f"s{i}", seed=2**62 + i) for i in range(6)]
    with FakeServer() as server:
        texts = {c.text for c in completed(folder, server, requests).values()}
        assert len(texts) == 6
        assert all(0 <= body["seed"] < 2**31 for body in server.asked)


def test_what_decides_results_is_the_version(folder: Path, tmp_path: Path) -> None:
    def version(**more: Any) -> str:
        return open_backend(folder, settings("http://127.0.0.1:1/v1", **more)).version

    same: list[dict[str, Any]] = [{"concurrency": 9}, {"timeout_s": 1}, {"retries": 0}, {"budget_tokens": 3}]
    assert {version(), *(version(**more) for more in same)} == {version()}
    assert version(logprobs=True) != version()
    one, other = folder, endpoint_folder(tmp_path / "other", model="M1")
    opened: list[OpenAiBackend] = [open_backend(f, settings("http://127.0.0.1:1/v1")) for f in (one, other)]
    assert opened[0].model_hash != opened[1].model_hash
    assert opened[0].template_hash != opened[1].template_hash


@pytest.mark.parametrize(
    "wrong",
    [{"base_url": "localhost:8000"}, {"concurrency": 0}, {"concurrency": 1001}, {"timeout_s": 0}, {"retries": -1}],
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings("http://127.0.0.1:1/v1", **wrong)
    with pytest.raises(ValidationError):
        Settings(base_url="http://127.0.0.1/v1")  # type: ignore[call-arg]
