"""Part of `make bench`: `dvc repro` beside `tsr run -j 2`, the plan from nothing. Adds `run` to benchmarks.json.

Each runs in a fresh clone of the committed tree, one after the other; both must end in the same dvc.lock. With a folder
as argument the clones stay there; with a second one, FOLDER PROJECT, that repository is measured and nothing written.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
JOBS = 2
WAYS = {"dvc repro": ["dvc", "repro", "-q"], "tsr run": ["tsr", "run", "-j", str(JOBS)]}


def measured(command: list[str], source: Path, clone: Path) -> dict[str, float]:
    """Return what a run from nothing costs, and what looking again costs when all is done."""
    subprocess.run(["git", "clone", "-q", str(source), str(clone)], check=True)
    env = os.environ | {"PYTHONPATH": str(clone), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    found = {}
    for what in ("seconds", "noop_seconds"):
        before, start = os.times(), time.monotonic()
        subprocess.run(command, cwd=clone, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = os.times()
        found[what] = round(time.monotonic() - start, 1)
        used = after.children_user + after.children_system - before.children_user - before.children_system
        found[what.replace("seconds", "processor_seconds")] = round(used, 1)
    return found


def compared(source: Path, folder: Path) -> dict[str, Any]:
    """Run both ways, in folders of their own, and return what they cost. Raises where their dvc.lock differs."""
    found: dict[str, Any] = {}
    locks = []
    for way, command in WAYS.items():
        clone = folder / way.replace(" ", "-")
        found[way] = measured(command, source, clone)
        locks.append((clone / "dvc.lock").read_bytes())
    if locks[0] != locks[1]:
        raise SystemExit("dvc.lock differs between the two ways")
    return found | {
        "jobs": JOBS,
        "speed_up": round(found["dvc repro"]["seconds"] / found["tsr run"]["seconds"], 2),
        "same_dvc_lock": True,
        "measured_on": {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()},
    }


def main() -> None:
    """Measure, and write what was measured beside what is there."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(sys.argv[1] if len(sys.argv) > 1 else folder).absolute()
        result = compared(Path(sys.argv[2] if len(sys.argv) > 2 else ROOT), home)
    print(json.dumps(result, indent=2))
    if len(sys.argv) <= 2:
        target = ROOT / "reports" / "benchmarks.json"
        old = json.loads(target.read_text()) if target.exists() else {}
        target.write_text(json.dumps(old | {"run": result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
