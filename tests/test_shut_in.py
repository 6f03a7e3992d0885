"""SQL of somebody else's reads the tables that it is given and nothing else: no file, no net, no memory of Python's."""

import shutil
from pathlib import Path

import duckdb
import polars as pl
import pytest
from rows import candidates, prompts

from stages import cli, pair, paths, views
from stages.candidates import Sides
from stages.errors import TsrError
from stages.params import Pair

LOOKS = {
    "a text": "select content from read_text('SECRET')",
    "bytes": "select content::varchar from read_blob('SECRET')",
    "a CSV file": "select * from read_csv('SECRET', header = false)",
    "a file by its name": "select * from 'SECRET.csv'",
    "a folder": "select file from glob('FOLDER/*')",
    "a Parquet file": "select * from read_parquet('SECRET.parquet')",
    "what a CSV file is like": "select * from sniff_csv('SECRET')",
    "the net": "select * from read_csv('https://127.0.0.1:9/x.csv')",
    "a bucket": "select * from read_parquet('s3://bucket/x.parquet')",
    "a variable of Python's": "select * from frame",
}
STATEMENTS = {
    "a database": "attach 'SECRET.db' as other",
    "an extension": "install httpfs",
    "one that is there": "load httpfs",
    "a copy": "copy (select 1) to 'FOLDER/pwned'",
    "an export": "export database 'FOLDER'",
    "a setting": "set enable_external_access = true",
    "another": "set allowed_directories = ['/']",
    "a pragma": "pragma enable_external_access = true",
    "an import": "import database 'FOLDER'",
}
GIVEN = [{"prompt": "p", "role": "own", "id": name, "score": score} for name, score in (("a", 4), ("b", 1))]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that no query may read, as CSV and Parquet too, and a module's variable."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("secret", "secret.csv"):
        (folder / name).write_text("canary\n")
    pl.DataFrame({"a": ["canary"]}).write_parquet(folder / "secret.parquet")
    return folder / "secret"


def filled(text: str, secret: Path) -> str:
    return text.replace("SECRET", str(secret)).replace("FOLDER", str(secret.parent))


def strategy(text: str, folder: Path) -> str:
    """A strategy that tries something beside its work."""
    path = folder / "mine.sql"
    path.write_text(
        "select prompt_id, 'a' as chosen_id, "
        f"if((select count(*) from ({text})) > 0, 'b', null) as rejected_id from prompts"
    )
    return str(path)


@pytest.mark.parametrize("look", LOOKS)
def test_a_strategy_on_frames_sees_its_tables_alone(look: str, secret: Path) -> None:
    frame = pl.DataFrame({"a": [1]}).to_arrow()  # noqa: F841 (what SQL must not find)
    file = strategy(filled(LOOKS[look], secret), secret.parent)
    with pytest.raises(TsrError) as refused:
        pair.make_pairs(Pair(min_gap=0.0, parameters={}), "m", file, prompts(["p"]), candidates(GIVEN))
    assert "canary" not in str(refused.value)


@pytest.fixture
def copied(finished: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small run without its weights, as the current folder."""
    folder = tmp_path / "run"
    shutil.copytree(finished[1], folder, ignore=shutil.ignore_patterns("models"))  # type: ignore[index]
    monkeypatch.chdir(folder)
    return folder


def test_a_strategy_on_files_sees_its_tables_alone(copied: Path, secret: Path) -> None:
    sides = Sides("M0", "r0", "M0", "M0", "M0")
    settings = Pair(min_gap=0.0, parameters={})
    for look in LOOKS.values():
        with pytest.raises(TsrError) as refused:
            pair.run(settings, "x", strategy(filled(look, secret), secret.parent), sides)
        assert "canary" not in str(refused.value)
        assert not paths.pairs("x").exists()
    other = copied / "data/scores/M0/sr-1/r0.parquet"
    for text in (f"from '{other}'", "from 'data/prompts/eval.parquet'"):  # tables, but none of this round
        assert (copied / "data/prompts/eval.parquet").exists() and other.exists()
        with pytest.raises(TsrError, match="Permission Error"):
            pair.run(settings, "x", strategy(text, secret.parent), sides)


def test_tables_that_are_links_are_read(copied: Path) -> None:
    """As DVC lays them out with cache.type symlink."""
    sides = Sides("M0", "r0", "M0", "M0", "M0")
    settings = Pair(min_gap=0.0, parameters={})
    pair.run(settings, "x", "self_rewarding", sides)
    before = paths.pairs("x").read_bytes()
    cache = copied.parent / "cache it's"
    cache.mkdir()
    for number, path in enumerate(sorted(copied.glob("data/**/*.parquet"))):
        shutil.move(path, cache / f"{number}")
        path.symlink_to(cache / f"{number}")
    pair.run(settings, "x", "self_rewarding", sides)
    assert paths.pairs("x").read_bytes() == before
    with views.open_views() as db:
        assert db.sql("select count(*) from generations").fetchall()[0][0] > 0
        assert db.sql("select count(*) from rounds").fetchall()[0][0] > 0


@pytest.mark.parametrize("look", LOOKS)
def test_a_query_sees_the_dataset_alone(look: str, copied: Path, secret: Path) -> None:
    frame = pl.DataFrame({"a": [1]}).to_arrow()  # noqa: F841 (what SQL must not find)
    with views.open_views() as db, pytest.raises(TsrError) as refused:
        views.ask(db, filled(LOOKS[look], secret), "query")
    assert "canary" not in str(refused.value)


def test_a_query_sees_no_secrets(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB keeps those of the user, for buckets, in his home."""
    monkeypatch.setenv("HOME", str(copied.parent))
    with views.open_views() as db:
        found = views.ask(db, "select * from duckdb_secrets()", "query")
    assert found is not None and found.height == 0


def test_what_spills_lies_in_a_folder_of_its_own(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = tmp_path / "temporary"
    beside.mkdir()
    (beside / "secret.csv").write_text("canary\n")
    monkeypatch.setattr("tempfile.tempdir", str(beside))
    with views.open_views() as db:
        with pytest.raises(TsrError, match=r"Permission Error|does not exist"):
            views.ask(db, f"from read_csv('{beside}/secret.csv')", "query")
        (place,) = db.sql("select current_setting('temp_directory')").fetchall()[0]
        assert Path(place).parent == beside and not Path(place).exists()
    assert [path.name for path in beside.iterdir()] == ["secret.csv"]


@pytest.mark.parametrize("kind", STATEMENTS)
def test_a_statement_changes_nothing_outside_memory(kind: str, copied: Path, secret: Path) -> None:
    before = sorted(secret.parent.iterdir())
    with views.open_views() as db:
        with pytest.raises(TsrError, match="is refused, the tables are read-only"):
            views.ask(db, filled(STATEMENTS[kind], secret), "query")
        with pytest.raises(duckdb.Error):  # nor would DuckDB itself
            db.execute(filled(STATEMENTS[kind], secret))
    assert sorted(secret.parent.iterdir()) == before


def test_a_folder_may_be_named_that_queries_read_too(
    copied: Path, secret: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"select * from '{secret}.csv'"
    with pytest.raises(TsrError, match=r"Permission Error|does not exist"):
        cli.app(["sql", text], standalone_mode=False)
    cli.app(["sql", text, "--read", str(secret.parent), "--format", "csv"], standalone_mode=False)
    assert capsys.readouterr().out == "canary\n"
    with pytest.raises(TsrError, match="--read gone: no such folder"):
        cli.app(["sql", text, "--read", "gone"], standalone_mode=False)
