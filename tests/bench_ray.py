"""What many workers bring, and what one driver can take: `python tests/bench_ray.py`.

Merges into reports/benchmarks.json and writes the table of docs/ray.md. Seconds are those of the clock, as workers run
side by side: run it on a machine that does nothing else. One and two workers take turns, and medians are taken.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import faulty_engine
from bench_engines import SHAPES, embedded, letters, new_work, parameters, random_model

from stages.backends import Backend, Completion, Request, SamplingParams
from stages.backends import ray as many
from stages.backends.transformers import Settings as EmbeddedSettings

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
JSON, DOCS = ROOT / "reports" / "benchmarks.json", ROOT / "docs" / "ray.md"
REPEATS = 3
SIZES = {"rows": 2048, "batch_rows": 64, "driver_rows": 20_000, "batched_rows": 512}
CHARACTERS = 1000  # of a reply, where the driver is measured
BATCHES = (64, 256, 512)
ON_PAPER = (1, 2, 8, 64)
A_MILLION = 1_000_000
ANSWER = SamplingParams(temperature=0.8, top_p=1.0, max_new_tokens=12)
BEGIN, END = "<!-- ray:begin -->", "<!-- ray:end -->"

Row = dict[str, Any]


def requests_of(count: int) -> list[Request]:
    """Prompts of about 30 letters, four samples each."""
    texts = [letters(i // 4, 24 + i // 4 % 12) for i in range(count)]
    return [Request(f"{i:07}", [{"role": "user", "content": text}], i, ANSWER) for i, text in enumerate(texts)]


def workers_of(folder: Path, workers: int, batch_rows: int) -> many.RayBackend:
    """The backend over a cluster of our own, whose workers hold the embedded engine."""
    inner = EmbeddedSettings(tile_rows=64, dtype="float32", device="cpu")
    return many.open_backend(folder, _settings(workers, batch_rows).beside({"transformers": inner}))


def _settings(workers: int, batch_rows: int) -> many.Settings:
    return many.Settings(
        address="", workers=workers, cpus_per_worker=1, gpus_per_worker=0, engine="transformers", batch_rows=batch_rows
    )


def pace(completions: Iterable[Completion], batch_rows: int, workers: int) -> tuple[float, float]:
    """Return the seconds until the first batch was there, and the rows a second once each worker had done one.

    Counted from the first batch on, the second worker's first would come for nothing: it is nearly done by then.
    """
    begun = time.monotonic()
    came = [time.monotonic() for _ in completions]
    before = batch_rows * workers
    return came[0] - begun, (len(came) - before) / (came[-1] - came[before - 1])


def speed_up(folder: Path, rows: int, batch_rows: int) -> Row:
    """One worker against two, and against the engine without Ray."""
    requests = requests_of(rows)
    starts: list[float] = []
    rates: dict[str, list[float]] = {"1 worker": [], "2 workers": [], "without Ray": []}
    warm = embedded(folder)
    list(warm.complete(requests[:batch_rows]))
    for _ in range(REPEATS):
        for workers in (1, 2):
            start, rate = pace(workers_of(folder, workers, batch_rows).complete(requests), batch_rows, workers)
            starts.append(start)
            rates[f"{workers} worker{'s' * (workers > 1)}"].append(rate)
        begun = time.monotonic()
        list(warm.complete(requests))
        rates["without Ray"].append(rows / (time.monotonic() - begun))
    pairs = zip(rates["2 workers"], rates["1 worker"], strict=True)
    return {
        "rows": rows,
        "batch_rows": batch_rows,
        "model_parameters": parameters(folder),
        "rows_a_second": {name: round(statistics.median(values), 2) for name, values in rates.items()},
        "speed_up_of_two_workers": round(statistics.median(two / one for two, one in pairs), 3),
        "seconds_to_the_first_batch": round(statistics.median(starts), 2),
    }


def by_batch(folder: Path, rows: int) -> Row:
    """Rows a processor second of the engine alone, in batches of so many: rows of equal length run side by side."""
    requests, found = requests_of(rows), {}
    for size in BATCHES:
        engine = embedded(folder)
        list(engine.complete(requests_of(rows + 64)[rows:]))
        begun = time.process_time()
        for start in range(0, rows, size):
            list(engine.complete(requests[start : start + size]))
        found[str(size)] = round(rows / (time.process_time() - begun), 1)
    return {"rows": rows, "rows_a_processor_second": found}


class Heard:
    """Writes the shards, and answers from lines that are there: the driver's part of a run, without Ray and workers."""

    name, model_hash, template_hash, version = "heard", "m", "t", "v"

    def __init__(self, lines: list[str], folder: Path) -> None:
        self._lines, self._folder = lines, folder

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        many.write_shards(requests, self._folder, 512)
        return map(many.from_line, self._lines)

    def close(self) -> None:
        pass


