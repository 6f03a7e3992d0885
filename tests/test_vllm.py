"""The vLLM backend on the CPU, against plain transformers: needs vLLM's own environment."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from stages.backends import Completion, Request, SamplingParams, score_position
from stages.backends.vllm import Settings, VllmBackend, open_backend
from stages.errors import TsrError
from stages.tiny_llama import WORDS

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here"),
]

CONTEXT = 96
GREEDY = SamplingParams(temperature=0.0, top_p=1.0, max_new_tokens=24)
DRAWN = SamplingParams(temperature=0.9, top_p=1.0, max_new_tokens=24)
Rows = dict[str, Completion]


def settings(**changes: Any) -> Settings:
    return Settings(
        **{
            "dtype": "float32",
            "max_model_len": 0,
            "max_num_seqs": 4,
            "max_num_batched_tokens": 4096,
            "block_size": 32,
            "kv_cache_gib": 0.1,
            "gpu_memory_utilization": 0.5,
            "enforce_eager": True,
            "prefix_caching": True,
            "tensor_parallel_size": 1,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads of 32, the smallest size that vLLM's CPU attention knows; the shared tiny model's have 16."""
    from stages import models
    from stages.runtime import prepare_torch
    from stages.tiny_llama import build_model, build_tokenizer

    prepare_torch()
    made = tmp_path_factory.mktemp("models") / "M0"
    tokenizer = build_tokenizer()
    shape = {"hidden_size": 64, "layers": 2, "heads": 2, "context": CONTEXT}
    models.save(build_model(tokenizer, 3, **shape, init_std=0.15), tokenizer, made)
    return made


@pytest.fixture(scope="module")
def backend(folder: Path) -> Iterator[VllmBackend]:
    made = open_backend(folder, settings())
    yield made
    made.close()


@pytest.fixture(scope="module")
def plain(folder: Path) -> "Plain":
    return Plain(folder)


class Plain:
    """The same model in plain transformers, one row at a time."""

    def __init__(self, folder: Path) -> None:
        from stages import models

        self.model, self.tokenizer = models.load_model(folder), models.load_tokenizer(folder)
        self.end = self.tokenizer.eos_token_id
        self.never = sorted(set(self.tokenizer.all_special_ids) - {self.end})

    def prompt(self, request: Request) -> list[int]:
        return self.tokenizer.apply_chat_template(
            request.messages[:1], add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]

    def reply(self, done: Completion) -> list[int]:
        """The reply's tokens; no model spells a word in letters by chance."""
        pieces = re.findall("|".join([*WORDS, "."]), done.text)  # the tokenizer itself sees no word in `judgejudge`
        return self.tokenizer.convert_tokens_to_ids(pieces) + [self.end] * (done.finish_reason == "stop")

    def logprobs(self, ids: list[int], start: int) -> Any:
        """Log-probabilities after each of the tokens from `start` - 1 on, (tokens, vocabulary)."""
        import torch

        with torch.no_grad():
            return self.model(input_ids=torch.tensor([ids])).logits[0, start - 1 :].double().log_softmax(-1)

    def greedy(self, request: Request) -> list[int]:
        ids = self.prompt(request)
        start = len(ids)
        while len(ids) - start < request.sampling.max_new_tokens and ids[-1] != self.end:
            after = self.logprobs(ids, len(ids))[0]
            after[self.never] = -float("inf")
            ids = [*ids, int(after.argmax())]
        return ids[start:]


