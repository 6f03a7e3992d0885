"""Judges that know and are no models, reference answers as responses, SFT on the best: their stages on real tables."""

import shutil
from pathlib import Path

import polars as pl
import pytest
import yaml
from small_run import Run

from stages import cli, models, oracle, params, paths, plan, tables
from stages.errors import TsrError
from stages.truth import true_scores


@pytest.fixture(scope="module")
def all_arms(finished: tuple[Run, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the small run with every arm of the paper in its plan."""
    place = tmp_path_factory.mktemp("arms") / "run"
    shutil.copytree(finished[1], place)
    text = yaml.safe_load((place / "params.yaml").read_text())
    text["arms"] = {"sr": 1, "tsr": 1, "sft": 0, "rejection_sampling": 1, "spin": 1, "spin_fair": 1}
    (place / "params.yaml").write_text(yaml.safe_dump(text))
    return place


@pytest.fixture
def folder(all_arms: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(all_arms)
    cli.app(["plan"], standalone_mode=False)
    return all_arms


def stage(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Run a stage as DVC does."""
    monkeypatch.setenv("DVC_STAGE", words[0])
    cli.app(list(words), standalone_mode=False)


def sides(name: str) -> list[str]:
    """A planned training's options."""
    row = plan.read()["learns"][name]
    return [f"--{key}={row[key]}" for key in ("judge", "split", "own", "anchor", "future")]


def paired(monkeypatch: pytest.MonkeyPatch, name: str, strategy: str) -> pl.DataFrame:
    """The pairs of a planned training."""
    row = plan.read()["learns"][name]
    stage(monkeypatch, "pair", name, f"--strategy={strategy}", *sides(name), f"--second={row['second']}")
    return tables.read("pairs", paths.pairs(name))


def test_the_truth_scores_what_any_judge_scores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(monkeypatch, "oracle", "truth", "M0", "r0")
    answers = tables.read("generations", paths.generations("M0", "r0"))
    known = true_scores(tables.read("prompts", paths.prompts("r0")), answers)
    scored = tables.read("scores", paths.scores("truth", "M0", "r0"))
    assert dict(scored["generation_id", "score"].iter_rows()) == dict(known.iter_rows())
    assert set(scored["parse_status"]) == {"ok"}
    votes = tables.read("judgments", paths.judgments("truth", "M0", "r0"))
    assert (set(votes["way"]), votes["prompt_tokens"].sum(), set(votes["judge_hash"])) == ({"given"}, 0, {None})


def test_the_truth_of_an_unknown_source_is_one_line(folder: Path) -> None:
    asked = tables.read("prompts", paths.prompts("r0")).with_columns(source=pl.lit("elsewhere"))
    answers = tables.read("generations", paths.generations("M0", "r0"))
    with pytest.raises(TsrError, match=rf"its true score is not known; {answers.height} rows are like that"):
        oracle.judgments("truth", asked, answers)


def test_an_unknown_oracle_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TsrError, match=r"^oracle 'M0': expected truth or origin"):
        stage(monkeypatch, "oracle", "M0", "M0", "r0")


def test_spin_learns_reference_answers_over_own_ones(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(monkeypatch, "refer", "r0")
    stage(monkeypatch, "oracle", "origin", "M0", "r0")
    stage(monkeypatch, "oracle", "origin", "reference", "r0")
    asked = tables.read("prompts", paths.prompts("r0"))
    pairs = paired(monkeypatch, "fair-1", "spin")
    right = dict(asked["prompt_id", "reference"].iter_rows())
    assert pairs.height
    assert all(row["chosen"][0]["content"] == right[row["prompt_id"]] for row in pairs.iter_rows(named=True))
    assert (set(pairs["chosen_model"]), set(pairs["rejected_model"])) == ({"reference"}, {"M0"})
    assert set(pairs["gap"]) == {1.0}
    stage(monkeypatch, "dpo", "fair-1", "--policy=M0")
    stage(monkeypatch, "measure", "fair-1", "--policy=M0", *sides("fair-1"))
    measured = tables.read("measures", paths.measures("fair-1"))
    assert measured["chosen_truth"].null_count() == 0, "a reference answer has a true score like any other"


def test_a_reference_answer_is_as_long_as_a_models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(monkeypatch, "refer", "r0")
    given = tables.read("generations", paths.generations("reference", "r0"))
    own = tables.read("generations", paths.generations("M0", "r0"))
    assert set(given["prompt_tokens"]) == set(own["prompt_tokens"])
    assert set(given["response_tokens"]) == {7}, "six letters and the end"


def test_a_split_without_references_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tables.read("prompts", paths.prompts("r2")).with_columns(reference=pl.lit(None, dtype=pl.String))
    tables.write("prompts", asked, paths.prompts("r2"))
    with pytest.raises(TsrError, match=r"^data/prompts/r2\.parquet: column 'reference' is null in every row"):
        stage(monkeypatch, "refer", "r2")


def test_rejection_sampling_makes_the_best_likelier(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = paired(monkeypatch, "rs-1", "rejection_sampling")
    stage(monkeypatch, "tune", "rs-1", "--policy=M0")
    curve = pl.read_csv(paths.training_csv("rs-1"))
    settings = params.load().block.tune
    assert curve.height == settings.epochs * -(-pairs.height // settings.batch_size)
    assert models.model_hash(paths.model("rs-1")) != models.model_hash(paths.model("M0"))
    assert logprob("rs-1", pairs, "chosen") > logprob("M0", pairs, "chosen")
    before = models.model_hash(paths.model("rs-1"))
    stage(monkeypatch, "tune", "rs-1", "--policy=M0")
    assert models.model_hash(paths.model("rs-1")) == before


def logprob(model: str, pairs: pl.DataFrame, side: str) -> float:
    """The mean log-probability of one side's responses under a model version."""
    import torch

    from stages.features import encode, response_logprob

    loaded, tokenizer = models.load_model(paths.model(model)), models.load_tokenizer(paths.model(model))
    with torch.no_grad():
        found = [
            float(response_logprob(loaded, encode(tokenizer, row["prompt"], row[side])))
            for row in pairs.iter_rows(named=True)
        ]
    return sum(found) / len(found)


def test_no_pairs_to_tune_on_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paired(monkeypatch, "rs-1", "rejection_sampling")
    tables.write("pairs", tables.read("pairs", paths.pairs("rs-1")).clear(), paths.pairs("rs-1"))
    with pytest.raises(TsrError, match=r"^data/pairs/rs-1\.parquet: no pairs left to train rs-1 on"):
        stage(monkeypatch, "tune", "rs-1", "--policy=M0")
