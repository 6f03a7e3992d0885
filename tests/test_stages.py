"""The commands of dvc.yaml, one after another: tables that hang together, and no file that dvc.yaml does not know."""

import json
from pathlib import Path

import polars as pl
import pytest
from pipeline_file import PARAMS, STAGES, outputs, resolved, rows
from small_run import Run

from stages import models, paths, tables

TOUCHED = ["sft@", "base@", "generate@sr-1.r0", "judge@M0.sr-1.r0", "score@M0.sr-1.r0", "pair@tsr-1", "dpo@tsr-1"]
TOUCHED += ["measure@sr-1", "evaluate@sr-1"]


def test_no_pairs_is_one_line_with_the_drop_funnel(run: Run) -> None:
    assert run.refused.startswith("data/pairs/sr-1.parquet: no pairs left to train sr-1 on; dropped: ")
    assert "unscored " in run.refused
    assert "\n" not in run.refused


def test_every_prompt_ends_in_pairs_or_dropped(run: Run) -> None:
    asked = tables.read("prompts", paths.prompts("r0"))["prompt_id"].sort().to_list()
    for name in ("sr-1", "tsr-1"):
        pairs, dropped = tables.read("pairs", paths.pairs(name)), tables.read("dropped", paths.dropped(name))
        assert sorted([*pairs["prompt_id"], *dropped["prompt_id"]]) == asked
        assert pairs.height >= 3
    assert set(pairs["chosen_model"]) == {"M0", "sr-1"}


def test_a_pair_leads_back_to_responses_votes_and_weights(run: Run) -> None:
    made = {m: tables.read("generations", paths.generations(m, "r0")) for m in ("M0", "sr-1")}
    votes = pl.concat([tables.read("judgments", paths.judgments("M0", m, "r0")) for m in made])
    for row in tables.read("pairs", paths.pairs("tsr-1")).iter_rows(named=True):
        for side in ("chosen", "rejected"):
            mine = pl.col("generation_id") == row[f"{side}_id"]
            source = made[row[f"{side}_model"]].row(by_predicate=mine, named=True)
            assert source["response"] == row[side][0]["content"]
            assert source["prompt_id"] == row["prompt_id"]
            assert source["model_hash"] == models.model_hash(paths.model(row[f"{side}_model"]))
            vote = votes.row(by_predicate=mine, named=True)
            assert vote["raw"].endswith(f"={row[f'{side}_score']:.0f}")
            assert vote["judge_hash"] == models.model_hash(paths.model("M0"))


@pytest.mark.parametrize("stage", TOUCHED)
def test_a_stage_touches_what_dvc_yaml_says_and_nothing_else(run: Run, stage: str) -> None:
    name, _, key = stage.partition("@")
    row = rows(name)[key]
    said = {resolved(path, key, row) for path in [*STAGES[name].get("deps", []), *outputs(name)]}
    said = {path for path in said if not path.startswith("stages/")}
    # Read only where there is no pair, and where judging examples are replayed.
    spare = {f"data/dropped/{key}.parquet", "data/eft/eft.parquet"} if name == "dpo" else set()
    assert run.touched[stage] - said == set(), "touched, but not in dvc.yaml"
    assert said - run.touched[stage] - spare == set(), "in dvc.yaml, but not touched"
    assert all(Path(path).exists() for path in said)


@pytest.mark.parametrize(("stage", "key"), [("generate", "M0.r0"), ("score", "M0.M0.r0"), ("pair", "sr-1")])
def test_a_stage_again_gives_the_same_bytes(run: Run, stage: str, key: str) -> None:
    files = [Path(resolved(out, key, rows(stage)[key])) for out in outputs(stage)]
    before = [file.read_bytes() for file in files]
    run.stage(stage, key)
    assert [file.read_bytes() for file in files] == before


def test_measures_and_metrics(run: Run) -> None:
    pairs, measured = tables.read("pairs", paths.pairs("sr-1")), tables.read("measures", paths.measures("sr-1"))
    assert set(measured["pair_id"]) == set(pairs["pair_id"])
    assert measured["gradient_distance"].count() == 2
    told = json.loads(paths.measures_json("sr-1").read_text())
    assert told["pairs"] == pairs.height
    assert told["pairs"] + told["dropped"] == told["prompts"] == 8
    assert told["gap"] == pytest.approx(pairs["gap"].mean(), abs=1e-6)
    assert sum(told["dropped_for"].values()) == told["dropped"]
    assert told["chosen_from"] == {"own": pairs.height, "anchor": 0, "future": 0}
    model = json.loads(paths.evaluation_json("sr-1").read_text())
    assert 0 <= model["true_score"] <= 5
    assert (
        tables.read("generations", paths.generations("sr-1", "eval")).height
        == 4 * PARAMS["micro"]["evaluate"]["samples"]
    )
    assert tables.read("judgments", paths.judgments("sr-1", "world", "fixed")).height == 2 * 6


def test_the_training_curve_has_a_row_a_step(run: Run) -> None:
    pairs = tables.read("pairs", paths.pairs("sr-1")).height
    curve = pl.read_csv(paths.training_csv("sr-1"))
    assert curve["step"].to_list() == list(range(1, 2 * -(-pairs // 4) + 1))
    assert set(curve.columns) >= {"loss", "margin", "accuracy", "grad_norm"}


def test_no_pickle_is_kept(run: Run) -> None:
    kept = {path.suffix for path in Path("data/models").rglob("*") if path.is_file()}
    assert kept <= {".json", ".jinja", ".safetensors"}
