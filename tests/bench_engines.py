"""What the engines cost: `python tests/bench_engines.py [PART ...]`. Merges into reports/benchmarks.json.

Each part runs in a process of its own; what is compared in it runs in turns, on one thread, and medians are taken.
Seconds are those of the processor, which others on the machine disturb less; they are of one machine and one day, so
read the ratios. A part whose package is missing is skipped.
"""

import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}

import polars as pl

from stages import models, tables
from stages.backends import Backend, Completion, Request, SamplingParams
from stages.backends.transformers import Settings as EmbeddedSettings
from stages.backends.transformers import TransformersBackend
from stages.backends.transformers import open_backend as open_embedded
from stages.completing import Work
from stages.generate import _Asked as Answering
from stages.generate import _plan as plan_answers
from stages.generate import generate
from stages.judge import judge_all
from stages.params import Generate, Judge

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 5
SAMPLES = 7  # as in the micro profile, like the numbers below
ANSWER = SamplingParams(temperature=0.8, top_p=1.0, max_new_tokens=12)
DIGITS = tuple("012345")
JUDGE: dict[str, Any] = {"backend": "transformers", "max_failed_share": 0.0, "rubric": "micro", "votes": 1}
JUDGE |= {"distribution": True, "temperature": 0.0, "top_p": 1.0, "max_new_tokens": 24}
SHAPES: dict[str, dict[str, Any]] = {  # vLLM's attention on the CPU knows no heads below 32
    "tiny": {"hidden_size": 64, "layers": 2, "heads": 2, "context": 512, "words": 0},
    "20M": {"hidden_size": 512, "layers": 6, "heads": 8, "context": 512, "words": 8000},
}

Runs = dict[str, Callable[[], Any]]
Row = dict[str, Any]


