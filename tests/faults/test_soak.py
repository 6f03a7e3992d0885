"""100,000 generations and judgments through the pipeline: memory stays flat, and no row is lost or doubled.

The fastest model there is (one layer of width 32, untrained) answers and judges through the embedded backend; the
stages are the real ones, each a process, whose memory is read as it works.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from pipeline_file import PARAMS
from record import Record
from scipy.stats import linregress

from stages import cli, paths, tables

ROWS = int(os.environ.get("TSR_FAULTS_SOAK", "100000"))
SAMPLES = 10
EVERY = 0.25  # seconds between two looks at a process
MIB = 1 << 20
SETTLED = 0.2  # of a stage's work, before which its engine is still starting
# What a stage may hold of each row: its key and place in the store, and its cells, while it works; copies of the table
# at the end: twice what was measured. Fewer rows than so many tell nothing: the engine is still growing.
WHILE_WORKING, AT_THE_END, ENOUGH = 1500, 2000, 20_000
SMALL: dict[str, dict[str, Any]] = {
    "prepare": {"splits": 1, "eval_prompts": 4, "fixed_responses": 6, "ift_examples": 20, "eft_examples": 20},
    "base": {"hidden_size": 32, "layers": 1, "heads": 2, "context": 512, "init_std": 0.3},
    "generate": {"samples": SAMPLES, "max_new_tokens": 12},
    "judge": {"way": "one_token", "votes": 1},
}


@dataclass(frozen=True)
class Look:
    """A process at a moment: rows done, and its memory."""

    rows: int
    rss: int


def watched(words: list[str], shards: Path) -> tuple[list[Look], float]:
    """Run a stage; return what was seen of it, and its seconds."""
    start, looks = time.monotonic(), []
    with Path(f"{words[0]}.log").open("w") as log:
        one = subprocess.Popen([sys.executable, "-m", "stages", *words], stdout=log, stderr=log)
        process = psutil.Process(one.pid)
        while one.poll() is None:
            try:
                rss = process.memory_info().rss
            except psutil.NoSuchProcess:
                break
            looks.append(Look(sum(path.stat().st_size for path in shards.rglob("*.rows")), rss))
            time.sleep(EVERY)
    assert one.wait() == 0, Path(f"{words[0]}.log").read_text()
    return looks, time.monotonic() - start


def most(looks: list[Look]) -> float:
    """Return the most memory that was seen, in MiB."""
    return round(max(look.rss for look in looks) / MIB, 1)


def told(looks: list[Look], before: int, rows: int) -> dict[str, float]:
    """Return what a stage's memory was like: at its most, and how it grew with the rows, bytes a row."""
    last = looks[-1].rows
    share = [(look.rows - before) / (last - before) for look in looks]
    working = [(rows * part, look.rss) for part, look in zip(share, looks, strict=True) if SETTLED < part < 1]
    slope = float(linregress(*zip(*working, strict=True)).slope) if len(working) > 2 else float("nan")
    return {
        "most_mib": most(looks),
        "settled_mib": round(working[0][1] / MIB, 1),
        "bytes_a_row_while_working": round(slope, 1),
    }


def test_so_many_rows_take_no_more_memory_and_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    prompts = ROWS // SAMPLES
    block = {name: values | SMALL[name] if name in SMALL else values for name, values in PARAMS["micro"].items()}
    block["prepare"]["prompts_per_split"] = prompts
    raw = {**PARAMS, "profile": "micro", "arms": {"sr": 1}, "micro": block}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "soak")  # what the plan names, DVC alone makes
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    Path("stages").mkdir()
    for words in (["plan"], ["prepare"], ["base"]):
        cli.app(words, standalone_mode=False)
    shutil.copytree("data/models/base", "data/models/M0")
    found: dict[str, Any] = {"generations": ROWS, "judgments": ROWS}
    shards = paths.store() / "rows"
    for words in (["generate", "M0", "r0"], ["judge", "M0", "M0", "r0"]):
        before = sum(path.stat().st_size for path in shards.rglob("*.rows"))
        looks, seconds = watched(words, shards)
        found[words[0]] = told(looks, before, ROWS) | {"rows_a_second": round(ROWS / seconds, 1)}
    sides = ["--judge", "M0", "--split", "r0", "--own", "M0"]
    for words in (["score", "M0", "M0", "r0"], ["pair", "sr-1", "--strategy", "self_rewarding", *sides]):
        looks, _ = watched(words, shards)
        found[words[0]] = {"most_mib": most(looks)}
    generations = tables.read("generations", paths.generations("M0", "r0"))
    judgments = tables.read("judgments", paths.judgments("M0", "M0", "r0"))
    scores = tables.read("scores", paths.scores("M0", "M0", "r0"))
    pairs, dropped = tables.read("pairs", paths.pairs("sr-1")), tables.read("dropped", paths.dropped("sr-1"))
    assert generations.height == judgments.height == scores.height == ROWS
    assert generations["generation_id"].n_unique() == ROWS
    assert set(judgments["generation_id"]) == set(scores["generation_id"]) == set(generations["generation_id"])
    assert pairs.height + dropped.height == prompts
    assert pairs.height > 0
    keys = [line[9:41] for path in (paths.store() / "rows").rglob("*.rows") for line in path.read_bytes().splitlines()]
    assert len(keys) == len(set(keys))
    assert ROWS < len(keys) <= 2 * ROWS  # equal questions to the judge are asked once
    found |= {"pairs": pairs.height, "dropped": dropped.height, "different_judgments": len(keys) - ROWS}
    record.soak = found
    for name in ("generate", "judge") if ROWS >= ENOUGH else ():
        assert found[name]["bytes_a_row_while_working"] < WHILE_WORKING, found
        assert (found[name]["most_mib"] - found[name]["settled_mib"]) * MIB < AT_THE_END * ROWS, found
