"""verify's checks across tables, on tables that are each in order but do not fit together."""

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from pipeline_file import PLAN
from small_run import Run

from stages import lockfile, params, paths, tables, verify
from stages.errors import TsrError

LEARN = PLAN["learns"]["sr-1"] | {"name": "sr-1"}
JUDGE = PLAN["judges"]["M0.M0.r0"]
ANSWER = PLAN["answers"]["M0.r0"]
Check = Callable[[params.Params, verify.Row], Iterator[str]]


def told(check: Check, row: verify.Row) -> str:
    try:
        return "\n".join(verify.found(check, params.load(), row))
    except TsrError as error:
        return str(error)


@pytest.fixture
def spoil(run: Run) -> Iterator[Callable[[str, Path, pl.Expr], None]]:
    """Change a table in a way that its own contract allows; put back afterwards."""
    kept: dict[Path, bytes] = {}

    def change(table: str, path: Path, change: pl.Expr | None) -> None:
        kept.setdefault(path, path.read_bytes())
        rows = tables.read(table, path)
        tables.write(table, rows.slice(1) if change is None else rows.with_columns(change), path)

    yield change
    for path, content in kept.items():
        path.write_bytes(content)


def test_a_run_in_order_has_nothing_to_tell(run: Run) -> None:
    for check, row in (
        (verify.check_generations, ANSWER),
        (verify.check_evaluation, {"model": "sr-1", "judge": "sr-1"}),
        (verify.check_scores, JUDGE),
        (verify.check_pairs, LEARN),
    ):
        assert told(check, row) == ""


FIRST = pl.int_range(pl.len()) == 0
SPOILT: dict[str, tuple[str, Path, pl.Expr | None, Check, verify.Row, str]] = {
    "a response altered": (
        "generations",
        paths.generations("M0", "r0"),
        pl.lit("altered").alias("response"),
        verify.check_pairs,
        LEARN,
        "candidates give",
    ),
    "a response lost": (
        "generations",
        paths.generations("M0", "r0"),
        None,
        verify.check_generations,
        ANSWER,
        "has 5 responses; expected 6",
    ),
    "other weights": (
        "generations",
        paths.generations("sr-1", "eval"),
        pl.lit("feedfeedfeedfeed").alias("model_hash"),
        verify.check_evaluation,
        {"model": "sr-1", "judge": "sr-1"},
        "the weights in data/models/sr-1 have",
    ),
    "a vote lost": (
        "judgments",
        paths.judgments("M0", "M0", "r0"),
        None,
        verify.check_scores,
        JUDGE,
        "is missing; 1 vote is",
    ),
    "a vote altered": (
        "judgments",
        paths.judgments("M0", "M0", "r0"),
        pl.when(FIRST).then(pl.lit("a+ =3")).otherwise("raw").alias("raw"),
        verify.check_scores,
        JUDGE,
        "the votes give 3.0",
    ),
    "a score altered": (
        "scores",
        paths.scores("M0", "M0", "r0"),
        pl.when(FIRST).then(pl.lit(1.25)).otherwise("score").alias("score"),
        verify.check_scores,
        JUDGE,
        "score is 1.25; the votes give",
    ),
    "a pair lost": (
        "pairs",
        paths.pairs("sr-1"),
        None,
        verify.check_pairs,
        LEARN,
        "is missing, by what the candidates give",
    ),
    "a pair's text altered": (
        "pairs",
        paths.pairs("sr-1"),
        pl.col("rejected").alias("chosen"),
        verify.check_pairs,
        LEARN,
        "chosen is",
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_what_does_not_fit_is_told(spoil: Callable[..., None], kind: str) -> None:
    table, path, change, check, row, expected = SPOILT[kind]
    spoil(table, path, change)
    assert expected in told(check, row)


@pytest.mark.parametrize("check", [verify.check_scores, verify.check_pairs])
def test_no_damaged_byte_ends_verify_without_a_word(spoil: Callable[..., None], check: Check) -> None:
    """DuckDB has errors of its own for them; polars panics on some, which is no Exception."""
    path = paths.scores("M0", "M0", "r0")
    rows = tables.read("scores", path)
    spoil("scores", path, pl.col("score"))
    many = [rows.with_columns(generation_id=f"{n:04}" + pl.col("generation_id").str.slice(4)) for n in range(60)]
    tables.write("scores", pl.concat(many), path)
    whole = path.read_bytes()
    said = []
    for at in range(4, 80):
        path.write_bytes(whole[:at] + b"~" + whole[at + 1 :])
        said.append(told(check, JUDGE if check is verify.check_scores else LEARN))
    assert [line for line in said if "a table of these cannot be read" in line]


def test_a_foreign_lock_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("stages: [1]", "[", "a: b", "stages: {x: {outs: [{path: p}]}}"):
        Path("dvc.lock").write_text(text)
        with pytest.raises(TsrError, match=r"^dvc\.lock: not a lock file of DVC: .*$"):
            list(verify.planned_outputs(PLAN))


def test_before_a_run_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reports come with git; the tables and weights do not."""
    monkeypatch.chdir(tmp_path)
    outs = [lockfile.Output("base", paths.model("base"), "0"), lockfile.Output("a", paths.prompts("r0"), "0")]
    outs.append(lockfile.Output("report", paths.REPORTS / "index.html", "0"))
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/index.html").write_text("")
    with pytest.raises(
        TsrError, match=r"^verify: nothing has been run here yet: none of 2 tables and models in dvc\.l"
    ):
        verify.check_was_run(outs)
    paths.model("base").mkdir(parents=True)
    verify.check_was_run(outs)
    verify.check_was_run([])
