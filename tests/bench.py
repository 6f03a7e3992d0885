"""`make bench`: what the default run costs, and where the time goes. Writes reports/benchmarks.json.

Runs in a clone of the committed tree, from nothing; the clone is kept if a folder for it is named.
Absolute times are of one machine and one day; read the shares and ratios.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 5
IMPORTS = {
    "torch": "import torch",
    "transformers model": "from transformers import LlamaForCausalLM",
    "TRL DPOTrainer": "from trl import DPOTrainer",
    "polars and duckdb": "import polars, duckdb",
}
STARTS = {"tsr --help": ["--help"], "tsr plan --check": ["plan", "--check"]}


def seconds(command: list[str], cwd: Path, **env: str) -> float:
    """Return the wall seconds of a command that must succeed."""
    start = time.monotonic()
    subprocess.run(command, cwd=cwd, env=os.environ | env, check=True, capture_output=True)
    return time.monotonic() - start


def median_seconds(command: list[str], cwd: Path) -> float:
    """Return the median wall seconds of REPEATS runs."""
    return statistics.median(seconds(command, cwd) for _ in range(REPEATS))


class PeakMemory(threading.Thread):
    """Samples the resident memory of this process and all below it, ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        """Sample until stopped."""
        me = psutil.Process()
        while not self.stopped.wait(0.1):
            self.peak = max(self.peak, sum(_rss(p) for p in [me, *me.children(recursive=True)]))


def _rss(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def default_run(clone: Path) -> dict[str, Any]:
    """Run `dvc repro` from nothing and again; return times, peak memory and where the time went.

    The estimate of the imports is processes times the median of an import alone.
    """
    timings = clone / "timings.jsonl"
    memory = PeakMemory()
    memory.start()
    total = seconds(["dvc", "repro", "-q"], clone, TSR_TIMINGS=str(timings))
    memory.stopped.set()
    rows = [json.loads(line) for line in timings.read_text().splitlines()]
    model = sum(row["model_seconds"] for row in rows)
    in_stages = sum(row["seconds"] for row in rows)
    imports = sum(_import_seconds(row) for row in rows)
    return {
        "seconds": round(total, 1),
        "peak_mib": round(memory.peak / 2**20),
        "peak_mib_of_one_stage": round(max(row["peak_mib"] for row in rows)),
        "stages": len(rows),
        "model_processes": sum(row["model_seconds"] > 0 for row in rows),
        "share_outside_model": round(1 - model / total, 3),
        "spent_outside_model_seconds": {
            "in stages: imports above all, then loading, saving, SQL": round(in_stages - model, 1),
            "around stages: DVC's graph, hashing and lock file, process start and end": round(total - in_stages, 1),
        },
        "imports_seconds_by_estimate": round(imports, 1),
        "seconds_by_stage": _by_stage(rows, _tokens(clone)),
        "noop_seconds": round(median_seconds(["dvc", "repro", "-q"], clone), 2),
        "pair_seconds": round(median_seconds(_pair_command(clone), clone), 2),
        "report_seconds": round(median_seconds(["tsr", "report"], clone), 2),
    }


_IMPORT_COST: dict[str, float] = {}


def _import_seconds(row: dict[str, Any]) -> float:
    kind = {"sft": "TRL DPOTrainer", "dpo": "TRL DPOTrainer"}.get(row["command"][0], "transformers model")
    is_model = row["command"][0] in {"base", "sft", "generate", "judge", "dpo", "measure", "evaluate"}
    return _IMPORT_COST[kind] if is_model else 0.0


def _tokens(clone: Path) -> dict[str, float]:
    """Return the tokens that each kind of stage read, wrote and trained on: `tsr forecast` makes rates of them."""
    told = subprocess.run(["tsr", "forecast", "--format", "json"], cwd=clone, check=True, capture_output=True)
    counted: dict[str, float] = {}
    for stage in json.loads(told.stdout)["stages"]:
        kind = stage["stage"].partition("@")[0]
        tokens = sum(stage[name] for name in ("read", "written", "trained", "forward"))
        counted[kind] = counted.get(kind, 0) + tokens
    return counted


def _by_stage(rows: list[dict[str, Any]], tokens: dict[str, float]) -> dict[str, dict[str, float]]:
    names = list(dict.fromkeys(row["command"][0] for row in rows))
    return {
        name: {
            "runs": sum(r["command"][0] == name for r in rows),
            "seconds": round(sum(r["seconds"] for r in rows if r["command"][0] == name), 1),
            "model_seconds": round(sum(r["model_seconds"] for r in rows if r["command"][0] == name), 1),
            "tokens": round(tokens.get(name, 0)),
        }
        for name in names
    }


def _pair_command(clone: Path) -> list[str]:
    import yaml

    name, row = next(iter(yaml.safe_load((clone / "stages/plan.yaml").read_text())["learns"].items()))
    options = [x for key in ("strategy", "judge", "split", "own", "anchor", "future") for x in (f"--{key}", row[key])]
    return ["tsr", "pair", name, *options]


def main() -> None:
    """Measure and write reports/benchmarks.json."""
    imports = {name: median_seconds([sys.executable, "-c", code], ROOT) for name, code in IMPORTS.items()}
    _IMPORT_COST.update(imports)
    starts = {name: round(median_seconds(["tsr", *arguments], ROOT), 2) for name, arguments in STARTS.items()}
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(sys.argv[1] if len(sys.argv) > 1 else folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        # The clone's own code, not that of the installed checkout.
        os.environ["PYTHONPATH"] = str(clone)
        run = default_run(clone)
    result = {
        "default_run": run,
        "start_seconds": starts,
        "import_seconds": {name: round(value, 2) for name, value in imports.items()},
        "measured_on": {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "omp_threads": os.environ.get("OMP_NUM_THREADS", "unset"),
            "python": platform.python_version(),
        },
        "how": f"make bench; medians of {REPEATS}, the run itself once",
    }
    target = ROOT / "reports" / "benchmarks.json"
    old = json.loads(target.read_text()) if target.exists() else {}
    target.write_text(json.dumps(old | result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