def requests(count: int, sampling: SamplingParams, each: int = 3) -> list[Request]:
    letters = "abcdefghijklmnopqrstuvwxyz"
    texts = ["shift " + "".join(letters[(n * n + n * i + i) % 26] for i in range(4 + n % 30)) for n in range(count)]
    return [
        Request(f"r{i}", [{"role": "user", "content": texts[i // each]}], 2**62 + 7 * i, sampling) for i in range(count)
    ]


def by_id(rows: Iterator[Completion]) -> Rows:
    found = {row.request_id: row for row in rows}
    assert all(row.status == "ok" for row in found.values())
    return found


@pytest.fixture(scope="module")
def drawn(backend: VllmBackend) -> Rows:
    return by_id(backend.complete(requests(40, DRAWN)))


def test_the_samples_of_a_prompt_share_its_prefill(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the first of seven samples find the prompt's whole blocks in the cache."""
    from stages.backends.vllm import _Engine

    cached: list[int] = []
    complete = _Engine._completion

    def noting(self: _Engine, request: Request, output: Any) -> Completion:
        cached.append(output.num_cached_tokens)
        return complete(self, request, output)

    monkeypatch.setattr(_Engine, "_completion", noting)
    made = open_backend(folder, settings(max_num_seqs=1))
    asked = [
        Request(f"k{seed}", [{"role": "user", "content": "shift " + "abcdefghij" * 6}], seed, DRAWN)
        for seed in range(7)
    ]
    by_id(made.complete(asked))
    made.close()
    assert cached[0] < 32
    assert cached[1:] == [64] * 6


def test_greedy_tokens_are_those_of_transformers(backend: VllmBackend, plain: Plain) -> None:
    asked = requests(12, GREEDY, each=1)
    rows = by_id(backend.complete(asked))
    for request in asked:
        assert plain.reply(rows[request.request_id]) == plain.greedy(request)


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
def test_log_probability_is_that_of_the_raw_distribution(
    backend: VllmBackend, plain: Plain, sampling: SamplingParams
) -> None:
    asked = requests(20, sampling)
    rows = by_id(backend.complete(asked))
    if sampling is DRAWN:  # else the test shows less than it says
        assert {row.finish_reason for row in rows.values()} == {"stop", "length"}
    for request in asked:
        row, prompt = rows[request.request_id], plain.prompt(request)
        reply = plain.reply(row)
        assert (row.prompt_tokens, row.response_tokens) == (len(prompt), len(reply))
        assert row.finish_reason == ("stop" if reply[-1] == plain.end else "length")
        assert (row.finish_reason == "stop") or len(reply) == sampling.max_new_tokens
        after = plain.logprobs(prompt + reply, len(prompt))
        total = sum(float(after[at, token]) for at, token in enumerate(reply))
        assert row.logprob_sum == pytest.approx(total, abs=1e-3)


def test_rows_do_not_depend_on_order_or_company(backend: VllmBackend, drawn: Rows) -> None:
    asked = requests(40, DRAWN)
    assert by_id(backend.complete(reversed(asked))) == drawn
    for request in asked[::13]:
        assert by_id(backend.complete([request])) == {request.request_id: drawn[request.request_id]}
    read = SamplingParams(0.9, 1.0, 24, score_tokens=("0", "1"), score_after="a")
    mixed = requests(9, read) + [Request(f"x{i}", r.messages, r.seed, GREEDY) for i, r in enumerate(asked)]
    beside = by_id(backend.complete([*asked[:20], *(Request(f"y{r.request_id}", r.messages, 1, read) for r in mixed)]))
    assert {key: row for key, row in beside.items() if not key.startswith("y")} == {
        request.request_id: drawn[request.request_id] for request in asked[:20]
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"max_num_seqs": 32, "prefix_caching": False},
        {"block_size": 64, "max_num_batched_tokens": 128},
        {"max_num_seqs": 16, "kv_cache_gib": 0.0005},  # 16 blocks: rows are thrown out and read again
    ],
)
def test_rows_do_not_depend_on_the_engine(folder: Path, drawn: Rows, changes: dict[str, Any]) -> None:
    other = open_backend(folder, settings(**changes))
    try:
        assert by_id(other.complete(requests(40, DRAWN))) == drawn
    finally:
        other.close()


def test_rows_do_not_depend_on_the_process(folder: Path, drawn: Rows) -> None:
    code = (
        "import sys; from pathlib import Path; from test_vllm import *; "
        "backend = open_backend(Path(sys.argv[1]), settings()); "
        "heavy = {'torch', 'transformers', 'vllm'} & set(sys.modules); "
        "rows = by_id(backend.complete(requests(40, DRAWN))); "
        "print(json.dumps([sorted(heavy), {key: [row.text, row.logprob_sum] for key, row in rows.items()}]))"
    )
    here = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    run = subprocess.run([sys.executable, "-c", code, folder], env=here, capture_output=True, text=True, check=True)
    heavy, rows = json.loads(run.stdout)
    assert heavy == []  # opening a backend imports nothing heavy
    assert rows == {key: [row.text, row.logprob_sum] for key, row in drawn.items()}
    assert run.stderr == ""


def test_seeds(backend: VllmBackend) -> None:
    messages = requests(1, DRAWN)[0].messages
    seeds = [0, 0, 1, 2**32 - 1, 2**33, 2**62, 2**62]
    rows = by_id(backend.complete(Request(f"r{i}", messages, seed, DRAWN) for i, seed in enumerate(seeds)))
    texts = [rows[f"r{i}"].text for i in range(len(seeds))]
    assert texts[0] == texts[1]
    assert texts[-1] == texts[-2]
    assert len(set(texts)) == 5


@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_tokens_are_drawn_as_often_as_they_should_be(backend: VllmBackend, plain: Plain, top_p: float) -> None:
    count = 3000
    sampling = SamplingParams(temperature=1.3, top_p=top_p, max_new_tokens=1)
    messages = requests(1, sampling)[0].messages
    asked = [Request(f"r{i}", messages, 10**9 + i, sampling) for i in range(count)]
    raw = plain.logprobs(plain.prompt(asked[0]), len(plain.prompt(asked[0])))[0]
    assert float(raw[plain.never].exp().sum()) > 0.02  # there is something to forbid
    raw[plain.never] = -float("inf")
    share, order = (raw / 1.3).softmax(-1).sort(descending=True)
    kept = share.cumsum(-1) - share < top_p
    expected = dict(zip(order[kept].tolist(), (share[kept] / share[kept].sum()).tolist(), strict=True))
    seen = [plain.reply(row)[0] for row in by_id(backend.complete(asked)).values()]
    assert set(seen) <= set(expected)
    for token, p in expected.items():
        assert seen.count(token) == pytest.approx(count * p, abs=5 * (count * p * (1 - p)) ** 0.5 + 1)


def test_control_tokens_are_never_drawn(backend: VllmBackend, plain: Plain) -> None:
    sampling = SamplingParams(temperature=2.0, top_p=1.0, max_new_tokens=24)
    rows = by_id(backend.complete(requests(100, sampling)))
    control = plain.tokenizer.convert_ids_to_tokens([*plain.never, plain.end])
    assert not [row.text for row in rows.values() if any(token in row.text for token in control)]


def test_score_tokens(backend: VllmBackend, plain: Plain) -> None:
    digits = ("0", "3", "5")
    free = by_id(backend.complete(requests(30, DRAWN)))
    asked = [
        Request(
            request.request_id,
            request.messages,
            request.seed,
            SamplingParams(0.9, 1.0, 24, score_tokens=digits, score_after=after),
        )
        for request in requests(30, DRAWN)
        for after in [free[request.request_id].text[3:4] if int(request.request_id[1:]) % 2 else ""]
    ]
    found = 0
    for request, row in ((r, by_id(backend.complete([r]))[r.request_id]) for r in asked):
        assert (row.text, row.logprob_sum) == (free[row.request_id].text, free[row.request_id].logprob_sum)
        prompt, reply = plain.prompt(request), plain.reply(row)
        at = score_position([plain.tokenizer.decode([token]) for token in reply], request.sampling.score_after)
        if at is None:
            assert row.score_logprobs is None
            continue
        found += 1
        after = plain.logprobs(prompt + reply, len(prompt))[at]
        ids = [plain.tokenizer.encode(digit, add_special_tokens=False)[0] for digit in digits]
        assert row.score_logprobs is not None
        assert [text for text, _ in row.score_logprobs] == list(digits)
        assert [value for _, value in row.score_logprobs] == pytest.approx(after[ids].tolist(), abs=1e-4)
    assert found > 20
    absent = SamplingParams(0.9, 1.0, 24, score_tokens=digits, score_after="never said")
    (row,) = backend.complete([Request("r", asked[0].messages, 1, absent)])
    assert (row.status, row.score_logprobs) == ("ok", None)


def test_a_prompt_beyond_the_context_fails_alone(backend: VllmBackend) -> None:
    fits = requests(5, GREEDY)
    long = Request("long", [{"role": "user", "content": "a" * 90}], 1, GREEDY)
    rows = {row.request_id: row for row in backend.complete([*fits[:2], long, *fits[2:]])}
    assert len(rows) == 6
    assert (rows["long"].finish_reason, rows["long"].status) == ("error", "too_long")
    assert rows["long"].error == "93 prompt tokens and 24 new ones do not fit into the context of 96"
    assert [row.status for key, row in rows.items() if key != "long"] == ["ok"] * 5


def test_a_reply_may_fill_the_context(backend: VllmBackend) -> None:
    asked = [Request(f"r{n}", [{"role": "user", "content": "a" * (n - 3)}], 1, GREEDY) for n in (71, 72, 73)]
    assert {row.request_id: row.status for row in backend.complete(asked)} == {
        "r71": "ok",
        "r72": "ok",
        "r73": "too_long",
    }


def test_an_assistant_message_is_continued(backend: VllmBackend, plain: Plain) -> None:
    continued = 0
    for request in requests(20, GREEDY, each=1):
        (whole,) = backend.complete([request])
        tokens = plain.reply(whole)
        begun = plain.tokenizer.decode(tokens[:4])
        if len(tokens) < 6 or plain.tokenizer.encode(begun, add_special_tokens=False) != tokens[:4]:
            continue
        continued += 1
        goes_on = Request("on", [*request.messages, {"role": "assistant", "content": begun}], 1, GREEDY)
        (rest,) = backend.complete([goes_on])
        assert rest.prompt_tokens == whole.prompt_tokens + 4
        assert (begun + rest.text)[: len(whole.text)] == whole.text
    assert continued


def test_the_stream_is_read_as_it_goes(backend: VllmBackend, drawn: Rows) -> None:
    read = []

    def stream() -> Iterator[Request]:
        for request in requests(40, DRAWN):
            read.append(request)
            yield request

    rows = backend.complete(stream())
    next(rows)
    assert len(read) < 20  # twice max_num_seqs, and the steps to the first end
    rows.close()  # what is left in the engine must not come back
    assert by_id(backend.complete(requests(40, DRAWN))) == drawn


def test_a_stream_that_breaks_leaves_nothing_behind(backend: VllmBackend, drawn: Rows) -> None:
    def stream() -> Iterator[Request]:
        yield from requests(6, DRAWN)
        raise TsrError("broken")

    with pytest.raises(TsrError, match="broken"):
        list(backend.complete(stream()))
    assert by_id(backend.complete(requests(40, DRAWN))) == drawn


@pytest.mark.parametrize(
    ("sampling", "fault"),
    [
        (SamplingParams(0.001, 1.0, 4), "temperature 0.001: vLLM takes 0, or 0.01 and above"),
        (SamplingParams(3.0, 1.0, 4), "vLLM refuses the sampling parameters: temperature must be in"),
        (SamplingParams(1.0, 1.0, 4, score_tokens=("1", "10")), r"M0: score '10' is 2 tokens"),
    ],
)
def test_what_vllm_cannot_do_is_one_line(backend: VllmBackend, sampling: SamplingParams, fault: str) -> None:
    with pytest.raises(TsrError, match=fault) as raised:
        list(backend.complete([Request("r", [{"role": "user", "content": "a"}], 1, sampling)]))
    assert "\n" not in str(raised.value)


def test_a_request_that_vllm_refuses_fails_alone(backend: VllmBackend) -> None:
    many = SamplingParams(1.0, 1.0, 4, score_tokens=("1",) * 200)
    message = [{"role": "user", "content": "a"}]
    asked = [Request("many", message, 1, many), Request("few", message, 1, DRAWN)]
    done = {row.request_id: row for row in backend.complete(asked)}
    assert done["few"].status == "ok"
    assert done["many"].status == "refused"
    assert "logprob_token_ids" in str(done["many"].error)


def test_a_start_that_fails_is_one_line(folder: Path, tmp_path: Path, backend: VllmBackend, drawn: Rows) -> None:
    """Heads of 16 pass the start, and fail at the first step."""
    shutil.copytree(folder, tmp_path / "M")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "M/config.json").write_text(json.dumps(config | {"num_attention_heads": 4, "head_dim": 16}))
    for broken, at in [(settings(), tmp_path / "M"), (settings(kv_cache_gib=1e-6), folder)]:
        with pytest.raises(TsrError, match=r"M\d?: vLLM (cannot start|failed): \S") as raised:
            list(open_backend(at, broken).complete(requests(1, DRAWN)))
        assert "\n" not in str(raised.value)
    assert by_id(backend.complete(requests(40, DRAWN))) == drawn  # a new engine takes over


def test_a_process_has_one_engine(folder: Path, backend: VllmBackend, drawn: Rows) -> None:
    other = open_backend(folder, settings())
    busy = backend.complete(requests(40, DRAWN))
    next(busy)
    for second in (other, backend):
        with pytest.raises(TsrError, match="is completing other requests"):
            list(second.complete(requests(1, DRAWN)))
    busy.close()
    assert by_id(other.complete(requests(40, DRAWN))) == drawn
    assert by_id(backend.complete(requests(3, DRAWN))) == by_id(other.complete(requests(3, DRAWN)))
    other.close()


def test_opening(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = open_backend(folder, settings())
    assert first.version == open_backend(folder, settings(max_num_seqs=7, block_size=64)).version
    assert first.version != open_backend(folder, settings(dtype="bfloat16")).version
    assert list(first.complete([])) == []
    (tmp_path / "endpoint.json").write_text('{"model": "m"}')
    with pytest.raises(TsrError, match="has no weights"):
        open_backend(tmp_path, settings())
    monkeypatch.setattr("stages.backends.vllm.find_spec", lambda name: None)
    with pytest.raises(TsrError, match=r"vLLM is not installed; see docs/engines.md"):
        open_backend(folder, settings())