def _driver_seconds(backend: Backend, requests: list[Request]) -> float:
    """Return the processor seconds that this process spends on a run, from requests to kept rows."""
    begun = time.process_time()
    count = sum(1 for _ in new_work().complete(backend, requests))
    assert count == len(requests)
    return time.process_time() - begun


def driver(work: Path, rows: int) -> Row:
    """What a row costs the driver: its own part, and a whole run whose workers answer at once."""
    requests = requests_of(rows)
    inner = faulty_engine.Settings(characters=CHARACTERS)
    lines = [many.to_line(done) for done in faulty_engine.Engine(inner).complete(requests)]
    alone, whole = [], []
    for turn in range(REPEATS):
        (shards := work / f"shards{turn}").mkdir()
        alone.append(_driver_seconds(Heard(lines, shards), requests))
        at_once = many.RayBackend(work, _settings(1, 512).beside({"transformers": inner}), "faulty_engine")
        whole.append(_driver_seconds(at_once, requests))
    return {
        "rows": rows,
        "characters_a_response": CHARACTERS,
        "microseconds_a_row": {
            "shards, completions, row store": round(statistics.median(alone) * 1e6 / rows, 1),
            "with Ray": round(statistics.median(whole) * 1e6 / rows, 1),
        },
        "rows_a_second": round(rows / statistics.median(whole)),
    }


def on_paper(measured: Row) -> list[Row]:
    """A million rows by the formula of docs/ray.md, with the measured rates of one worker and of the driver."""
    rate, most = measured["workers"]["rows_a_second"]["1 worker"], measured["driver"]["rows_a_second"]
    start, batch = measured["workers"]["seconds_to_the_first_batch"], measured["workers"]["batch_rows"]
    found = []
    for workers in ON_PAPER:
        seconds = start + A_MILLION / min(workers * rate, most) + batch / rate
        found.append({"workers": workers, "seconds": round(seconds), "share": A_MILLION / rate / workers / seconds})
    return found


def table(measured: Row) -> str:
    """The table of docs/ray.md."""
    workers, of_driver = measured["workers"], measured["driver"]
    rate, batched = workers["rows_a_second"], measured["by_batch"]["rows_a_processor_second"]
    lines = [
        f"A random Llama of {workers['model_parameters']:,} parameters, {workers['rows']:,} rows in batches of"
        f" {workers['batch_rows']}, {measured['measured_on']['cores']} cores: one worker makes {rate['1 worker']:g}"
        f" rows a second, two make {rate['2 workers']:g}, {workers['speed_up_of_two_workers']:g} times as many;"
        f" the engine without Ray, which gets all rows at once, makes {rate['without Ray']:g}. The first batch is there"
        f" after {workers['seconds_to_the_first_batch']:g} s. The driver spends"
        f" {of_driver['microseconds_a_row']['with Ray']:g} µs of processor time on a row of"
        f" {of_driver['characters_a_response']} characters, so it can take {of_driver['rows_a_second']:,} rows"
        " a second.",
        "",
        "It is the size of a batch that costs: alone, on one core, the engine makes"
        f" {', '.join(f'{value:g} rows a second in batches of {size}' for size, value in batched.items())}, for rows of"
        " equal length run side by side, and a small batch has few of each.",
        "",
        "| workers | seconds for a million rows, on paper | share of N times one worker |",
        "|---|---|---|",
    ]
    lines += [f"| {row['workers']} | {row['seconds']:,} | {row['share']:.0%} |" for row in on_paper(measured)]
    return "\n".join(lines)


def measure(rows: int, batch_rows: int, driver_rows: int, batched_rows: int) -> Row:
    """Measure all."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])  # the workers' engine
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)  # shards go to its `.tsr`
        try:
            from stages.runtime import prepare_torch

            prepare_torch()
            found: Row = {"driver": driver(Path(name), driver_rows)}
            model = random_model(Path(name) / "20M", **SHAPES["20M"])
            found["by_batch"] = by_batch(model, batched_rows)
            found["workers"] = speed_up(model, rows, batch_rows)
        finally:
            os.chdir(before)
    how = (
        f"python tests/bench_ray.py; clock seconds, in turns, medians of {REPEATS}; the driver's are processor seconds"
    )
    return found | {"measured_on": {"cores": os.cpu_count(), "machine": platform.machine(), "how": how}}


def main() -> None:
    """Measure, merge into reports/benchmarks.json, and write the table between the marks in docs/ray.md."""
    measured = measure(**SIZES)
    print(json.dumps(measured, indent=2), flush=True)
    old = json.loads(JSON.read_text()) if JSON.exists() else {}
    JSON.write_text(json.dumps(old | {"ray": measured}, indent=2) + "\n")
    before, rest = DOCS.read_text().split(BEGIN)
    DOCS.write_text(f"{before}{BEGIN}\n{table(measured)}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    sys.exit(main())
