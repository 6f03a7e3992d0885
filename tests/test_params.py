"""params.yaml: whatever is wrong with it is one line that names the file, the key and what was expected."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import asking, cli, params
from stages import rubrics as rubrics_package
from stages.errors import TsrError

ROOT = Path(__file__).parents[1]
GOOD = yaml.safe_load((ROOT / "params.yaml").read_text())
MISSING = object()


def text_with(key: str, value: Any) -> str:
    """params.yaml with one key, written a.b.c, set or taken away."""
    changed = yaml.safe_load(yaml.safe_dump(GOOD))
    *path, last = key.split(".")
    block = changed
    for part in path:
        block = block[part]
    if value is MISSING:
        del block[last]
    else:
        block[last] = value
    return yaml.safe_dump(changed)


BAD: dict[str, tuple[str, Any, str]] = {
    "unknown key": ("micro.dpo.betta", 0.1, "unknown key; expected batch_size"),
    "unknown block": ("micro.dppo", {}, "unknown key; expected base_model, prepare"),
    "unknown arm": ("arms.dpo", 2, "unknown arm; expected sr, tsr"),
    "own arm, unknown strategy": (
        "arms.mine",
        {"rounds": 1, "strategy": "best", "past": False, "future": False},
        "best.sql: no such strategy; expected a file that ends in .sql, or one of anchored_rejection",
    ),
    "own arm, key misspelt": (
        "arms.mine",
        {"rounds": 1, "strategy": "margin", "pasts": True},
        "unknown key; expected rounds, strategy, past, future",
    ),
    "own arm, key missing": ("arms.mine", {"rounds": 1, "strategy": "margin", "past": False}, "key is missing"),
    "own arm, taken name": (
        "arms.past",
        {"rounds": 1, "strategy": "margin", "past": False, "future": False},
        "'past' is taken",
    ),
    "parameter of the stage": ("micro.pair.parameters", {"min_gap": 1}, "'min_gap' is no free name"),
    "parameter that is a list": ("micro.pair.parameters.draw", [1], "draw is [1]; expected a number"),
    "missing key": ("micro.dpo.beta", MISSING, "key is missing"),
    "missing block": ("micro.dpo", MISSING, "key is missing"),
    "missing seed": ("seed", MISSING, "key is missing"),
    "text for number": ("micro.dpo.beta", "0.1", "valid number, got '0.1'"),
    "bool for int": ("micro.generate.samples", True, "valid integer, got True"),
    "bool for float": ("micro.generate.temperature", True, "valid number, got True"),
    "float for int": ("micro.generate.samples", 7.0, "valid integer, got 7.0"),
    "int for text": ("micro.judge.rubric", 1, "valid string, got 1"),
    "null": ("micro.dpo.beta", None, "valid number, got None"),
    "value for block": ("micro.dpo", 1, "got 1"),
    "no samples": ("micro.generate.samples", 0, "greater than or equal to 1, got 0"),
    "negative temperature": ("micro.generate.temperature", -0.1, "greater than or equal to 0, got -0.1"),
    "top_p 0": ("micro.generate.top_p", 0.0, "greater than 0, got 0.0"),
    "top_p above 1": ("micro.generate.top_p", 1.1, "less than or equal to 1, got 1.1"),
    "not a number": ("micro.dpo.beta", float("nan"), "got nan"),
    "infinite": ("micro.dpo.learning_rate", float("inf"), "finite number, got inf"),
    "negative seed": ("seed", -1, "greater than or equal to 0, got -1"),
    "unknown profile": ("profile", "huge", "no block 'huge'; there are: "),
    "unknown rubric": ("micro.judge.rubric", "likert", "no rubric 'likert'; there are: additive, micro, ten"),
    "rubric outside": ("micro.judge.rubric", "../micro", "no rubric '../micro'; there are: additive, micro, ten"),
    "equal votes": ("micro.judge.votes", 3, "votes above 1 need a temperature above 0"),
    "unknown backend": ("micro.judge.backend", "tgi", "no backend 'tgi'; there are: openai, ray, transformers, vllm"),
    "backend without block": (
        "micro.backends.transformers",
        MISSING,
        "generate.backend is 'transformers', but backends has",
    ),
    "no backends": ("micro.backends", {}, "generate.backend is 'transformers', but backends has no block"),
    "block of no backend": ("micro.backends.tgi", {}, "no backend 'tgi'; there are: openai, ray, transformers, vllm"),
    "value for a backend's block": ("micro.backends.transformers", 1, "transformers: expected a block of settings"),
    "list for a backend's block": ("micro.backends.transformers", [], "transformers: expected a block of settings"),
    "tile of 2": (
        "micro.backends.transformers.tile_rows",
        2,
        "transformers.tile_rows: Input should be",
    ),
    "engine setting misspelt": ("micro.backends.transformers.tile", 8, "tile: unknown key; expected tile_rows, dtype"),
    "engine setting missing": ("micro.backends.transformers.dtype", MISSING, "transformers.dtype: key is missing"),
    "no such dtype": ("micro.backends.transformers.dtype", "int8", "'float32' or 'bfloat16', got 'int8'"),
    "way misspelt": ("micro.judge.way", "one-token", "'votes' or 'one_token', got 'one-token'"),
    "text for a yes": ("micro.judge.distribution", "yes", "valid boolean, got 'yes'"),
    "more failures than requests": ("micro.judge.max_failed_share", 1.5, "less than or equal to 1, got 1.5"),
    "least mass above 1": ("micro.score.least_mass", 1.01, "less than or equal to 1, got 1.01"),
    "judge is no text": ("judge", 1, "valid string, got 1"),
    "judge outside": ("judge", "../M0", "name '../M0': expected letters, digits"),
    "judge without a name": ("judge", "", "name '': expected letters, digits"),
    "too few splits": ("arms.sr", 6, "6 rounds need the prompt splits r0 .. r5; micro.prepare.splits is 5"),
}
# The key named where it is not the one that was changed.
NAMED = {
    "equal votes": "micro.judge",
    "backend without block": "micro",
    "no backends": "micro",
    "own arm, unknown strategy": "arms.mine.strategy",
    "own arm, key misspelt": "arms.mine.pasts",
    "own arm, key missing": "arms.mine.future",
    "own arm, taken name": "arms",
    "parameter of the stage": "micro.pair.parameters",
    "parameter that is a list": "micro.pair.parameters",
    **dict.fromkeys(
        (
            *("block of no backend", "value for a backend's block", "list for a backend's block", "tile of 2"),
            *("engine setting misspelt", "engine setting missing", "no such dtype"),
        ),
        "micro.backends",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_one_line_names_file_key_and_expectation(kind: str, tmp_path: Path) -> None:
    key, value, told = BAD[kind]
    path = tmp_path / "params.yaml"
    path.write_text(text_with(key, value))
    with pytest.raises(TsrError) as refused:
        params.load(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: {NAMED.get(kind, key)}: "), message
    assert told in message
    assert "\n" not in message


def refusal(path: Path, *changes: tuple[str, Any]) -> str:
    """What is said of params.yaml with some keys changed."""
    loaded = yaml.safe_load(text_with(*changes[0]))
    for key, value in changes[1:]:
        profile, block, name = key.split(".")
        loaded[profile][block][name] = value
    path.write_text(yaml.safe_dump(loaded))
    with pytest.raises(TsrError) as refused:
        params.load(path)
    return str(refused.value)


def test_workers_need_the_block_of_their_engine(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    engines = GOOD["micro"]["backends"]
    blocks = {"transformers": engines["transformers"], "ray": engines["ray"] | {"engine": "vllm"}}
    told = refusal(path, ("micro.backends", blocks), ("micro.judge.backend", "ray"))
    assert told == f"{path}: micro: judge.backend is 'ray' with the engine 'vllm', but backends has no block 'vllm'"


def test_the_judges_backend_needs_its_block_too(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    blocks = {"transformers": GOOD["micro"]["backends"]["transformers"]}
    told = refusal(path, ("micro.backends", blocks), ("micro.judge.backend", "openai"))
    assert told == f"{path}: micro: judge.backend is 'openai', but backends has no block 'openai'"


def test_one_token_has_one_vote(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    told = refusal(path, ("micro.judge.way", "one_token"), ("micro.judge.votes", 3), ("micro.judge.temperature", 0.7))
    assert (
        told == f"{path}: micro.judge: way one_token reads a distribution, which has no second vote; expected votes 1"
    )


def test_one_token_needs_a_rubric_that_names_its_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "stages_rubrics" / "wordy"
    folder.mkdir(parents=True)
    (folder / "ask.py").write_text('"""A rubric read in words."""\n\nSCORES = {}\nSCORE_AFTER = ""\n')
    shutil.copytree(asking.RUBRICS / "additive", folder.parent / "additive")
    monkeypatch.setattr("stages.asking.RUBRICS", folder.parent)
    monkeypatch.setattr(rubrics_package, "__path__", [*rubrics_package.__path__, str(folder.parent)])
    path = tmp_path / "params.yaml"
    told = refusal(path, ("micro.judge.rubric", "wordy"), ("micro.judge.way", "one_token"))
    assert told == f"{path}: micro.judge: rubric 'wordy' names no score tokens, so way one_token cannot read it"
    path.write_text(text_with("micro.judge.rubric", "wordy"))
    assert params.load(path).block.judge.way == "votes"  # which needs no tokens


@pytest.mark.parametrize("judge", ["sr-1", "tsr-f2", "past-1"])
def test_a_model_that_the_plan_trains_cannot_judge_throughout(judge: str, tmp_path: Path) -> None:
    """Said when the plan is made: only the plan knows what it trains, under all its names."""
    (tmp_path / "params.yaml").write_text(text_with("judge", judge))
    (tmp_path / "stages").mkdir()
    refused = tsr(tmp_path, "plan")
    told = f"tsr: params.yaml: judge: '{judge}' learns from its own judgments; expected self, M0 or another\n"
    assert (refused.returncode, refused.stderr) == (2, told)
    assert list((tmp_path / "stages").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "not valid YAML"),
        ("", "expected keys seed, profile"),
        ("- a\n", "expected keys seed, profile"),
        ("? [a, b]\n: c\n", "a list or mapping is the key in line 1"),
        ("seed: 2001-13-45\n", "not valid YAML: month must be in"),
        ('profile: "\\ud800"\n', "half a surrogate pair in line 1"),
        ("0: a\n0.0: b\n", r"key '0\.0' stands twice, again in line 2"),
    ],
)
def test_what_is_no_params_file_is_refused(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(TsrError, match=told) as refused:
        params.load(path)
    assert "\n" not in str(refused.value)


def test_the_file_in_the_repository_is_good() -> None:
    loaded = params.load(ROOT / "params.yaml")
    assert loaded.block == loaded.profiles[loaded.profile]
    assert set(GOOD) == {"seed", "profile", "judge", "teacher", "arms", *loaded.profiles}


def test_blocks_cannot_change_after_loading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        params.load(ROOT / "params.yaml").block.dpo.beta = 0.2  # type: ignore[misc]


@pytest.mark.parametrize(
    "command",
    [
        ["prepare"],
        ["base"],
        ["sft"],
        ["generate", "M0", "r0"],
        ["judge", "M0", "M0", "r0"],
        ["score", "M0", "M0", "r0"],
        ["dpo", "sr-1", "--policy", "M0"],
        ["plan", "--check"],
    ],
)
def test_every_command_checks_params_first(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(text_with("micro.dpo.betta", 1))
    monkeypatch.setattr("sys.argv", ["tsr", *command])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("tsr: params.yaml: micro.dpo.betta: unknown key")
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def tsr(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    command = [str(Path(sys.executable).parent / "tsr"), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("place", ["params.yaml/x.csv", "/proc/nothing/x.csv"])
def test_a_file_that_cannot_be_written_is_one_line(place: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").touch()
    (tmp_path / "data").mkdir()
    refused = tsr(tmp_path, "sql", "select 1", "--out", place)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert refused.stderr.startswith("tsr: ") and "Traceback" not in refused.stderr


def test_the_command_ends_with_2_and_one_line(tmp_path: Path) -> None:
    nothing = tsr(tmp_path, "prepare")
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert nothing.stderr == "tsr: params.yaml: no such file; run tsr in the folder that holds params.yaml\n"

    (tmp_path / "params.yaml").write_text(text_with("micro.dpo.learning_rate", "fast"))
    wrong = tsr(tmp_path, "score", "M0", "M0", "r0")
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    assert wrong.stderr.startswith("tsr: params.yaml: micro.dpo.learning_rate: ")
    assert list(tmp_path.iterdir()) == [tmp_path / "params.yaml"]


def test_a_missing_input_and_a_bad_name_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(text_with("seed", 1))
    unplanned = tsr(tmp_path, "score", "M0", "M0", "r0")
    assert (unplanned.returncode, unplanned.stderr) == (2, "tsr: stages/plan.yaml: no such file; run `tsr plan`\n")
    (tmp_path / "stages").mkdir()
    assert tsr(tmp_path, "plan").returncode == 0
    missing = tsr(tmp_path, "score", "M0", "M0", "r0")
    assert missing.returncode == 2
    assert missing.stderr == "tsr: data/judgments/M0/M0/r0.parquet: no such file; expected a table of judgments\n"
    outside = tsr(tmp_path, "score", "M0", "../M0", "r0")
    assert outside.returncode == 2
    assert outside.stderr.startswith("tsr: name '../M0': expected letters")


def test_every_key_of_params_has_a_comment():
    lines = [line for line in (ROOT / "params.yaml").read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not line.rstrip().endswith(":") and "#" not in line] == []


@pytest.mark.parametrize("text", ["1e-05", "5E-7", "1.e-3", "2.5e+2", "1e-4"])
def test_floats_as_dvc_writes_them_are_floats(text: str, tmp_path: Path) -> None:
    """DVC writes YAML 1.2, where 1e-05 is a number; plain PyYAML reads it as text."""
    path = tmp_path / "params.yaml"
    path.write_text(
        re.sub(r"(  dpo:\n(?:.*\n)*?    learning_rate: )\S+", rf"\g<1>{text}", (ROOT / "params.yaml").read_text())
    )
    assert params.load(path).block.dpo.learning_rate == float(text)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text() + "seed: 8\n")
    with pytest.raises(TsrError, match="key 'seed' stands twice"):
        params.load(path)
