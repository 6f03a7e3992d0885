"""Views over a dataset's files, named queries, `tsr sql` and `tsr show`: on the small run and on a set with no plan."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from small_run import Run

from stages import cli, output, paths, queries, shell, show, tables, views
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
        ("--top",): "--top has no value; expected a whole number, min 0 (rows)",
        ("--top", "-1"): "--top '-1': expected a whole number, min 0",
        ("--top", "9" * 20): "expected a whole number",
        ("--top", "1.5"): "expected a whole number",
        ("--top", "x; drop table pairs"): "expected a whole number",
    }.items():
        with pytest.raises(TsrError) as refused:
            queries.values_of(query, words)
        assert told in str(refused.value)
    with pytest.raises(TsrError, match="--model 'zz': has no pairs; "):
        queries.run(query, queries.values_of(query, ["--model", "zz"]))
    bars = queries.find("gap_histogram")
    for width in ("0", "-1", "1e999"):
        with pytest.raises(TsrError, match=f"--width '{width}': expected a number, above 0"):
            queries.values_of(bars, ["--width", width])
    assert "--width  score points a step (a number, above 0); 0.5" in bars.help()
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
    "copy (pivot dropped on reason using count(*)) to 'data/x.csv'",
    "explain (format json, analyze) copy (select 1) to 'data/x.csv'",
    "explain/**/analyze copy (select 1) to 'data/x.csv'",
    "explain -- x\nanalyze copy (select 1) to 'data/x.csv'",
    "explain analyze load 'data/x'",
    "with a as materialized (copy (select 1) to 'data/x.csv') from a",
    "with a as (pivot dropped on reason), b as (copy (select 1) to 'data/x.csv') from a",
    "create table a as with b as (copy (select 1) to 'data/x.csv') from b",
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


READS = [
    "create table x as select 'a secret, a copy' as s; from x",
    "pivot dropped on reason using count(*)",
    "explain analyze select 1",
    "explain (format json, analyze) (select 1)",
    'select "copy" from (select 1 as "copy") -- copy',
    "create temp table a as pivot dropped on reason using count(*); select 1; select 2",
    "drop view pairs; show tables",
]


@pytest.mark.parametrize("text", READS)
def test_what_looks_or_stays_in_memory_is_allowed(run: Path, text: str) -> None:
    assert sql(text).height


def test_secrets_are_not_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(run / "home"))
    with pytest.raises(TsrError, match="query"):
        sql("create persistent secret s (type http)")
    assert not (run / "home").exists()


def test_results_are_not_written_among_the_tables(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pl.DataFrame({"a": [1]})
    Path("link.csv").symlink_to("data/pairs/sr-1.parquet")
    for data in ("data", "elsewhere"):  # the pipeline's own are no place either while another dataset is looked at
        monkeypatch.setenv("TSR_DATA", data)
        for out in ("data/pairs/sr-1.parquet", "data/../data/x.csv", "link.csv", f"{data}/x.csv"):
            with pytest.raises(TsrError, match="whose tables are read-only"):
                output.put(rows, "csv", Path(out), replace=True)
    os.mkfifo("fifo.csv")
    for out in ("fifo.csv", "/dev/null", "data/.."):
        with pytest.raises(TsrError, match="expected a file"):
            output.put(rows, "csv", Path(out), replace=True)
    with pytest.raises(TsrError, match=r"its ending '\.txt': expected one of table, csv, json, parquet"):
        output.put(rows, None, Path("x.txt"))
    with pytest.raises(TsrError, match="--format '': expected one of table"):
        output.put(rows, "")


def test_a_file_is_replaced_only_when_asked(run: Path) -> None:
    Path("there.csv").write_text("mine")
    Path("link.csv").symlink_to("there.csv")
    with pytest.raises(TsrError, match=r"link\.csv: is there already; --replace"):
        output.put(pl.DataFrame({"a": [1]}), None, Path("link.csv"))
    assert Path("there.csv").read_text() == "mine"
    output.put(pl.DataFrame({"a": [1]}), None, Path("link.csv"), replace=True)
    assert Path("link.csv").is_symlink()
    assert Path("there.csv").read_text() == "a\n1\n"


def test_formats_are_checked(run: Path) -> None:
    rows = pl.DataFrame({"a": [1]})
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


ODD = """select 1 as a, 2 as A, interval 1 day as i, [date '2020-01-01'] as dates,
    date 'infinity' as d, '101'::bit as b,
    '\\xFF'::blob as bl, map {'a': 1} as m, null as n, {'a': date '2020-01-01'} as s,
    '12:00:00+02'::timetz as tz,
    1::union(n int) as u, timestamp '290000-01-01' as t,
    'nan'::double as f, ['inf'::double] as fs, 'a'::enum('a') as e"""


def test_every_type_can_be_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = sql(ODD)
    for form in ("table", "csv", "json"):
        output.put(rows, form)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    wanted = {
        "A_1": 2,
        "i": "1 day",
        "dates": "[2020-01-01]",
        "d": "infinity",
        "b": "101",
        "tz": "12:00:00+02",
        "u": "1",
    }
    assert told | wanted | {"f": None, "fs": [None], "m": {"a": 1}} == told
    output.put(rows, None, Path("odd.parquet"))
    assert pl.read_parquet("odd.parquet")["t"].to_list() == ["290000-01-01 00:00:00"]
    with pytest.raises(TsrError, match=r"--format 'table': this result cannot be told so"):
        output.put(sql("select (-170141183460469231731687303715884105728)::hugeint as h"), "table")


def test_names_that_come_again_are_numbered_and_order_stays(run: Path) -> None:
    joined = "pairs p join generations g on chosen_id = generation_id"
    rows = sql(f"select p.model, g.model, p.gap from {joined} order by p.gap, pair_id")
    assert rows.columns == ["model", "model_1", "gap"]
    assert rows["gap"].is_sorted()
    assert set(sql("select * from pairs join generations on chosen_id = generation_id").columns) >= {"model", "model_1"}


def test_the_prompt_survives_what_goes_wrong(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    huge = "select (-170141183460469231731687303715884105728)::hugeint as h;"
    typed = iter(["nonsense;", huge, "select 'last' as l;"])

    def read(_: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)
    with views.open_views() as db:
        shell.shell(db)
    told = capsys.readouterr()
    assert "last" in told.out
    assert len(told.err.splitlines()) == 2


ENDLESS = "select count(*) from range(100000000) a, range(100000) b where a.range * b.range % 7 = 3"


def test_interrupting_ends_a_query(run: Path) -> None:
    words = [sys.executable, "-c", "from stages import views; print('open', flush=True); " + _ASK]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asked:
        assert asked.stdout is not None
        asked.stdout.readline()
        time.sleep(1)
        asked.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in asked.communicate(timeout=10)[1]


_ASK = f"db = views.open_views(); views.ask(db, {ENDLESS!r}, 'query')"


def tsr(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a process, in the current folder."""
    whole = [sys.executable, "-m", "stages", *words]
    return subprocess.run(
        whole, check=False, capture_output=True, text=True, env=os.environ | environment, errors="replace"
    )


