"""Names from params, plans, the command line and other people's data: none leaves its folder or reaches a shell."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pipeline_file import PARAMS
from rows import generations, prompts

from stages import cli, paths, plan, tables
from stages.errors import TsrError
from stages.importing import names
from stages.importing.dirt import Dirt
from stages.params import PARAMS_FILE, parse

ROOT = Path(__file__).parents[1]
HOSTILE = [
    *("..", "../x", "a/../../x", "/etc/passwd", "a/b", "a\\b", "~root", ".hidden", "-rf", "--data=x"),
    *(
        "a;touch pwned",
        "$(touch pwned)",
        "`touch pwned`",
        "a b",
        "a\nb",
        "a\n",
        "a&b",
        "a|b",
        "a>b",
        "${HOME}",
        "*",
        "a'b",
    ),
    *("a\0b", "", "ä", "a\u202eb", "x" * 101, "x" * 5000),
]
FEW = ["..", "a;touch pwned", "$(touch pwned)", "a b", "a\nb", "${HOME}", "-rf", "a\0b", "x" * 5000]
CALLS = {
    "model": paths.model,
    "prompts": paths.prompts,
    "generations": lambda name: paths.generations("M0", name),
    "judgments": lambda name: paths.judgments(name, "M0", "r0"),
    "scores": lambda name: paths.scores("M0", name, "r0"),
    "pairs": paths.pairs,
    "imported": paths.imported,
    "games": lambda name: paths.games(name, "r0"),
    "training_csv": paths.training_csv,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("call", CALLS)
def test_no_name_leaves_its_folder(call: str, name: str) -> None:
    with pytest.raises(TsrError, match="expected"):
        CALLS[call](name)


def changed(**keys: Any) -> dict[str, Any]:
    """params.yaml with other top-level keys."""
    return PARAMS | keys


def own_arm(**keys: Any) -> dict[str, Any]:
    return {"rounds": 1, "strategy": "margin", "past": True, "future": False} | keys


PLACES = {
    "judge": lambda name: changed(judge=name),
    "teacher": lambda name: changed(teacher=name),
    "profile": lambda name: changed(profile=name) | {name: PARAMS["micro"]},
    "another profile": lambda name: changed() | {name: PARAMS["micro"]},
    "arm": lambda name: changed(arms={name: own_arm()}),
    "strategy": lambda name: changed(arms={"mine": own_arm(strategy=name)}),
    "own strategy": lambda name: changed(arms={"mine": own_arm(strategy=f"my/{name}.sql")}),
    "own strategy's folder": lambda name: changed(arms={"mine": own_arm(strategy=f"{name}/x.sql")}),
    "second judge": lambda name: changed(arms={"mine": own_arm(second_judge=name)}),
    "rubric": lambda name: changed(micro=PARAMS["micro"] | {"judge": PARAMS["micro"]["judge"] | {"rubric": name}}),
    "backend": lambda name: changed(micro=PARAMS["micro"] | {"judge": PARAMS["micro"]["judge"] | {"backend": name}}),
}


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("place", PLACES)
def test_params_refuse_what_a_command_or_a_folder_must_not_hold(
    place: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What dvc.yaml puts into commands comes from here; a file of that name that is there changes nothing."""
    monkeypatch.chdir(tmp_path)
    try:
        raw = PLACES[place](name)
        for arm in raw["arms"].values():
            if isinstance(arm, dict) and arm["strategy"].endswith(".sql"):
                Path(arm["strategy"]).parent.mkdir(parents=True, exist_ok=True)
                Path(arm["strategy"]).write_text("select 1")
    except (OSError, ValueError):
        pass  # a name that no file can have
    with pytest.raises(TsrError) as refused:
        parse(raw, PARAMS_FILE)
    assert "\n" not in str(refused.value).strip() or "\n" in name


