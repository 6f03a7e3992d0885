"""Every SQL file against the YAML beside it: columns, grain, and cases worked out by hand."""

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from rows import candidates, prompts

from stages import tables
from stages.errors import TsrError
from stages.pair import make_pairs
from stages.params import Pair
from stages.parsing import load_rubric
from stages.sqlrun import SQL, connect, run_file

STRATEGIES = sorted((SQL / "strategies").glob("*.sql"))
TYPES = tables.TYPES | {"strings": pl.List(pl.String)}
OPENING = {"files.sql", "beside.sql", "all.sql"}  # statements that open the files; test_views.py
FILES = sorted(path for path in SQL.rglob("*.sql") if path.name not in OPENING)
OTHERS = [path for path in FILES if path not in STRATEGIES]


def described(path: Path) -> dict[str, Any]:
    """The YAML beside an SQL file."""
    loaded: dict[str, Any] = yaml.safe_load(path.with_suffix(".yml").read_text())
    return loaded


def cases(files: list[Path]) -> list[Any]:
    """One pytest parameter a case."""
    found = [(path, case) for path in files if path.with_suffix(".yml").exists() for case in described(path)["cases"]]
    return [pytest.param(path, case, id=f"{path.stem}: {case['name']}") for path, case in found]


def check_grain(path: Path, result: pl.DataFrame) -> None:
    """Columns, key and column tests are as described."""
    about = described(path)
    assert result.columns == list(about["columns"])
    if about["key"]:
        assert not result.select(about["key"]).is_duplicated().any(), f"{path.stem}: not {about['grain']}"
        assert not any(result[c].has_nulls() for c in about["key"])
    else:
        assert result.height == 1, f"{path.stem}: not {about['grain']}"
    for column, spec in about["columns"].items():
        tests = (spec or {}).get("tests", [])
        assert "not_null" not in tests or not result[column].has_nulls(), column
        assert "unique" not in tests or result[column].is_unique().all(), column


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_described(path: Path) -> None:
    about = described(path)
    assert about["description"] and about["grain"] in path.read_text().replace("Grain: ", "").replace("\n-- ", " ")
    assert about["cases"]
    assert len({case["name"] for case in about["cases"]}) == len(about["cases"])


@pytest.mark.parametrize("path", STRATEGIES, ids=lambda path: path.stem)
def test_roles_used(path: Path) -> None:
    used = [role for role in ("own", "anchor", "future") if f"role = '{role}'" in path.read_text()]
    assert described(path)["roles"] == used


@pytest.mark.parametrize(("path", "case"), cases(STRATEGIES))
def test_strategy(path: Path, case: dict[str, Any]) -> None:
    given, asked = candidates(case["given"]), prompts(sorted(case["expect"]))
    assert set(given["prompt_id"]) <= set(case["expect"]), "expect must name every prompt"
    values = {"min_gap": 0.0} | case.get("params", {})
    settings = Pair(min_gap=float(values.pop("min_gap")), parameters=values)
    assert set(values) == set(described(path).get("parameters", {}))
    pairs, dropped = make_pairs(settings, "m", path.stem, asked, given)

    ended = {p: {"chosen": c, "rejected": r} for p, c, r in pairs["prompt_id", "chosen_id", "rejected_id"].iter_rows()}
    ended |= {p: {"reason": reason} for p, reason in dropped["prompt_id", "reason"].iter_rows()}
    assert ended == case["expect"]

    text = dict(given["generation_id", "response"].iter_rows())
    for row in pairs.iter_rows(named=True):
        assert row["prompt"] == [{"role": "user", "content": row["prompt_id"]}]
        for side in ("chosen", "rejected"):
            assert row[side] == [{"role": "assistant", "content": text[row[f"{side}_id"]]}]
    tables.validate("pairs", pairs, path)
    tables.validate("dropped", dropped, path)

    frames = {"prompts": asked, "candidates": given}
    with connect() as db:
        frames["sides"] = run_file(db, SQL / "views" / "sides.sql", frames, {})
        check_grain(SQL / "views" / "sides.sql", frames["sides"])
        check_grain(path, run_file(db, path, frames, values))


@pytest.mark.parametrize(("path", "case"), cases(OTHERS))
def test_other(path: Path, case: dict[str, Any], tmp_path: Path) -> None:
    about = described(path)
    assert set(case["given"]) == set(about["reads"])
    frames = {
        name: pl.DataFrame(case["given"][name], schema={c: TYPES[t] for c, t in columns.items()}, orient="row")
        for name, columns in about["reads"].items()
    }
    text = re.sub(r"create or replace view \w+ as\n", "", path.read_text())
    (tmp_path / path.name).write_text(text)
    with connect() as db:
        if "rubric" in about:
            load_rubric(db, about["rubric"])
        result = run_file(db, tmp_path / path.name, frames, case.get("params", {}))
    check_grain(path, result)
    rows = result.sort(about["key"]).to_dicts() if about["key"] else result.to_dicts()
    shown = [{c: row[c] for c in want} for row, want in zip(rows, case["expect"], strict=True)]
    assert shown == case["expect"]


BAD = {
    "twice": ("select prompt_id, '' as chosen_id, '' as rejected_id from prompts, range(2)", "more than one row"),
    "missing": ("select prompt_id, '' as chosen_id, '' as rejected_id from prompts where false", "gave no row"),
    "columns": ("select prompt_id, '' as chosen_id from prompts", "expected prompt_id, chosen_id, rejected_id"),
    "syntax": ("select prompt_id frm prompts", "syntax error"),
    "foreign": (
        "select unnest(['p', 'q', 'x']) as prompt_id, null as chosen_id, null as rejected_id",
        "no prompt of",
    ),
    "shifted": ("select prompt_id, 'b' as chosen_id, 'a' as rejected_id from prompts", "chosen_id b is no finished"),
    "unscored": (
        "select prompt_id, null as chosen_id, 'n' as rejected_id from prompts",
        "rejected_id n is no finished",
    ),
    "cut": ("select prompt_id, null as chosen_id, 'c' as rejected_id from prompts", "rejected_id c is no finished"),
    "itself": ("select prompt_id, 'a' as chosen_id, 'a' as rejected_id from prompts", "as chosen and as rejected"),
    "unbound": ("select $nobody as prompt_id from prompts", "no value for parameter $nobody"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_strategy_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    (tmp_path / "bad.sql").write_text(BAD[kind][0])
    own = [
        {"prompt": "p", "role": "own", "id": "a", "score": 1},
        {"prompt": "p", "role": "own", "id": "n", "score": None},
        {"prompt": "p", "role": "own", "id": "c", "score": 0, "finish": "length"},
    ]
    other = {"prompt": "q", "role": "own", "id": "b", "score": 5}
    given = candidates([*own, other])
    with pytest.raises(TsrError, match=r"bad\.sql:(\d+:)? ") as refused:
        make_pairs(Pair(min_gap=0.0, parameters={}), "m", str(tmp_path / "bad.sql"), prompts(["p", "q"]), given)
    assert BAD[kind][1] in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["no_such", "../pairs", "/etc/passwd"])
def test_unknown_strategy_is_refused(name: str) -> None:
    with pytest.raises(TsrError, match=r"self_rewarding|expected letters"):
        make_pairs(Pair(min_gap=0.0, parameters={}), "m", name, prompts(["p"]), candidates([]))