def timed(runs: Runs, repeats: int = REPEATS) -> dict[str, list[float]]:
    """Return each run's seconds; they take turns, so that a slow minute hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    return seconds


def times_faster(seconds: dict[str, list[float]], ours: str, other: str) -> float:
    """Return the median, over the turns, of how many times the throughput of `other` it has."""
    return round(statistics.median(b / a for a, b in zip(seconds[ours], seconds[other], strict=True)), 3)


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    return {name: round(statistics.median(values), 3) for name, values in seconds.items()}


def letters(seed: int, length: int) -> str:
    return "".join("abcdefghijklmnopqrstuvwxyz"[(seed * 7919 + i * (i + seed)) % 26] for i in range(length))


def prompts_of(texts: Iterable[str]) -> pl.DataFrame:
    """Return a prompts table with these user messages."""
    rest = {"split": "r1", "source": "bench", "reference": None, "meta": "{}"}
    rows = [{"prompt_id": f"p{i:06}", "messages": [{"role": "user", "content": t}]} for i, t in enumerate(texts)]
    return tables.frame("prompts", [row | rest for row in rows])


def random_model(folder: Path, words: int = 0, **shape: Any) -> Path:
    """Make a random Llama; `words` fill its vocabulary up, so that drawing a token costs what it usually does."""
    from stages import tiny_llama

    tokenizer = tiny_llama.build_tokenizer()
    tokenizer.add_tokens([f"w{i} " for i in range(words)])
    models.save(tiny_llama.build_model(tokenizer, 1, **{"init_std": 0.06} | shape), tokenizer, folder)
    return folder


def parameters(folder: Path) -> int:
    from safetensors import safe_open

    with safe_open(next(folder.glob("*.safetensors")), "np") as weights:
        return sum(math.prod(weights.get_slice(k).get_shape()) for k in weights.keys())  # noqa: SIM118


def micro(work: Path) -> tuple[Path, pl.DataFrame]:
    """Return M0 and prompts of the default run, or stand-ins of their shape."""
    from stages.runtime import prepare_torch

    prepare_torch()
    model, prompts = ROOT / "data/models/M0", ROOT / "data/prompts/r1.parquet"
    if model.is_dir() and prompts.is_file():
        return model, pl.read_parquet(prompts)
    shape = {"hidden_size": 128, "layers": 2, "heads": 4, "context": 128}
    return random_model(work / "M0", **shape), prompts_of(f"half {letters(i, 6)}" for i in range(200))


def embedded(folder: Path) -> TransformersBackend:
    return open_embedded(folder, EmbeddedSettings(tile_rows=256, dtype="float32", device="cpu"))


def answering(backend: Backend, prompts: pl.DataFrame, sampling: SamplingParams, samples: int) -> Answering:
    """Return the requests of stage generate."""
    columns = {"generation_id": pl.String, "prompt_id": pl.String, "sample_id": pl.Int64, "seed": pl.Int64}
    rows = list(plan_answers(7, samples, prompts, backend, sampling))
    planned = pl.DataFrame(rows, schema=columns, orient="row")
    return Answering(planned, dict(prompts.select("prompt_id", "messages").iter_rows()), sampling)


def drain(completions: Iterable[Completion]) -> int:
    """Go through completions; return how many tokens they have."""
    return sum(done.response_tokens for done in completions)


# --- the embedded backend against model.generate ---


class Plain:
    """`model.generate` as most scripts call it: batches in the order of the data, padded on the left."""

    def __init__(self, folder: Path) -> None:
        self.model, self.tokenizer = models.load_model(folder), models.load_tokenizer(folder)
        self.tokenizer.padding_side = "left"

    def run(self, asked: list[Any], sampling: SamplingParams, batch: int, copies: int = 1) -> list[str]:
        """Complete lists of messages, `copies` times each by num_return_sequences; `batch` counts rows."""
        import torch

        torch.use_deterministic_algorithms(False)  # the stages' switch is none of its costs
        how: dict[str, Any] = {"do_sample": sampling.temperature > 0, "num_return_sequences": copies}
        if sampling.temperature > 0:
            how |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        texts, step = [], max(1, batch // copies)
        for first in range(0, len(asked), step):
            inputs = self.tokenizer.apply_chat_template(
                asked[first : first + step],
                add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt",
            )  # fmt: skip
            with torch.inference_mode():
                out = self.model.generate(**inputs, **how, max_new_tokens=sampling.max_new_tokens)
            texts += self.tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        torch.use_deterministic_algorithms(True)
        return texts


def against_generate(folder: Path, requests: list[Request], samples: int, repeats: int = REPEATS) -> Row:
    """Compare the embedded backend with `model.generate` in the best of its ways.

    As a stage asks: through the row store, which asks for equal greedy requests once.
    """
    backend, plain, sampling = embedded(folder), Plain(folder), requests[0].sampling
    asked = [request.messages for request in requests]
    runs: Runs = {"embedded": lambda: list(backend.complete(requests))}
    runs["embedded, as a stage asks"] = lambda: drain(new_work().complete(backend, requests))
    for batch in (64, 128):
        runs[f"generate, batches of {batch} rows"] = lambda b=batch: plain.run(asked, sampling, b)
    if samples > 1:
        once = asked[::samples]
        for batch in (64, 128, 64 * samples):
            label = f"generate, num_return_sequences={samples}, {batch} rows"
            runs[label] = lambda b=batch: plain.run(once, sampling, b, samples)
    timed({name: runs[name] for name in list(runs)[:3]}, 1)  # warm up
    seconds = timed(runs, repeats)
    best = min(list(runs)[2:], key=lambda name: statistics.median(seconds[name]))
    return {
        "requests": len(requests),
        "times_the_throughput_of_generate": times_faster(seconds, "embedded", best),
        "as_a_stage_asks": times_faster(seconds, "embedded, as a stage asks", best),
        "best_of_generate": best,
        "median_seconds": medians(seconds),
    }


def generations_of(folder: Path, prompts: pl.DataFrame) -> pl.DataFrame:
    """Return what a judge needs of generations, sorted as stage judge does."""
    backend = embedded(folder)
    asked = answering(backend, prompts, ANSWER, SAMPLES)
    done = [(c.request_id, c.text, c.finish_reason) for c in backend.complete(asked)]
    texts = pl.DataFrame(done, schema=["generation_id", "response", "finish_reason"], orient="row")
    return asked.planned.join(texts, on="generation_id")


def part_embedded(work: Path) -> Row:
    """Answering, judging, and answering prompts of mixed lengths."""
    from stages.asking import load_ask

    folder, prompts = micro(work)
    answers = list(answering(embedded(folder), prompts, ANSWER, SAMPLES))
    of, judge = dict(prompts.select("prompt_id", "messages").iter_rows()), load_ask("micro").judge_prompt
    greedy = SamplingParams(0.0, 1.0, JUDGE["max_new_tokens"])
    rows = generations_of(folder, prompts).sort("prompt_id", "generation_id").select("prompt_id", "response")
    judging = [Request(f"{i}", judge(of[p], r), i, greedy) for i, (p, r) in enumerate(rows.iter_rows())]
    mixed = prompts_of(f"half {letters(i, 3 + i * 37 % 60)}" for i in range(200))
    many = list(answering(embedded(folder), mixed, ANSWER, SAMPLES))
    return {
        "model_parameters": parameters(folder),
        "answering": against_generate(folder, answers, SAMPLES),
        "judging": against_generate(folder, judging, 1),
        "answering_prompts_of_3_to_62_letters": against_generate(folder, many, SAMPLES),
    }


# --- judging: votes against one token ---


def part_judging(work: Path) -> Row:
    """The micro judge, embedded, both ways as stage judge asks them, row store included."""
    folder, prompts = micro(work)
    generations = generations_of(folder, prompts)
    backend = embedded(folder)

    def judged(way: str) -> Callable[[], Any]:
        settings = Judge(**JUDGE | {"way": way})
        return lambda: judge_all(7, settings, "M0", prompts, generations, backend, new_work())

    runs = {"votes": judged("votes"), "one_token": judged("one_token")}
    timed(runs, 1)
    seconds = timed(runs)
    return {
        "model_parameters": parameters(folder),
        "requests": generations.height,
        "one_token_times_the_throughput_of_votes": times_faster(seconds, "one_token", "votes"),
        "seconds_per_1000": {k: round(v * 1000 / generations.height, 3) for k, v in medians(seconds).items()},
    }


def new_work() -> Work:
    """A table with a row store of its own."""
    return Work("generate/bench/r1", 0.0, Path(tempfile.mkdtemp()))


# --- vLLM ---


def vllm_backend(folder: Path, caching: bool = True) -> Any:
    """Return a vLLM backend with an engine of its own."""
    from stages.backends import vllm

    settings = vllm.Settings(
        dtype="float32", max_model_len=0, max_num_seqs=256, max_num_batched_tokens=8192, block_size=32,
        kv_cache_gib=1.0, gpu_memory_utilization=0.5, enforce_eager=True, prefix_caching=caching,
        tensor_parallel_size=1,
    )  # fmt: skip
    vllm._Engine.running = None  # keep the other ones: here engines take turns
    backend = vllm.open_backend(folder, settings)
    drain(backend.complete([Request("warm", [{"role": "user", "content": "half abc"}], 1, ANSWER)]))
    return backend


def forget(llm: Any) -> None:
    """Empty the prefix cache, so that every turn starts alike."""
    assert llm.llm_engine.reset_prefix_cache()


def completed(backend: Any, requests: Any, *, stored: bool = False) -> int:
    """Complete requests by a vLLM backend, through the row store if wanted; return the tokens."""
    forget(backend._engine._llm)
    return drain(new_work().complete(backend, requests) if stored else backend.complete(iter(requests)))


class BareVllm:
    """A second engine with the same settings, made and asked as a user of vLLM does."""

    def __init__(self, folder: Path, never: list[int]) -> None:
        from vllm import LLM

        self.bias = dict.fromkeys(never, float("-inf"))
        self.llm = LLM(
            str(folder), dtype="float32", max_num_seqs=256, max_num_batched_tokens=8192, block_size=32,
            kv_cache_memory_bytes=1 << 30, enforce_eager=True, enable_chunked_prefill=False,
            enable_prefix_caching=True, use_tqdm_on_load=False,
        )  # fmt: skip

    def params(self, request: Request) -> Any:
        from vllm import SamplingParams as Params

        how = request.sampling
        return Params(
            temperature=how.temperature, top_p=how.top_p, max_tokens=how.max_new_tokens, seed=request.seed,
            logprobs=0, logit_bias=self.bias,
        )  # fmt: skip

    def chat(self, requests: list[Request]) -> int:
        forget(self.llm)
        params = [self.params(request) for request in requests]
        return count(self.llm.chat([request.messages for request in requests], params, use_tqdm=False))

    def tokens(self, requests: list[Request], ids: list[list[int]]) -> int:
        forget(self.llm)
        params = [self.params(request) for request in requests]
        return count(self.llm.generate([{"prompt_token_ids": i} for i in ids], params, use_tqdm=False))


def count(outputs: list[Any]) -> int:
    return sum(len(output.outputs[0].token_ids) for output in outputs)


def part_vllm(work: Path) -> Row:
    """The path of `tsr generate`, row store included, against vLLM alone; on two sizes of model."""
    return {name: generate_against_vllm(work, name, *how) for name, how in {"tiny": (90, 32), "20M": (45, 8)}.items()}


def generate_against_vllm(work: Path, name: str, prompt_tokens: int, new_tokens: int) -> Row:
    folder = random_model(work / name, **SHAPES[name])
    backend = vllm_backend(folder)
    prompts = prompts_of(letters(i, prompt_tokens) for i in range(500))
    asked = answering(backend, prompts, SamplingParams(0.8, 1.0, new_tokens), 4)
    requests, bare = list(asked), BareVllm(folder, backend._engine._never)
    ids = [list(backend._engine._chat.encode(request.messages)) for request in requests]
    runs: Runs = {
        "tsr, row store included": lambda: completed(backend, asked, stored=True),
        "LLM.chat": lambda: bare.chat(requests),
        "LLM.generate from tokens": lambda: bare.tokens(requests, ids),
    }
    drain(backend.complete(requests[:64])), bare.chat(requests[:64])
    seconds = timed(runs, 3)
    ours, *others = runs
    return {
        "model_parameters": parameters(folder),
        "requests": len(requests),
        "prompt_tokens": len(ids[0]),
        "new_tokens": new_tokens,
        "times_the_throughput_of": {other: times_faster(seconds, ours, other) for other in others},
        "median_seconds": medians(seconds),
    }


def part_vllm_judging(work: Path) -> Row:
    """Judge prompts, a shared head of 300 tokens: prefix caching on or off, 64 tokens or one."""
    folder = random_model(work / "20M", **SHAPES["20M"])
    on, off = vllm_backend(folder), vllm_backend(folder, caching=False)
    heads = [letters(10**6, 300) + letters(i, 30) for i in range(60)]
    one, long = SamplingParams(0.0, 1.0, 1, DIGITS), SamplingParams(0.8, 1.0, 64, DIGITS, "=")

    def ask(backend: Any, how: SamplingParams) -> Callable[[], int]:
        requests = [Request(f"{i}", [{"role": "user", "content": h}], 2**61 + i, how) for i, h in enumerate(heads)]
        return lambda: completed(backend, requests)

    runs: Runs = {"one token": ask(on, one), "64 tokens": ask(on, long)}
    runs |= {"one token, no caching": ask(off, one), "64 tokens, no caching": ask(off, long)}
    seconds = timed(runs, 3)
    return {
        "model_parameters": parameters(folder),
        "requests": len(heads),
        "prompt": "a shared head of 300 tokens, a tail of 30",
        "prefix_caching_times_the_throughput": {
            name: times_faster(seconds, name, f"{name}, no caching") for name in ("one token", "64 tokens")
        },
        "one_token_times_the_throughput_of_64": times_faster(seconds, "one token", "64 tokens"),
        "median_seconds": medians(seconds),
    }


# --- memory and the row store ---


class Trivial:
    """Answers at once, a thousand characters each."""

    name, model_hash, template_hash, version = "trivial", "m", "t", "v"

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for r in requests:
            yield Completion(r.request_id, f"{r.seed:020}" + "x" * 980, "stop", 100, 250, -123.456)

    def close(self) -> None:
        pass


def mib_above(run: Callable[[], Any]) -> float:
    """Return by how many MiB a run lifts this process above what it had; the peak counts."""
    import psutil

    before = psutil.Process().memory_info().rss
    run()
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before / 2**20, 1)


def part_memory_table(work: Path, requests: int = 100_000) -> Row:
    """Requests through the row store into a table, the model left out."""
    prompts = prompts_of(letters(i, 90) for i in range(requests // 5))
    how = Generate(
        backend="transformers", max_failed_share=0.0, temperature=0.8, top_p=1.0, max_new_tokens=250, samples=5
    )
    mib = mib_above(lambda: generate(7, how, "M0", prompts, Trivial(), new_work()))
    return {"requests": requests, "characters_a_response": 1000, "peak_mib_above_start": mib}


def memory_embedded(work: Path, requests: int) -> float:
    """Return the MiB that the embedded backend takes for a stream of requests."""
    from stages.runtime import prepare_torch

    prepare_torch()
    folder = random_model(work / "tiny", **SHAPES["tiny"] | {"hidden_size": 32})
    backend = embedded(folder)

    def stream(count: int) -> Iterator[Request]:
        for i in range(count):
            yield Request(f"{i}", [{"role": "user", "content": letters(i, 5 + i % 20)}], i, ANSWER)

    drain(backend.complete(stream(64)))
    return mib_above(lambda: drain(backend.complete(stream(requests))))


def part_memory_embedded(work: Path) -> Row:
    """The embedded backend over few and many requests, each in a fresh process."""
    code = "import sys, bench_engines as b; print(b.memory_embedded(b.Path(sys.argv[1]), int(sys.argv[2])))"
    mib = {}
    for requests in (2_000, 20_000, 60_000):
        command = [sys.executable, "-c", code, str(work), str(requests)]
        done = subprocess.run(command, cwd=Path(__file__).parent, check=True, capture_output=True, text=True)
        mib[f"{requests}"] = float(done.stdout.split()[-1])
    return {"peak_mib_above_start_by_requests": mib}


def part_row_store(work: Path, requests: int = 20_000) -> Row:
    """What keeping rows costs, and what a run costs whose rows are all there."""
    prompts = prompts_of(letters(i, 90) for i in range(requests // 5))
    asked = answering(Trivial(), prompts, ANSWER, 5)
    runs: Runs = {"without": lambda: drain(Trivial().complete(asked))}
    runs["kept"] = lambda: drain(new_work().complete(Trivial(), asked))
    full = new_work()
    drain(full.complete(Trivial(), asked))
    runs["reused"] = lambda: drain(full.complete(Trivial(), asked))
    seconds = medians(timed(runs))
    folder, real = micro(work)
    backend = embedded(folder)
    answers = answering(backend, real, ANSWER, SAMPLES)
    drain(backend.complete(list(answers)[:128]))
    pairs = []
    for _ in range(REPEATS):
        stores = new_work()
        again = timed({"first": lambda s=stores: drain(s.complete(backend, answers))}, 1)
        again |= timed({"reused": lambda s=stores: drain(s.complete(backend, answers))}, 1)
        pairs.append(again["reused"][0] / again["first"][0])
    return {
        "requests": requests,
        "characters_a_response": 1000,
        "microseconds_a_request": {
            name: round((seconds[name] - seconds["without"]) * 1e6 / requests, 1) for name in ("kept", "reused")
        },
        "micro_model": {
            "model_parameters": parameters(folder),
            "requests": len(answers),
            "reused_run_to_first": round(statistics.median(pairs), 3),
        },
    }


PARTS: dict[str, tuple[Callable[[Path], Row], str]] = {  # with the package that it needs
    "embedded_against_generate": (part_embedded, "transformers"),
    "embedded_judging": (part_judging, "transformers"),
    "row_store": (part_row_store, "transformers"),
    "memory_of_a_table": (part_memory_table, "polars"),
    "memory_of_embedded": (part_memory_embedded, "transformers"),
    "vllm_judging": (part_vllm_judging, "vllm"),
    "tsr_against_vllm": (part_vllm, "vllm"),
}


def in_process(name: str) -> Row:
    """Run a part in a process of its own and return what it measured."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        env = os.environ | {"TMPDIR": folder}
        subprocess.run([sys.executable, __file__, "--part", name, folder, str(out)], env=env, check=True)
        result: Row = json.loads(out.read_text())
        return result


def main(names: list[str]) -> None:
    """Measure and merge into reports/benchmarks.json."""
    target = ROOT / "reports" / "benchmarks.json"
    for name in names or PARTS:
        if find_spec(PARTS[name][1]) is None:
            print(f"{name}: skipped, {PARTS[name][1]} is not installed", flush=True)
            continue
        measured = in_process(name)
        print(json.dumps({name: measured}, indent=2), flush=True)
        old = json.loads(target.read_text()) if target.exists() else {}
        about = {"threads": 1, "cores": os.cpu_count(), "machine": platform.machine()}
        about["how"] = (
            f"python tests/bench_engines.py; processor seconds, in turns, medians of {REPEATS}, with vLLM of 3"
        )
        result = {"engines": old.get("engines", {}) | {name: measured, "measured_on": about}}
        if name == "embedded_judging":
            result["judging_seconds_per_1000"] = measured["seconds_per_1000"]
        target.write_text(json.dumps(old | result, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        part, folder, out = sys.argv[2:]
        Path(out).write_text(json.dumps(PARTS[part][0](Path(folder))))
    else:
        main(sys.argv[1:])
