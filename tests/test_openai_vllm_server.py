"""The backend against a real server: vLLM on the CPU, with a tiny random model."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from stages import models
from stages.backends import Completion, Request, SamplingParams
from stages.backends.openai import Settings, open_backend
from stages.errors import TsrError

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None or find_spec("openai") is None, reason="vLLM is not installed"),
]

CONTEXT = 128
WARM = SamplingParams(temperature=0.8, top_p=0.95, max_new_tokens=24)
COLD = SamplingParams(temperature=0.0, top_p=1.0, max_new_tokens=8)

# Chunked prefill with a seed a request crashes on the CPU; without a size, the cache takes all memory there is.
ARGUMENTS = f"""
--dtype float32 --enforce-eager --block-size 32 --no-enable-chunked-prefill --max-num-batched-tokens 4096
--max-num-seqs 64 --kv-cache-memory-bytes {1 << 28} --max-model-len {CONTEXT} --generation-config vllm
""".split()
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "NO_PROXY": "127.0.0.1"}

Served = tuple[Path, str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads of 32, the smallest size that vLLM's CPU attention knows; the shared tiny model's have 16."""
    from stages.runtime import prepare_torch
    from stages.tiny_llama import build_model, build_tokenizer

    prepare_torch()
    made, tokenizer = tmp_path_factory.mktemp("models") / "M0", build_tokenizer()
    shape = {"hidden_size": 64, "layers": 2, "heads": 2, "context": CONTEXT}
    models.save(build_model(tokenizer, 1, **shape, init_std=0.3), tokenizer, made)
    return made


@pytest.fixture(scope="module")
def served(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A model folder, and the URL of the server that has it under the folder's name."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    where = ["--model", str(folder), "--served-model-name", folder.name, "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *where, *ARGUMENTS]
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | ENVIRONMENT, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield folder, f"http://127.0.0.1:{port}/v1"
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End the server and its engine, which is a process of its own."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)


def wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            urlopen(url, timeout=5).close()
            return
        except (URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")


def completed(served: Served, requests: list[Request], **more: Any) -> dict[str, Completion]:
    folder, url = served
    usual = {"api_key_env": "NO_KEY", "concurrency": 8, "timeout_s": 120, "retries": 1, "budget_tokens": 0}
    backend = open_backend(folder, Settings(**({"base_url": url, "logprobs": True} | usual | more)))
    return {c.request_id: c for c in backend.complete(requests)}


def one(served: Served, messages: list[dict[str, str]], how: SamplingParams) -> Completion:
    return completed(served, [Request("r", messages, 3, how)])["r"]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def asked(count: int, how: SamplingParams) -> list[Request]:
    words = ["abc", "kitten", "zebra", "q", "swap me", "a rather long one"]
    return [Request(f"r{i}", [user(f"next {words[i % 6]}{i}")], 2**62 + i * 7919, how) for i in range(count)]


@pytest.mark.parametrize("how", [WARM, COLD, replace(WARM, score_tokens=tuple("012345"))])
def test_a_row_does_not_depend_on_order_window_or_neighbours(served: Served, how: SamplingParams) -> None:
    """Text and log-probabilities, to the last bit: so it was measured, with one thread."""
    requests = asked(60, how)
    whole = completed(served, requests)
    assert len(whole) == 60
    assert completed(served, requests) == whole
    assert completed(served, requests[::-1], concurrency=32) == whole
    assert completed(served, requests[5:40:4], concurrency=1).items() <= whole.items()
    assert all(c.status == "ok" for c in whole.values())


def test_the_seed_decides(served: Served) -> None:
    requests = [Request(f"s{seed}", [user("next abc")], seed, WARM) for seed in range(8)]
    assert len({c.text for c in completed(served, requests).values()}) > 4


def test_length_and_end(served: Served) -> None:
    done = completed(served, asked(40, WARM)).values()
    assert {c.finish_reason for c in done} == {"stop", "length"}
    assert all(c.response_tokens == 24 for c in done if c.finish_reason == "length")
    assert all(c.response_tokens <= 24 for c in done)
    assert all(c.logprob_sum is not None and c.logprob_sum < 0 for c in done)


def test_log_probabilities_are_the_models_own_at_temperature_1(served: Served) -> None:
    import torch

    tokenizer, model = models.load_tokenizer(served[0]), models.load_model(served[0])
    digits = tuple("0123456789")
    how = SamplingParams(temperature=0.5, top_p=0.5, max_new_tokens=1, score_tokens=digits)
    for request in asked(5, how):
        done = one(served, request.messages, how)
        ids = tokenizer.apply_chat_template(request.messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        with torch.inference_mode():
            logprobs = model(input_ids=torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)
        assert done.prompt_tokens == len(ids)
        assert done.score_logprobs is not None
        likeliest = {int(i) for i in logprobs.topk(20).indices}
        expected = {d: float(logprobs[i]) for d in digits if (i := tokenizer.convert_tokens_to_ids(d)) in likeliest}
        assert expected
        assert dict(done.score_logprobs) == pytest.approx(expected, abs=1e-4)
        if done.text:
            token = tokenizer.convert_tokens_to_ids(done.text)
            assert done.logprob_sum == pytest.approx(float(logprobs[token]), abs=1e-4)


def test_a_trailing_assistant_message_is_continued_and_not_repeated(served: Served) -> None:
    long = replace(COLD, max_new_tokens=6)
    tried = [[user(f"next {word}")] for word in ("abc", "kitten", "zebra", "q")]
    whole = [(messages, one(served, messages, long)) for messages in tried]
    whole = [(messages, done) for messages, done in whole if len(done.text) == done.response_tokens == 6]
    assert whole  # of single letters, so that a part of the text is made of the same tokens
    for messages, done in whole:
        start = {"role": "assistant", "content": done.text[:2]}
        rest = one(served, [*messages, start], replace(COLD, max_new_tokens=4))
        assert (rest.text, rest.prompt_tokens) == (done.text[2:], done.prompt_tokens + 2)


def test_too_long_is_the_rows_own(served: Served) -> None:
    long = Request("long", [user("a" * 500)], 1, WARM)
    done = completed(served, [long, *asked(3, WARM)])
    assert done["long"].status == "too_long"
    assert all(done[f"r{i}"].status == "ok" for i in range(3))


def test_vllm_cuts_a_reply_where_the_context_ends(served: Served) -> None:
    """It refuses only a prompt that leaves no room at all."""
    done = completed(served, [Request(f"s{i}", [user("a" * 121)], i, WARM) for i in range(20)]).values()
    assert all(c.prompt_tokens + c.response_tokens <= CONTEXT for c in done)
    assert any(c.finish_reason == "length" and c.response_tokens < 24 for c in done)


def test_another_name_is_one_line(served: Served, tmp_path: Path) -> None:
    (tmp_path / "endpoint.json").write_text('{"model": "M9"}')
    with pytest.raises(TsrError) as said:
        completed((tmp_path, served[1]), asked(1, WARM))
    assert str(said.value) == f"{served[1]}: the server has no model 'M9'; it lists: M0"
