"""Files that unfold to more than they show: each is refused in one line before it takes the memory."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from rows import generations

from stages import bounds, cli, tables
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
