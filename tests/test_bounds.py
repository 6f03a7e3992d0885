"""Files that unfold to more than they show: each is refused in one line before it takes the memory."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from chat_rows import settings
from rows import generations

from stages import bounds, cli, pair, prepare, sqlrun, tables
from stages.benchmark import local_files
from stages.errors import TsrError
from stages.importing import sources
from stages.importing.dirt import Dirt

MAPPING = {
    "prompts": {"prompt": "prompt"},
    "responses": {"model": {"value": "m"}, "response": "response", "finish_reason": {"value": "stop"}},
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.yaml").write_text(yaml.safe_dump(MAPPING))


def small(monkeypatch: pytest.MonkeyPatch, mebibytes: int) -> None:
    """A machine with so much memory."""
    monkeypatch.setattr(bounds, "memory", lambda: mebibytes << 20)


def bomb(path: Path, rows: int, text: str, column: str = "response") -> None:
    """A file with one text in all rows, as a dictionary: a few bytes a thousand rows."""
    one = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([text], pa.large_string()))
    names = {"prompt": pa.array(["p"] * rows), column: one}
    pq.write_table(pa.table(names), path, compression="zstd")


def refused(*words: str) -> str:
    with pytest.raises(TsrError) as error:
        cli.app([*words], standalone_mode=False)
    assert "\n" not in str(error.value)
    assert not Path("data").exists()
    return str(error.value)


def test_texts_that_share_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb(Path("b.parquet"), 2000, "x" * 1_000_000)
    assert Path("b.parquet").stat().st_size < 100_000
    small(monkeypatch, 1024)
    told = refused("import", "d", "b.parquet", "--mapping", "m.yaml")
    assert told == "b.parquet: unfolds to 1.86 GiB or more; this machine has 1 GiB of memory"


def test_many_rows_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(
        pa.table({"prompt": pa.nulls(5_000_000, pa.string()), "response": pa.nulls(5_000_000, pa.string())}),
        "b.parquet",
    )
    assert Path("b.parquet").stat().st_size < 50_000
    small(monkeypatch, 64)
    monkeypatch.setattr(pl, "read_parquet", None)  # it is refused by its footer
    assert "b.parquet: unfolds to 0.0745 GiB or more" in refused("import", "d", "b.parquet", "--mapping", "m.yaml")


def test_pages_that_expand(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [bytes([65 + number]).decode() * 20_000_000 for number in range(8)]
    pq.write_table(
        pa.table({"prompt": texts, "response": texts}), "b.parquet", compression="zstd", use_dictionary=False
    )
    assert Path("b.parquet").stat().st_size < 1_000_000
    small(monkeypatch, 256)
    monkeypatch.setattr(pl, "read_parquet", None)
    assert "b.parquet: unfolds to 0.298 GiB or more" in refused("import", "d", "b.parquet", "--mapping", "m.yaml")


def test_tables_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    made = generations([f"{n:05}" for n in range(2000)], response="x" * 100_000)
    tables.write("generations", made, Path("t.parquet"))
    assert tables.read("generations", Path("t.parquet")).height == 2000
    small(monkeypatch, 64)
    with pytest.raises(TsrError, match=r"^t\.parquet: unfolds to 0\.18\d GiB or more; this machine has 0\.0625 GiB"):
        tables.read("generations", Path("t.parquet"))


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_a_line_without_an_end(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LONGEST", 1 << 20)
    start = {"jsonl": '{"prompt": "', "csv": 'prompt,response\n"'}[ending]
    Path(f"b.{ending}").write_text(start + "x" * (2 << 20))
    told = refused("import", "d", f"b.{ending}", "--mapping", "m.yaml")
    assert told.endswith(f"line {1 if ending == 'jsonl' else 2}: is longer than 1 MiB; expected a record a line")


def test_a_csv_field_over_many_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LONGEST", 1 << 20)
    Path("b.csv").write_text('prompt,response\n"' + ("x" * 1000 + "\n") * 3000)
    assert "not valid CSV, or cut off: field larger than field limit" in refused(
        "import", "d", "b.csv", "--mapping", "m.yaml"
    )


def test_a_whole_file_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("b.json").write_text(json.dumps([{"prompt": "x" * (2 << 20), "response": "r"}]))
    small(monkeypatch, 4)
    assert "expected JSONL, which is read line by line" in refused("import", "d", "b.json", "--mapping", "m.yaml")


@pytest.mark.parametrize("depth", [500, 900, 990, 1100, 5000, 200_000])
@pytest.mark.parametrize("form", ['{"a":', "["])
def test_json_as_deep_as_it_comes(depth: int, form: str) -> None:
    inside = form * depth + "1" + {"[": "]", '{"a":': "}"}[form] * depth
    for text in (inside, f'{{"prompt": {inside}, "response": "r"}}'):
        Path("b.jsonl").write_text(text + "\n")
        try:
            cli.app(["import", "d", "b.jsonl", "--mapping", "m.yaml", "--replace"], standalone_mode=False)
        except TsrError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("number", ["1" * 5000, "1e999", "-" + "9" * 400, "NaN", "Infinity"])
def test_numbers_as_long_as_they_come(number: str) -> None:
    Path("b.jsonl").write_text(f'{{"prompt": "p", "response": {number}}}\n')
    try:
        cli.app(["import", "d", "b.jsonl", "--mapping", "m.yaml"], standalone_mode=False)
    except TsrError as error:
        assert "\n" not in str(error)


# --- gzip, and Parquet that is read in part ------------------------------------------------------------------------


def test_gzip_that_unfolds(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("b.jsonl.gz")
    path.write_bytes(gzip.compress(b'{"a":"' + b"x" * 1000 + b'"}\n') * 20_000)
    assert path.stat().st_size < 1_500_000
    assert local_files._read(path).height == 20_000
    small(monkeypatch, 8)
    taken = []
    check = bounds.check_bytes
    monkeypatch.setattr(bounds, "check_bytes", lambda where, least: (taken.append(least), check(where, least)))
    with pytest.raises(
        TsrError, match=r"^b\.jsonl\.gz: unfolds to 0\.\d+ GiB or more; this machine has 0\.00781 GiB of memory$"
    ):
        local_files._read(path)
    assert max(taken) <= (8 << 20) + bounds.JSON_UNFOLDS * bounds._PIECE  # no more was unpacked than the limit


@pytest.mark.parametrize("damage", ["cut off", "flipped", "no gzip", "no block"])
def test_gzip_that_is_damaged_is_one_line(damage: str) -> None:
    whole = gzip.compress(random.Random(1).randbytes(5000))
    flipped = whole[:40] + bytes([whole[40] ^ 0xFF]) + whole[41:]
    bad = gzip.compress(b"")[:10] + b"\xff" * 20  # a block of a kind that there is not
    told = {"cut off": whole[:100], "flipped": flipped, "no gzip": b"{}", "no block": bad}
    Path("b.jsonl.gz").write_bytes(told[damage])
    with pytest.raises(TsrError, match=r"^b\.jsonl\.gz: not readable as gzip, or cut off: [^\n]+$"):
        bounds.unpacked(Path("b.jsonl.gz"))


@pytest.mark.parametrize("rows", [200_000, 1000])
def test_a_benchmarks_table(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Refused by the file's own account, before it is read, or where texts share their bytes, after."""
    bomb(Path("b.parquet"), rows, "x" * 10_000)
    small(monkeypatch, 1)
    if rows == 200_000:
        monkeypatch.setattr(pl, "read_parquet", None)
    with pytest.raises(TsrError, match=r"^b\.parquet: unfolds to "):
        local_files._read(Path("b.parquet"))