@pytest.mark.parametrize(
    "file", ["../x.sql", "/tmp/x.sql", "my/../../x.sql", "my/a b.sql", "my/x.sql; rm -rf x.sql", "link.sql", "-x.sql"]
)
def test_a_strategy_file_lies_in_the_project(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, outside = tmp_path / "project", tmp_path / "x.sql"
    (project / "my").mkdir(parents=True)
    monkeypatch.chdir(project)
    outside.write_text("select 1")
    Path("link.sql").symlink_to(outside)
    for name in ("my/a b.sql", "-x.sql"):
        Path(name).write_text("select 1")
    with pytest.raises(TsrError, match="expected a file in this project, of letters"):
        parse(changed(arms={"mine": own_arm(strategy=file)}), PARAMS_FILE)
    Path("my/x.sql").write_text("select 1")
    assert parse(changed(arms={"mine": own_arm(strategy="my/x.sql")}), PARAMS_FILE).arms.own["mine"].rounds == 1


@pytest.mark.parametrize("arms", [["SR"], ["Past_Only"], ["m0"], ["World"], ["mine", "Mine"]])
def test_names_that_differ_in_case_alone_are_one(arms: list[str]) -> None:
    """On a disk that knows no case the arms would overwrite each other."""
    with pytest.raises(TsrError, match="is taken; give the arm another name"):
        parse(changed(arms={arm: own_arm() for arm in arms}), PARAMS_FILE)


def test_what_the_plan_gives_to_commands_is_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every value that dvc.yaml puts into a `cmd`, for a plan with all that a user can name."""
    monkeypatch.chdir(tmp_path)
    Path("my").mkdir()
    Path("my/x_1.b-2.sql").write_text("select 1")
    mine = own_arm(strategy="my/x_1.b-2.sql", second_judge="judge.1", future=True)
    made = plan.of(parse(changed(arms={"sr": 1, "spin": 1, "mine": mine}, judge="other-1"), PARAMS_FILE)).as_dict()
    commands = re.findall(r"cmd: (?:>-\n)?((?:.+\n)(?: +--.+\n)*)", (ROOT / "dvc.yaml").read_text())
    named = set(re.findall(r"\$\{(?:item\.)?(\w+)\}", "".join(commands)))
    assert {"key", "strategy", "judge", "second", "teacher", "start"} <= named
    assert "profile" not in named
    rows = [value for name in plan.TABLES for value in made[name].items() if isinstance(value[1], dict)]
    for key, row in rows:
        for value in (key, *(row[column] for column in row if column in named)):
            assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./-]*|-1", str(value)), (key, row)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_in_imported_data_become_safe_ones_or_are_refused(name: str) -> None:
    if not name:
        return
    (safe,) = names.safe_names([name], "model", Dirt()).values()
    assert paths.checked(safe) == safe


@pytest.mark.parametrize("name", ["../../pwned", "/tmp/pwned", "a;touch pwned", "..", "a\0b"])
@pytest.mark.parametrize("column", ["model", "judge", "split"])
def test_no_name_in_a_record_leaves_the_dataset(
    column: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "deep" / "project"
    project.mkdir(parents=True)
    monkeypatch.chdir(project)
    row = {"prompt": "p", "model": "m", "response": "r", "judge": "j", "score": 1, "split": "all"} | {column: name}
    Path("rows.jsonl").write_text(json.dumps(row) + "\n")
    mapping = {
        "prompts": {"prompt": "prompt", "split": "split"},
        "responses": {"model": "model", "response": "response", "finish_reason": {"value": "stop"}},
        "judgments": {"judge": "judge", "score": "score"},
    }
    Path("m.yaml").write_text(yaml.safe_dump(mapping))
    try:
        cli.app(["import", "data", "rows.jsonl", "--mapping", "m.yaml"], standalone_mode=False)
    except TsrError as refused:
        assert "split" in str(refused)
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    inside = Path("deep/project")
    assert {path for path in made if not path.is_relative_to(inside / "data/imported/data")} == {
        inside / "rows.jsonl",
        inside / "m.yaml",
    }


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


WORDS = {
    "generate": ["generate", "NAME", "r0"],
    "judge": ["judge", "M0", "NAME", "r0"],
    "score": ["score", "M0", "M0", "NAME"],
    "pair": ["pair", "NAME", "--strategy", "margin", "--judge", "M0", "--split", "r0", "--own", "M0"],
    "pair's own": ["pair", "x", "--strategy", "margin", "--judge", "M0", "--split", "r0", "--own", "M0,NAME"],
    "pair's strategy": ["pair", "x", "--strategy", "NAME", "--judge", "M0", "--split", "r0", "--own", "M0"],
    "dpo": ["dpo", "NAME", "--policy", "M0"],
    "dpo's policy": ["dpo", "x", "--policy", "NAME"],
    "tournament": ["tournament", "M0", "--judge", "NAME"],
    "claims": ["claims", "--report", "--into", "NAME"],
    "query": ["query", "NAME"],
    "import": ["import", "NAME", "rows.jsonl", "--mapping", "m.yaml"],
    "export": ["export", "NAME", "--to", "out"],
    "show": ["show", "NAME"],
}


@pytest.mark.parametrize("name", ["../pwned", "a\nb", "x" * 300])
@pytest.mark.parametrize("words", WORDS)
def test_no_argument_leaves_its_folder(words: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    PARAMS_FILE.write_text(yaml.safe_dump(PARAMS))
    Path("stages").mkdir()
    cli.app(["plan"], standalone_mode=False)
    tables.write("prompts", prompts(["p"]), paths.prompts("r0"))
    tables.write("generations", generations(["g"]), paths.generations("M0", "r0"))
    before = files(tmp_path)
    with pytest.raises(TsrError):
        cli.app([word.replace("NAME", name) for word in WORDS[words]], standalone_mode=False)
    assert files(tmp_path) == before
    assert set(tmp_path.iterdir()) == {project}
