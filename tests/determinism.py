"""What a row depends on beside its request, by engine: `python tests/determinism.py [ENGINE ...]`.

Completes the same requests again under other conditions and counts the rows whose text, and whose log-probabilities
in any bit, differ. Writes reports/determinism.json and the tables in docs/engines.md. An engine whose packages are
missing keeps what was measured of it before.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1", "NO_PROXY": "127.0.0.1"}

ROOT = Path(__file__).resolve().parent.parent
JSON, DOCS = ROOT / "reports" / "determinism.json", ROOT / "docs" / "engines.md"
MARKS = "<!-- determinism:begin -->", "<!-- determinism:end -->"
REQUESTS = 320
SHAPE: dict[str, Any] = {"hidden_size": 256, "layers": 4, "heads": 8, "context": 256, "init_std": 0.06}
ENGINES = {"transformers": "torch", "vllm": "vllm", "openai": "vllm"}  # with the package that each needs

Run = dict[str, Any]
Row = dict[str, Any]
Rows = dict[str, list[Any]]  # request_id -> text, log-probabilities; JSON keeps floats to the last bit

# --- one process: opens an engine, goes through runs, writes what each gave ---


def requests(run: Run) -> list[Any]:
    """Return the requests of a run: short and long ones, half of them with one long head."""
    from stages.backends import Request, SamplingParams

    sampling = SamplingParams(0.8, 0.95, 24, score_tokens=tuple("012345"))
    made = []
    for i in range(REQUESTS):
        text = "".join("abcdefghijklmnopqrstuvwxyz"[(i * 31 + k * (k + i)) % 26] for k in range(3 + i // 2 % 8 * 9))
        head = "the same head of all of these " * 3 if i % 2 else ""
        made.append(Request(f"{i}", [{"role": "user", "content": head + text}], 2**62 + i * 104729, sampling))
    if run.get("order") == "shuffled":
        made.sort(key=lambda request: int(request.request_id) * 7919 % 1009)
    return made[run.get("first", 0) :: run.get("step", 1)]


def opened(run: Run, folder: Path) -> Any:
    """Return the backend for a run."""
    from importlib import import_module

    name = run["engine"]
    module = import_module(f"stages.backends.{name}")
    if name == "transformers":
        settings: dict[str, Any] = {"tile_rows": run.get("batch", 32), "dtype": "float32", "device": "cpu"}
    elif name == "vllm":
        settings = {
            "dtype": "float32", "max_model_len": 0, "max_num_seqs": run.get("batch", 64), "block_size": 32,
            "max_num_batched_tokens": 8192, "kv_cache_gib": 0.5, "gpu_memory_utilization": 0.5, "enforce_eager": True,
            "prefix_caching": run.get("caching", True), "tensor_parallel_size": 1,
        }  # fmt: skip
    else:
        settings = {
            "base_url": run["url"], "api_key_env": "NO_KEY", "concurrency": run.get("batch", 16), "timeout_s": 300,
            "retries": 0, "budget_tokens": 0, "logprobs": True,
        }  # fmt: skip
    return module.open_backend(folder, module.Settings(**settings))


def child(runs: list[Run], folder: Path) -> list[Any]:
    """Return (seconds, rows) of each run."""
    backend, last, out = None, None, []
    for run in runs:
        key = {k: v for k, v in run.items() if k in {"engine", "batch", "caching", "url"}}
        if backend is None or key != last:
            if backend is not None:
                backend.close()
            backend, last = opened(run, folder), key
            list(backend.complete(requests(run)[:8]))  # load and warm up
        if run["engine"] == "transformers" and "threads" in run:
            import torch

            torch.set_num_threads(run["threads"])  # the stage itself never has more than one
        start = time.perf_counter()
        done = list(backend.complete(requests(run)))
        seconds = time.perf_counter() - start
        out.append((seconds, {c.request_id: [c.text, c.logprob_sum, *(c.score_logprobs or ())] for c in done}))
    return out


# --- the parent ---


def started(runs: list[Run], folder: Path, **env: str) -> Any:
    out = tempfile.NamedTemporaryFile(suffix=".json", dir=folder.parent, delete=False)  # noqa: SIM115
    command = [sys.executable, __file__, "--child", json.dumps(runs), str(folder), out.name]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"} | env), out.name


def finished(process: Any) -> list[Any]:
    if process[0].wait(500):
        raise SystemExit(f"a measuring process failed with {process[0].returncode}")
    got: list[Any] = json.loads(Path(process[1]).read_text())
    return got


def measured(runs: list[Run], folder: Path, **env: str) -> list[Any]:
    return finished(started(runs, folder, **env))


def compared(whole: Rows, other: Rows) -> Row:
    """Return how many of the rows of `other` differ from those of the same name in `whole`, and by how much."""
    pairs = [(whole[name], row) for name, row in other.items()]
    texts = sum(a[0] != b[0] for a, b in pairs)
    bits = sum(a[1:] != b[1:] for a, b in pairs)
    same = [(a, b) for a, b in pairs if a[0] == b[0]]
    return {"rows": len(pairs), "text": texts, "bits": bits, "largest": max((gap(a, b) for a, b in same), default=0.0)}


def gap(a: list[Any], b: list[Any]) -> float:
    """Return the largest difference of log-probabilities between two rows of one text."""
    values = [abs(a[1] - b[1])]
    other = dict(b[2:])
    return max(values + [abs(value - other[token]) for token, value in a[2:] if token in other])


def two_halves(engine: str, folder: Path, **more: Any) -> Rows:
    halves = [started([{"engine": engine, "first": k, "step": 2, **more}], folder) for k in range(2)]
    return {k: v for half in halves for k, v in finished(half)[0][1].items()}


def variants(engine: str, batches: tuple[int, ...], **more: Any) -> dict[str, Run]:
    """Return what is varied inside one process."""
    base = {"engine": engine, **more}
    made = {"whole": base, "same process, again": base}
    made["other order"] = base | {"order": "shuffled"}
    made["a third of the rows alone"] = base | {"first": 1, "step": 3}
    for batch in batches:
        made[f"batches: {BATCH[engine]} {batch}"] = base | {"batch": batch}
    return made


BATCH = {"transformers": "tile_rows", "vllm": "max_num_seqs", "openai": "concurrency"}


def table_of(names: list[str], got: list[Any]) -> tuple[Rows, dict[str, Row]]:
    rows = dict(zip(names, (rows for _, rows in got), strict=True))
    whole = rows.pop("whole")
    return whole, {name: compared(whole, other) for name, other in rows.items()}


def of_transformers(folder: Path) -> Row:
    one = variants("transformers", (8, 128))
    whole, table = table_of(list(one), measured(list(one.values()), folder))
    base: Run = {"engine": "transformers"}
    table["another process"] = compared(whole, measured([base], folder)[0][1])
    table["two processes, half of the rows each"] = compared(whole, two_halves("transformers", folder))
    two = {name: run | {"threads": 2} for name, run in one.items()}
    got = measured(list(two.values()), folder)
    table["2 threads"] = compared(whole, got[0][1])
    moved = table_of(list(two), got)[1]
    quiet = is_quiet()
    turns = [s for s, _ in measured([base | {"threads": t} for _ in range(4) for t in (1, 2)], folder)]
    kept = ratio(turns[1::2], turns[::2], quiet=quiet)
    settings = [{"setting": "one thread (always)", "without it": worst(moved), "throughput kept": kept}]
    return {"rows": table, "settings": settings}


def of_vllm(folder: Path) -> Row:
    one = variants("vllm", (16, 256)) | {"prefix caching off": {"engine": "vllm", "caching": False}}
    whole, table = table_of(list(one), measured(list(one.values()), folder))
    base: Run = {"engine": "vllm"}
    table["another process"] = compared(whole, measured([base], folder)[0][1])
    table["two processes, half of the rows each"] = compared(whole, two_halves("vllm", folder))
    moved, seconds, quiet = {}, {}, is_quiet()
    for threads, split in (("1", "0"), ("2", "0"), ("2", "1")):
        env = {"OMP_NUM_THREADS": threads, "VLLM_CPU_ATTN_SPLIT_KV": split, "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        plan = one | {f"time {i}": base for i in range(4)}
        got = measured(list(plan.values()), folder, **env)
        if threads == "2":
            name = "2 threads, VLLM_CPU_ATTN_SPLIT_KV=0" if split == "0" else "2 threads"
            table[name] = compared(whole, got[0][1])
        moved[threads, split] = table_of(list(plan), got)[1]
        seconds[threads, split] = [s for s, _ in got[-4:]]
    without, lost = seconds["2", "1"], worst(moved["2", "1"])
    kept = {key: ratio(without, took, quiet=quiet) for key, took in seconds.items()}
    settings = [
        {"setting": "one thread (the default here)", "throughput kept": kept["1", "0"]},
        {"setting": "VLLM_CPU_ATTN_SPLIT_KV=0 (the default here)", "throughput kept": kept["2", "0"]},
    ]
    settings = [row | {"without it": lost} for row in settings]
    return {"rows": table, "settings": settings}


def of_openai(folder: Path) -> Row:
    with served(folder, "1") as url:
        one = variants("openai", (2, 64), url=url)
        whole, table = table_of(list(one), measured(list(one.values()), folder))
        base = {"engine": "openai", "url": url}
        table["another process"] = compared(whole, measured([base], folder)[0][1])
        table["two processes, half of the rows each"] = compared(whole, two_halves("openai", folder, url=url))
        quiet = is_quiet()
        one_thread = [s for s, _ in measured([base] * 4, folder)]
    with served(folder, "1", "--no-enable-prefix-caching") as url:
        got = measured([{"engine": "openai", "url": url}], folder)
        table["prefix caching off"] = compared(whole, got[0][1])
    with served(folder, "2") as url:
        two = {name: run | {"url": url} for name, run in one.items()}
        got = measured(list(two.values()), folder)
        table["2 threads"] = compared(whole, got[0][1])
        moved = table_of(list(two), got)[1]
        without = [s for s, _ in measured([{"engine": "openai", "url": url}] * 4, folder)]
    with served(folder, "2", VLLM_CPU_ATTN_SPLIT_KV="0") as url:
        two = {name: run | {"url": url} for name, run in one.items()}
        table["2 threads, VLLM_CPU_ATTN_SPLIT_KV=0"] = worst(table_of_other(whole, two, folder))
        split = [s for s, _ in measured([{"engine": "openai", "url": url}] * 4, folder)]
    settings = [
        {
            "setting": "a server of one thread, OMP_NUM_THREADS=1",
            "throughput kept": ratio(without, one_thread, quiet=quiet),
        },
        {"setting": "a server with VLLM_CPU_ATTN_SPLIT_KV=0", "throughput kept": ratio(without, split, quiet=quiet)},
    ]
    return {"rows": table, "settings": [row | {"without it": worst(moved)} for row in settings]}


def table_of_other(whole: Rows, runs: dict[str, Run], folder: Path) -> dict[str, Row]:
    """Return how the rows of all runs compare with `whole`."""
    got = measured(list(runs.values()), folder)
    return {name: compared(whole, rows) for name, (_, rows) in zip(runs, got, strict=True)}


def worst(table: dict[str, Row]) -> Row:
    """Return the comparison in which most rows moved."""
    return max(table.values(), key=lambda row: (row["bits"], row["text"]))


def is_quiet() -> bool:
    """Return whether nothing else computes: where others do, two threads wait for each other, and times say nothing."""
    import psutil

    return bool(psutil.cpu_percent(interval=3) < 10)


def ratio(without: list[float], took: list[float], *, quiet: bool) -> float | None:
    """Return the throughput of runs over that of those `without`, by the fastest; None on a busy machine."""
    return round(min(without) / min(took), 3) if quiet and is_quiet() else None


@contextmanager
def served(folder: Path, threads: str, *more: str, **variables: str) -> Iterator[str]:
    """A real vLLM server on this machine, and its URL."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    arguments = f"""--model {folder} --served-model-name {folder.name} --host 127.0.0.1 --port {port} --dtype float32
        --enforce-eager --block-size 32 --no-enable-chunked-prefill --max-num-batched-tokens 8192 --max-num-seqs 64
        --kv-cache-memory-bytes {1 << 29} --generation-config vllm""".split()
    env = {"OMP_NUM_THREADS": threads, "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"} | variables
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments, *more]
    with (folder.parent / "server.log").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | env, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        for how in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, how)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)


def wait_for(url: str, process: Any, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            urlopen(url, timeout=5).close()
            return
        except (URLError, OSError):
            time.sleep(0.5)
    raise SystemExit("the vLLM server did not start")


# --- the tables ---


def cell(row: Row | None) -> str:
    if row is None:
        return "—"
    if not row["text"] and not row["bits"]:
        return f"0 of {row['rows']}"
    return f"text {row['text']}, bits {row['bits']} of {row['rows']}; by {row['largest']:.0e} at most"


HEADS = {"transformers": "transformers", "vllm": "vllm on the CPU", "openai": "openai, a vLLM server on the CPU"}


def markdown(told: Row) -> str:
    """Return the tables of what was measured."""
    engines = [name for name in ENGINES if name in told["engines"]]
    names = list(dict.fromkeys(n for e in engines for n in told["engines"][e]["rows"] if not n.startswith("batches")))
    lines = [
        f"{REQUESTS} requests of {told['prompt_lengths']} prompt tokens, temperature 0.8, up to 24 new tokens, a "
        f"random Llama of {told['model_parameters']:,} parameters, one thread where nothing else is said: rows that "
        "differ in text, and in the bits of any log-probability.",
        "",
        "| what is other | " + " | ".join(HEADS[e] for e in engines) + " |",
        "|---" * (len(engines) + 1) + "|",
    ]
    for name in names:
        lines.append(f"| {name} | " + " | ".join(cell(told["engines"][e]["rows"].get(name)) for e in engines) + " |")
    for which, label in enumerate(("smaller batches", "larger batches")):
        cells = []
        for engine in engines:
            name, row = [x for x in told["engines"][engine]["rows"].items() if x[0].startswith("batches")][which]
            cells.append(f"{cell(row)} ({name.removeprefix('batches: ')})")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| engine | setting | rows that move at 2 threads without it | throughput, as a share of that without it |",
        "|---|---|---|---|",
    ]
    for engine in engines:
        for row in told["engines"][engine]["settings"]:
            kept = "the machine was busy" if (share := row["throughput kept"]) is None else f"{share:.0%}"
            lines.append(f"| {HEADS[engine]} | {row['setting']} | {cell(row['without it'])} | {kept} |")
    return "\n".join(lines)


def fill(told: Row) -> None:
    """Write the tables between the marks in docs/engines.md."""
    text = DOCS.read_text() if DOCS.exists() else "# Engines\n\n" + "\n".join(MARKS) + "\n"
    before, rest = text.split(MARKS[0])
    DOCS.write_text(f"{before}{MARKS[0]}\n{markdown(told)}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


def main(names: list[str]) -> None:
    """Measure, then write reports/determinism.json and the tables."""
    from stages import models, tiny_llama

    told: Row = json.loads(JSON.read_text()) if JSON.exists() else {"engines": {}}
    measure = {"transformers": of_transformers, "vllm": of_vllm, "openai": of_openai}
    with tempfile.TemporaryDirectory() as work:
        tokenizer, folder = tiny_llama.build_tokenizer(), Path(work) / "M0"
        model = tiny_llama.build_model(tokenizer, 1, **SHAPE)
        models.save(model, tokenizer, folder)
        sizes = [
            len(tokenizer.apply_chat_template(r.messages, add_generation_prompt=True, return_dict=True)["input_ids"])
            for r in requests({})
        ]
        told["model_parameters"] = sum(p.numel() for p in model.parameters())
        told["requests"], told["prompt_lengths"] = REQUESTS, f"{min(sizes)} to {max(sizes)}"
        for name in names or ENGINES:
            if find_spec(ENGINES[name]) is None or (name == "openai" and find_spec("openai") is None):
                print(f"{name}: skipped, its packages are not installed", flush=True)
                continue
            told["engines"][name] = measure[name](folder)
            print(json.dumps({name: told["engines"][name]}, indent=2), flush=True)
            JSON.write_text(json.dumps(told, indent=2) + "\n")
            fill(told)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        spec, folder, out = sys.argv[2:]
        Path(out).write_text(json.dumps(child(json.loads(spec), Path(folder))))
    else:
        main(sys.argv[1:])
