"""The strategies that README and docs/strategies.md write: they are what is said, and `tsr pair` takes them."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from rows import candidates, prompts
from small_run import Run

from stages import cli, pair, paths, tables
from stages.errors import TsrError
from stages.params import Arms, Pair

PAGE = (Path(__file__).parents[1] / "docs" / "strategies.md").read_text()
README = (Path(__file__).parents[1] / "README.md").read_text()
WRITTEN = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)[0]
PARAMS = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0])


@pytest.fixture
def copied(finished: tuple[Run, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small run without its weights, as the current folder."""
    folder = tmp_path / "run"
    shutil.copytree(finished[1], folder, ignore=shutil.ignore_patterns("models"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def mine(copied: Path) -> Path:
    """The file, in the small run's folder."""
    path = Path(PARAMS["arms"]["near_best"]["strategy"])
    path.parent.mkdir(exist_ok=True)
    path.write_text(WRITTEN)
    return path


def test_it_chooses_as_the_page_says(mine: Path) -> None:
    given = [
        {"prompt": "p", "role": "own", "id": "a", "score": 4, "response": "one two"},
        {"prompt": "p", "role": "own", "id": "b", "score": 2, "response": "one two three"},
        {"prompt": "p", "role": "own", "id": "c", "score": 1, "response": "one two three four five"},
        {"prompt": "p", "role": "future", "id": "f", "score": 5, "response": "one"},
        {"prompt": "p", "role": "anchor", "id": "m", "score": 0, "response": "one"},
    ]
    settings = Pair(min_gap=0.0, parameters={"words": 2})
    pairs, _ = pair.make_pairs(settings, "m", str(mine), prompts(["p"]), candidates(given))
    assert pairs.select("strategy", "chosen_id", "rejected_id").rows() == [("near_best", "f", "b")]


def test_that_of_the_readme_chooses_as_it_says(mine: Path) -> None:
    mine.write_text(re.findall(r"```sql\n(.*?)```", README, re.DOTALL)[0])
    given = [
        {"prompt": "p", "role": "own", "id": "a", "score": 4},
        {"prompt": "p", "role": "own", "id": "b", "score": 2},
        {"prompt": "p", "role": "anchor", "id": "m", "score": 5},
        {"prompt": "q", "role": "own", "id": "c", "score": 3},
    ]
    pairs, dropped = pair.make_pairs(
        Pair(min_gap=0.0, parameters={}), "m", str(mine), prompts(["p", "q"]), candidates(given)
    )
    assert pairs.select("chosen_id", "rejected_id").rows() == [("m", "b")]
    assert dropped.select("prompt_id", "reason").rows() == [("q", "missing_side")]


def test_params_name_it_and_the_stage_runs_it(mine: Path) -> None:
    assert Arms(**PARAMS["arms"]).rounds == {"near_best": 2}
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["micro"]["pair"]["parameters"] |= PARAMS["micro"]["pair"]["parameters"]
    Path("params.yaml").write_text(yaml.safe_dump(params))
    words = ["pair", "trial", "--strategy", str(mine), "--judge", "M0", "--split", "r0", "--own", "M0"]
    cli.app(words, standalone_mode=False)
    ended = [*tables.read("pairs", paths.pairs("trial"))["prompt_id"]]
    ended += [*tables.read("dropped", paths.dropped("trial"))["prompt_id"]]
    assert sorted(ended) == sorted(tables.read("prompts", paths.prompts("r0"))["prompt_id"])


def test_without_its_parameter_it_is_refused(mine: Path) -> None:
    with pytest.raises(TsrError, match=r"near_best\.sql: no value for parameter \$words; there are: "):
        pair.make_pairs(Pair(min_gap=0.0, parameters={}), "m", str(mine), prompts(["p"]), candidates([]))


def test_several_models_may_play_a_side(copied: Path) -> None:
    words = ["pair", "pool", "--strategy", "self_rewarding", "--judge", "M0", "--split", "r0", "--own", "M0,sr-1"]
    cli.app(words, standalone_mode=False)
    pairs = tables.read("pairs", paths.pairs("pool"))
    assert set(pairs["chosen_model"]) | set(pairs["rejected_model"]) == {"M0", "sr-1"}
    words[-1] = "*"
    cli.app(words, standalone_mode=False)
    assert tables.read("pairs", paths.pairs("pool")).equals(pairs)
    words[-1] = "M0,nobody"
    with pytest.raises(TsrError, match=r"data/generations/nobody/r0\.parquet: no such file"):
        cli.app(words, standalone_mode=False)


def paired(name: str, strategy: str, judge: str, split: str, own: str) -> None:
    """`tsr pair`."""
    words = ["pair", name, "--strategy", strategy, "--judge", judge, "--split", split, "--own", own]
    cli.app(words, standalone_mode=False)


def test_a_model_named_twice_is_refused(copied: Path) -> None:
    with pytest.raises(TsrError, match="own M0,M0: M0 is named twice"):
        paired("trial", "self_rewarding", "M0", "r0", "M0,M0")


def test_all_are_those_that_the_judge_scored(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths.scores("M0", "sr-1", "r0").unlink()
    paired("trial", "self_rewarding", "M0", "r0", "*")
    assert set(tables.read("pairs", paths.pairs("trial"))["chosen_model"]) == {"M0"}
    assert "left out, for M0 did not score them: sr-1" in capsys.readouterr().err
    with pytest.raises(TsrError, match="nobody scored nobody's responses to split r0"):
        paired("trial", "self_rewarding", "nobody", "r0", "*")


def test_two_judges_are_asked_for_by_name(copied: Path) -> None:
    with pytest.raises(TsrError, match=r"cross_judge\.sql: reads second_score; expected --second JUDGE"):
        paired("trial", "cross_judge", "M0", "r0", "M0")


def test_a_trial_does_not_overwrite_what_the_plan_makes(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = paths.pairs("sr-1").read_bytes()
    monkeypatch.delenv("DVC_STAGE", raising=False)
    with pytest.raises(TsrError, match="`dvc repro` makes the pairs of that name"):
        paired("sr-1", "margin", "M0", "r0", "M0")
    assert paths.pairs("sr-1").read_bytes() == before
    monkeypatch.setenv("DVC_STAGE", "pair@sr-1")
    paired("sr-1", "margin", "M0", "r0", "M0")
