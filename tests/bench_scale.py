"""What scoring and pairing cost as the data grows: `python tests/bench_scale.py [FOLDER [PROMPTS ...]]`.

A round of TSR with 10 thousand to a million prompts, 7 + 7 + 7 responses to each and 3 votes on each response
(tests/scale_data.py); then stage score on all three models and stage pair by `future_guided`, and the same rule as most
would write it (tests/scale_engines.py), at the sizes that this machine's memory holds. Each run has a process of its
own. Seconds are of one machine and one day, so read the ratios. A named folder keeps the data.
Merges into reports/benchmarks.json and writes the tables of docs/scale.md.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
import scale_data
import scale_engines
from polars.testing import assert_frame_equal

from stages import paths, tables
from stages.candidates import Sides
from stages.pair import run as run_pair
from stages.params import Pair
from stages.parsing import Reading
from stages.score import score_files

ROOT = Path(__file__).resolve().parent.parent
JSON, DOCS = ROOT / "reports" / "benchmarks.json", ROOT / "docs" / "scale.md"
MARKS = ("<!-- scale:begin -->", "<!-- scale:end -->")
SIZES = (10_000, 30_000, 100_000, 1_000_000)
OTHERS = {"polars": scale_engines.in_polars, "pandas": scale_engines.in_pandas, "dicts": scale_engines.in_dicts}
HOLDS = 100_000  # prompts whose texts the others can have in memory
COMPARED = 10_000  # prompts at which the tables are compared row for row
SIDES = Sides(scale_data.JUDGE, scale_data.SPLIT, own="tsr-1", anchor="M0", future="tsr-f2")

Row = dict[str, Any]


def ours(data: Path) -> Row:
    """Run the stages on the tables under `data`; return the seconds of each."""
    os.environ["TSR_DATA"] = str(data)
    start = time.perf_counter()
    for model in scale_data.MODELS:
        asked = paths.generations(model, scale_data.SPLIT)
        judged = paths.judgments(scale_data.JUDGE, model, scale_data.SPLIT)
        scored = score_files(Reading("additive", 0.5), "votes", 3, scale_data.JUDGE, asked, judged)
        tables.write_parts("scores", scored, paths.scores(scale_data.JUDGE, model, scale_data.SPLIT))
    between = time.perf_counter()
    run_pair(Pair(min_gap=0.0, parameters={}), scale_engines.NAME, scale_engines.STRATEGY, SIDES)
    return {"score_seconds": round(between - start, 1), "pair_seconds": round(time.perf_counter() - between, 1)}


def measured(engine: str, data: Path) -> Row:
    """Return the wall and processor seconds of a run in this process, and its peak memory."""
    start, spent = time.perf_counter(), time.process_time()
    more = ours(data) if engine == "tsr" else OTHERS[engine](data, data / engine) or {}
    wall, busy = time.perf_counter() - start, time.process_time() - spent
    return {"seconds": round(wall, 1), "processor_seconds": round(busy, 1), "peak_mib": round(peak_mib())} | more


def peak_mib() -> float:
    """Return the most memory that this process has had resident."""
    status = Path("/proc/self/status")
    if status.exists():  # of this program alone; the other knows also of what ran in the process before it
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def compare(data: Path, engine: str) -> int:
    """Return how many rows an engine wrote, having checked that the stages wrote the same."""
    judge, split, name = scale_data.JUDGE, scale_data.SPLIT, scale_engines.NAME
    pairs_of = {f"{kind}.parquet": data / kind / f"{name}.parquet" for kind in ("pairs", "dropped")}
    scores_of = {
        f"{model}.parquet": data / "scores" / judge / model / f"{split}.parquet" for model in scale_data.MODELS
    }
    rows = 0
    for theirs, path in (scores_of | pairs_of).items():
        known, other = pl.read_parquet(path), pl.read_parquet(data / engine / theirs)
        assert_frame_equal(
            known, other, rel_tol=0, abs_tol=1e-12
        )  # the deviation's last digits hang on how it is summed
        rows += known.height
    return rows


def in_process(engine: str, data: Path) -> Row:
    """Run `measured` in a process of its own."""
    command = [sys.executable, __file__, "--run", engine, str(data)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: Row = json.loads(told.splitlines()[-1])
    return result


def at_size(data: Path, prompts: int) -> Row:
    """Return what each engine costs at one size."""
    if not (data / "prompts").exists():
        print(f"building {prompts} prompts", flush=True)
        scale_data.build(data, prompts)
    engines = {"tsr": in_process("tsr", data)}
    print(prompts, engines, flush=True)
    for engine in OTHERS if prompts <= HOLDS else ():
        told = engines[engine] = in_process(engine, data)
        told["times_our_seconds"] = round(told["seconds"] / engines["tsr"]["seconds"], 2)
        told["times_our_processor_seconds"] = round(told["processor_seconds"] / engines["tsr"]["processor_seconds"], 2)
        told["times_our_memory"] = round(told["peak_mib"] / engines["tsr"]["peak_mib"], 2)
        if prompts == COMPARED:
            told["equal_rows"] = compare(data, engine)
        print(prompts, engine, told, flush=True)
    files = [path for part in ("prompts", "generations", "judgments") for path in (data / part).rglob("*.parquet")]
    judgments = pl.scan_parquet(data / "judgments" / "**" / "*.parquet").select(pl.len()).collect().item()
    gib = sum(path.stat().st_size for path in files) / 2**30
    return {"judgments": judgments, "input_gib": round(gib, 2), "engines": engines}


def markdown(curve: Row) -> str:
    """Return the tables of docs/scale.md."""
    lines = [
        "| prompts | judgments | files, GiB | score, s | pair, s | both, s | processor seconds | peak memory, GiB |"
    ]
    lines.append("|---" * 8 + "|")
    for size, row in curve.items():
        ours = row["engines"]["tsr"]
        cells = [
            f"{int(size):,}",
            f"{row['judgments']:,}",
            row["input_gib"],
            ours["score_seconds"],
            ours["pair_seconds"],
        ]
        cells += [ours["seconds"], ours["processor_seconds"], f"{ours['peak_mib'] / 1024:.2f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", "| prompts | engine | seconds | processor seconds | peak memory, GiB | times our seconds |"]
    lines[-1] += " times our processor seconds | times our memory |"
    lines.append("|---" * 8 + "|")
    for size, row in curve.items():
        for engine in (name for name in OTHERS if name in row["engines"]):
            told = row["engines"][engine]
            cells = [
                f"{int(size):,}",
                engine,
                told["seconds"],
                told["processor_seconds"],
                f"{told['peak_mib'] / 1024:.2f}",
            ]
            cells += [told[f"times_our_{what}"] for what in ("seconds", "processor_seconds", "memory")]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main(folder: str = "", *sizes: str) -> None:
    """Measure, merge into reports/benchmarks.json, and write the tables between the marks in docs/scale.md."""
    with tempfile.TemporaryDirectory() as temporary:
        for size in map(int, sizes or SIZES):
            keep(size, at_size(Path(folder or temporary) / str(size), size))


def keep(size: int, told: Row) -> None:
    old = json.loads(JSON.read_text()) if JSON.exists() else {}
    curve = old.get("scale", {}).get("prompts", {}) | {str(size): told}
    curve = dict(sorted(curve.items(), key=lambda item: int(item[0])))
    about = {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "how": "python tests/bench_scale.py; each run once",
    }
    JSON.write_text(json.dumps(old | {"scale": {"prompts": curve, "measured_on": about}}, indent=2) + "\n")
    before, rest = DOCS.read_text().split(MARKS[0])
    DOCS.write_text(f"{before}{MARKS[0]}\n{markdown(curve)}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        print(json.dumps(measured(sys.argv[2], Path(sys.argv[3]))))
    else:
        main(*sys.argv[1:])