@pytest.mark.parametrize("name", ["b.jsonl", "b.csv"])
def test_a_benchmarks_file_that_is_as_large_as_it_looks(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    Path(name).write_text("a\n" * (1 << 19))
    small(monkeypatch, 2)
    with pytest.raises(TsrError, match=rf"^{name}: unfolds to "):
        local_files._read(Path(name))


def test_pair_reads_ids_whole_and_they_alone_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of prompts may be larger than the memory, for pair is out of core; its ids may not."""
    ids = [f"{n:05}" for n in range(20_000)]
    contents = pa.array([[{"role": "user", "content": f"{n}" + "x" * 500}] for n in range(20_000)])
    pq.write_table(pa.table({"prompt_id": ids, "messages": contents}), "p.parquet", use_dictionary=False)
    small(monkeypatch, 1)
    with pytest.raises(TsrError, match="unfolds to"):
        bounds.check_parquet(Path("p.parquet"))
    assert len(pair._parts(Path("p.parquet"))) == 1
    bomb(Path("p.parquet"), 500_000, "x" * 2000, column="prompt_id")  # four megabytes of places for texts
    with pytest.raises(TsrError, match=r"^p\.parquet: unfolds to 0\.00373 GiB"):
        pair._parts(Path("p.parquet"))
    bomb(Path("p.parquet"), 1000, "x" * 2000, column="prompt_id")  # few places for one text
    with pytest.raises(TsrError, match=r"^p\.parquet: unfolds to 0\.00186 GiB"):
        pair._parts(Path("p.parquet"))


def test_what_a_forecast_reads_of_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thousand rows: groups of rows behind them do not count, nor do other columns."""
    columns = {"a": ["y" * 100] * 3000, "b.c": ["z" * 5000] * 3000}
    pq.write_table(pa.table(columns), "t.parquet", row_group_size=1000, use_dictionary=False)
    small(monkeypatch, 1)
    assert tables.head("t", Path("t.parquet"), ["a"], 1000).height == 1000
    bounds.check_parquet(Path("t.parquet"), ["a"], 3000)
    with pytest.raises(TsrError, match=r"^t\.parquet: unfolds to 0\.004\d+ GiB"):
        bounds.check_parquet(Path("t.parquet"), ["b.c"], 1)  # a group is read whole
    with pytest.raises(TsrError, match=r"^t\.parquet: unfolds to 0\.014 GiB"):
        bounds.check_parquet(Path("t.parquet"), ["b.c"])
    bomb(Path("t.parquet"), 1000, "x" * 10_000, column="messages")
    with pytest.raises(TsrError, match=r"^t\.parquet: unfolds to 0\.0093"):
        tables.head("t", Path("t.parquet"), ["messages"], 1000)


# --- chat data: DuckDB reads it, within its own limit of memory -----------------------------------------------------


def chat(path: str) -> None:
    none: dict[str, Any] = {"oasst": [], "ultrafeedback": [], "eft_from": "files"}
    prepare.run(7, settings(files=[path], **none))


@pytest.mark.parametrize("ending", ["parquet", "jsonl.gz"])
def test_chat_data_with_texts_larger_than_duckdbs_memory(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlrun, "MEMORY", "64MiB")
    path, text = Path(f"b.{ending}"), "x" * 8_000_000
    if ending == "parquet":
        bomb(path, 40, text, column="prompt2")
        pq.write_table(pq.read_table(path).select(["prompt2"]).rename_columns(["prompt"]), path, compression="zstd")
    else:
        path.write_bytes(gzip.compress((json.dumps({"prompt": text}) + "\n").encode() * 10))
    with pytest.raises(TsrError, match=r"Out of Memory") as error:
        chat(str(path))
    assert "\n" not in str(error.value)
    assert not list(Path("data").rglob("*.parquet"))


def test_chat_data_without_an_end_of_a_line() -> None:
    Path("b.jsonl.gz").write_bytes(gzip.compress(b'{"prompt": "' + b"x" * (20 << 20)))
    with pytest.raises(TsrError, match=r"^b\.jsonl\.gz: cannot be read: ") as error:
        chat("b.jsonl.gz")
    assert "\n" not in str(error.value)


def test_splits_are_taken_into_memory_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    rated = [{"model": f"m{n}", "response": f"{n}", "rating": str(n)} for n in range(3)]
    rows = [{"prompt": f"{n} " + "x" * 20_000, "reference": "r", "responses": rated} for n in range(60)]
    Path("b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(bounds, "memory", lambda: 50_000)
    with pytest.raises(TsrError, match=r"^prepare: split \w+: unfolds to "):
        chat("b.jsonl")
    assert not list(Path("data").rglob("*.parquet"))
    small(monkeypatch, 10)
    chat("b.jsonl")
    assert list(Path("data/prompts").glob("*.parquet"))


def test_what_fits_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb(Path("b.parquet"), 20, "x" * 1000)
    small(monkeypatch, 1)
    read: list[dict[str, Any]] = list(sources.records(Path("b.parquet"), {"prompt", "response"}, Dirt()))
    assert len(read) == 20 and read[0] == {"prompt": "p", "response": "x" * 1000}


def test_texts_inside_lists_and_structs_count() -> None:
    rows = pl.DataFrame({"a": [[{"b": "xy", "c": ["é"]}], []], "d": ["z", None], "e": [1, 2]})
    rows = rows.with_columns(f=pl.col("d").cast(pl.Categorical()), g=pl.lit(b"\x00\x01\x02"))
    assert sum(bounds._letters(column) for column in rows.iter_columns()) == 5 + 1 + 6
    assert bounds._letters(pl.Series([], dtype=pl.List(pl.String))) == 0


def test_the_memory_of_a_container_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_GROUP", Path("limit"))
    whole = bounds.memory()
    Path("limit").write_text("1048576\n")
    assert bounds.memory() == 1 << 20
    Path("limit").write_text("max\n")
    assert bounds.memory() == whole > 1 << 30
