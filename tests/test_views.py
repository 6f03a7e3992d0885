"""Views over a dataset's files, named queries, `tsr sql` and `tsr show`: on the small run and on a set with no plan."""

import json
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest
from rows import READING
from small_run import Run

from stages import cli, output, paths, queries, show, tables, views
from stages.errors import TsrError

ROOT = Path(__file__).parents[1]
VIEWS = ("prompts", "generations", "judgments", "scores", "candidates", "pairs", "dropped", "models", "rounds")


@pytest.fixture
def run(finished: tuple[Run, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small run's tables, as the current folder, with the plan of the project."""
    shutil.copytree(finished[1] / "data", tmp_path / "data", ignore=shutil.ignore_patterns("models"))
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def imported(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset that has prompts and generations alone, and no plan."""
    root = run / "elsewhere"
    shutil.copytree(run / "data" / "prompts", root / "prompts")
    shutil.copytree(run / "data" / "generations" / "M0", root / "generations" / "M0")
    monkeypatch.setenv("TSR_DATA", str(root))
    return root


def sql(text: str) -> pl.DataFrame:
    """The rows of a query."""
    with views.open_views() as db:
        rows = views.ask(db, text, "query")
    assert rows is not None
    return rows


def test_views_have_every_row_of_the_files(run: Path) -> None:
    for table in ("prompts", "generations", "judgments", "scores", "dropped"):
        files = [pl.read_parquet(f) for f in (run / "data" / table).rglob("*.parquet")]
        assert sql(f"select count(*) from {table}").item() == sum(f.height for f in files)
        assert set(tables.schema(table)) <= set(sql(f"from {table} limit 0").columns)
    split = sql("select distinct split from generations where model = 'M0'")["split"]
    assert set(split) == {p.stem for p in (run / "data/generations/M0").glob("*.parquet")}


def test_pairs_know_where_their_sides_come_from(run: Path) -> None:
    found = sql("select distinct model, chosen_model, chosen_from from pairs where model = 'tsr-1'").rows()
    assert set(found) <= {("tsr-1", "M0", "present"), ("tsr-1", "sr-1", "future")}
    assert found


def test_a_dataset_without_some_tables_has_them_empty(imported: Path) -> None:
    assert sql("select count(*) from generations").item() > 0
    for view in ("judgments", "scores", "candidates", "pairs", "dropped", "rounds"):
        assert sql(f"select count(*) from {view}").item() == 0
    assert sql("select model, policy from models").rows() == [("M0", None)]


@pytest.mark.parametrize("query", queries.all_queries(), ids=lambda query: query.name)
@pytest.mark.parametrize("where", ["run", "imported"])
def test_a_named_query_runs_with_its_defaults(query: queries.Query, where: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(where)
    rows = queries.run(query, queries.values_of(query, []))
    assert rows.width > 1
    assert query.usage().startswith(query.name)


def test_parameters_are_options(run: Path) -> None:
    query = queries.find("widest_gaps")
    assert queries.run(query, queries.values_of(query, ["--top", "2", "--model=tsr-1"])).height <= 2
    for words, told in {
        ("--tip", "2"): "unknown option '--tip'; its parameters: --model, --top",
        ("2",): "unknown option '2'",
        ("--top",): "--top has no value",
        ("--top", "1.5"): "expected a whole number",
        ("--top", "x; drop table pairs"): "expected a whole number",
    }.items():
        with pytest.raises(TsrError) as refused:
            queries.values_of(query, words)
        assert told in str(refused.value)
    with pytest.raises(TsrError, match="no such query; there are: disputed_votes"):
        queries.find("nothing")


WRITES = [
    "copy (select 1) to 'data/x.csv'",
    "copy pairs to 'data/pairs/sr-1.parquet'",
    "explain analyze copy (select 1) to 'data/x.csv'",
    "select 1; copy (select 1) to 'data/x.csv'",
    "prepare p as copy (select 1) to 'data/x.csv'",
    "export database 'data/x'",
    "attach 'data/x.db'",
    "create persistent secret s (type s3)",
    "set temp_directory = 'data'",
    "pragma profiling_output = 'data/x'",
    "install httpfs",
    "insert into pairs values (1)",
    "delete from dropped",
    "pivot dropped on reason using count(*); copy (select 1) to 'data/x.csv'",
]


@pytest.mark.parametrize("text", WRITES)
def test_queries_cannot_write(run: Path, text: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path("data").rglob("*")}
    with pytest.raises(TsrError, match=r"is refused, the tables are read-only"):
        sql(text)
    assert {path: path.stat().st_mtime_ns for path in Path("data").rglob("*")} == before


def test_results_are_not_written_among_the_tables(run: Path) -> None:
    rows = pl.DataFrame({"a": [1]})
    for out in ("data/pairs/sr-1.parquet", "data/../data/x.csv"):
        with pytest.raises(TsrError, match="whose tables are read-only"):
            output.put(rows, "", Path(out))
    with pytest.raises(TsrError, match="expected one of table, csv, json, parquet"):
        output.put(rows, "xlsx")
    with pytest.raises(TsrError, match="expected --out FILE"):
        output.put(rows, "parquet")


def test_formats(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "select pair_id, gap, chosen from pairs order by pair_id limit 3"
    rows = sql(text)
    output.put(rows, "json")
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows.to_dicts()
    output.put(rows, "csv")
    read = pl.read_csv(capsys.readouterr().out.encode())
    assert json.loads(read["chosen"][0]) == rows["chosen"].to_list()[0]
    output.put(rows, out=Path("out/rows.parquet"))
    assert pl.read_parquet("out/rows.parquet").equals(rows)
    output.put(rows)
    assert str(rows["pair_id"][0]) in capsys.readouterr().out


def test_sql_errors_name_file_and_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.sql").write_text("select pair_id\nfrom pairs\nwhere gapp > 1\n")
    with pytest.raises(TsrError, match=r"^mine\.sql:3: Binder Error: .*gapp") as refused:
        cli.app(["sql", "-f", "mine.sql"], standalone_mode=False)
    assert "\n" not in str(refused.value)
    with pytest.raises(TsrError, match=r"^none\.sql: not a readable SQL file"):
        cli.app(["sql", "-f", "none.sql"], standalone_mode=False)


@pytest.mark.parametrize("damage", ["foreign", "truncated"])
def test_a_broken_table_is_one_line(run: Path, damage: str) -> None:
    path = next(Path("data/pairs").glob("*.parquet"))
    path.write_bytes(b"no parquet" if damage == "foreign" else path.read_bytes()[:-20])
    with pytest.raises(TsrError) as refused:
        sql("from pairs")
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_missing_dataset_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSR_DATA", "data/imported/nobody")
    with pytest.raises(TsrError, match="data/imported/nobody: no such folder"):
        sql("select 1")


def test_a_pair_tells_its_story(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    pair = sql("from pairs order by pair_id limit 1").to_dicts()[0]
    show.show(pair["pair_id"][:12], READING)
    told = capsys.readouterr().out
    generations = tables.read("generations", paths.generations(pair["chosen_model"], pair["split"]))
    judgments = tables.read("judgments", paths.judgments(pair["judge"], pair["chosen_model"], pair["split"]))
    chosen = generations.filter(pl.col("generation_id") == pair["chosen_id"]).to_dicts()[0]
    vote = judgments.filter(pl.col("generation_id") == pair["chosen_id"]).to_dicts()[0]
    for part in (pair["prompt_id"], chosen["model_hash"], str(chosen["seed"]), str(vote["seed"]), vote["raw"]):
        assert part in told
    with pytest.raises(TsrError, match="not in data/pairs"):
        show.show("nobody", READING)
    with pytest.raises(TsrError, match="several begin like that"):
        show.show("", READING)


@pytest.mark.skipif(shutil.which("duckdb") is None, reason="the duckdb command is not installed")
def test_the_duckdb_command_opens_the_same_views(run: Path) -> None:
    counts = ", ".join(f"(select count(*) from {view})" for view in VIEWS)
    words = ["duckdb", "-csv", "-noheader", "-init", "stages/sql/views/all.sql", "-c", f"select {counts}"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert tuple(map(int, done.stdout.split(","))) == sql(f"select {counts}").row(0)