def test_output_that_cannot_take_it_is_no_traceback(run: Path) -> None:
    told = tsr("sql", "select chr(233) as a", "--format", "csv", PYTHONIOENCODING="ascii")
    assert (told.returncode, told.stdout, told.stderr) == (0, "a\n?\n", "")
    for redirected, wanted in ((">/dev/full", (2, "tsr: output: No space left on device\n")), (">&-", (0, ""))):
        line = f"'{sys.executable}' -m stages query drop_funnel {redirected}"
        done = subprocess.run(["bash", "-c", line], check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == wanted
    words = [sys.executable, "-m", "stages", "show", b"\xff"]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "tsr: argument '\\udcff': is no UTF-8 text\n")


def test_names_are_short_enough_for_files() -> None:
    with pytest.raises(TsrError, match="has 300 characters; expected at most 100"):
        queries.find("a" * 300)


def test_an_error_names_the_line_of_the_file_not_of_the_statement(run: Path) -> None:
    for text in ("select 1;\n\nselect 'é\n';\nselect\n  nope", "select 1;\n\n-- two\nselect 2;\nselec\n"):
        with pytest.raises(TsrError, match=r"^query:(6|5): "), views.open_views() as db:
            views.ask(db, text, "query")


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


def test_a_folder_may_be_called_anything(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, columns = sql("select count(*) from pairs").item(), sql("from pairs limit 0").columns
    odd = run / "a[1]*?" / "key=value"
    shutil.copytree("data", odd)
    monkeypatch.setenv("TSR_DATA", str(odd))
    assert sql("select count(*) from pairs").item() == wanted
    assert set(sql("from pairs limit 0").columns) == set(columns)
    assert "key" not in sql("from pairs limit 0").columns


def test_what_is_no_table_is_named(run: Path) -> None:
    path = Path("data/pairs/a.parquet")
    path.symlink_to("nowhere")
    with pytest.raises(TsrError, match=r"data/pairs/a\.parquet: no such file"):
        sql("select 1")
    path.unlink()
    path.mkdir()
    with pytest.raises(TsrError, match=r"data/pairs/a\.parquet: no such file"):
        sql("select 1")
    path.rmdir()
    shutil.copy("data/prompts/r0.parquet", path)
    with pytest.raises(TsrError, match=r"data/pairs/a\.parquet: column 'pair_id' is missing"):
        sql("select 1")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_named(run: Path) -> None:
    Path("data/pairs").chmod(0)
    with pytest.raises(TsrError, match=r"data/pairs: cannot be read"):
        sql("select 1")


def test_a_fresh_clone_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSR_DATA", str(tmp_path))
    with pytest.raises(TsrError, match="no tables yet; `dvc repro` makes them, `dvc pull` fetches them"):
        sql("select 1")


def test_a_missing_dataset_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSR_DATA", "data/imported/nobody")
    with pytest.raises(TsrError, match="data/imported/nobody: no such folder"):
        sql("select 1")


def test_a_pair_tells_its_story(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    pair = sql("from pairs order by pair_id limit 1").to_dicts()[0]
    show.show(pair["pair_id"][:12])
    told = capsys.readouterr().out
    generations = tables.read("generations", paths.generations(pair["chosen_model"], pair["split"]))
    judgments = tables.read("judgments", paths.judgments(pair["judge"], pair["chosen_model"], pair["split"]))
    chosen = generations.filter(pl.col("generation_id") == pair["chosen_id"]).to_dicts()[0]
    vote = judgments.filter(pl.col("generation_id") == pair["chosen_id"]).to_dicts()[0]
    for part in (pair["prompt_id"], chosen["model_hash"], str(chosen["seed"]), str(vote["seed"]), vote["raw"]):
        assert part in told
    with pytest.raises(TsrError, match="not in data/pairs"):
        show.show("nobody")
    with pytest.raises(TsrError, match="several begin like that"):
        show.show("")


def test_a_pair_as_json_without_params(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not Path("params.yaml").exists()
    pair = sql("from pairs order by pair_id limit 1").to_dicts()[0]
    show.show(pair["pair_id"], "json")
    told = json.loads(capsys.readouterr().out)
    votes = [vote for vote in told["votes"] if vote["judge"] == pair["judge"]]
    assert {vote["side"]: vote["score"] for vote in votes} == {
        side: pair[f"{side}_score"] for side in ("chosen", "rejected")
    }
    assert [side["model"] for side in told["sides"]] == [pair["chosen_model"], pair["rejected_model"]]
    show.show(pair["pair_id"])
    assert f"weights of {votes[0]['judge']}: {votes[0]['judge_hash']}" in capsys.readouterr().out
    with pytest.raises(TsrError, match="--format 'csv': expected one of text, json"):
        show.show(pair["pair_id"], "csv")


def test_imported_votes_are_read_by_the_rubric_of_the_import(run: Path) -> None:
    columns = {"side": "chosen", "generation_id": "g", "judge": "j", "rubric_hash": None, "finish_reason": "stop"}
    votes = tables.frame(
        "judgments", [{"way": "votes", "vote_id": 0, "raw": "Score: 3", "given_score": None} | columns]
    )
    told = {"mapping": {"judgments": [{"rubric": "additive"}]}}
    Path("data/import.json").write_text(json.dumps(told))
    assert show.scored(votes.with_columns(side=pl.lit("chosen")))["score"].to_list() == [3.0]
    Path("data/import.json").write_text(json.dumps({"mapping": {"judgments": [{"rubric": "micro"}]}}))
    assert show.scored(votes.with_columns(side=pl.lit("chosen")))["score"].to_list() == [None]


def test_empty_tables_have_the_columns_of_their_contracts(imported: Path) -> None:
    shutil.rmtree(imported / "prompts")
    with views.open_views() as db:
        for table in views.TABLES:
            empty = pl.DataFrame(db.sql(f"from nothing.{table}").to_arrow_table())
            assert dict(list(empty.schema.items())[: len(tables.schema(table))]) == tables.schema(table)
            from_path = {
                "generations": ["split"],
                "games": ["split"],
                "judgments": ["model", "split"],
                "scores": ["split"],
            }
            assert empty.columns[len(tables.schema(table)) :] == from_path.get(table, [])


@pytest.mark.skipif(shutil.which("duckdb") is None, reason="the duckdb command is not installed")
def test_the_duckdb_command_opens_another_dataset_without_the_plan(run: Path) -> None:
    shutil.copytree("data/pairs", "data/imported/x/pairs")
    counts = "(select count(*) from rounds), (select count(*) from judgments), count(*), count(split) from pairs"
    other = ["set variable data = 'data/imported/x'", ".read stages/sql/views/all.sql"]
    words = ["duckdb", "-csv", "-noheader", "-init", "stages/sql/views/all.sql", "-c", other[0], "-c", other[1]]
    done = subprocess.run([*words, "-c", f"select {counts}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"0,0,{sql('select count(*) from pairs').item()},0"]


@pytest.mark.skipif(shutil.which("duckdb") is None, reason="the duckdb command is not installed")
def test_the_duckdb_command_opens_the_same_views(run: Path) -> None:
    counts = ", ".join(f"(select count(*) from {view})" for view in VIEWS)
    words = ["duckdb", "-csv", "-noheader", "-init", "stages/sql/views/all.sql", "-c", f"select {counts}"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert tuple(map(int, done.stdout.split(","))) == sql(f"select {counts}").row(0)
