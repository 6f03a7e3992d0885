"""Exports: what others load from them, where the rows are said to come from, and what is in the way."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from rows import generations
from small_run import Run

from stages import paths, tables
from stages.cli import app
from stages.errors import TsrError
from stages.exporting import alpaca_eval, hugging_face
from stages.exporting.card import funnel, summary
from stages.exporting.provenance import read_lock
from stages.lockfile import actual_md5

LOAD = """
import sys
from datasets import load_dataset
pairs = load_dataset("parquet", data_files=sys.argv[1], split="train")
print(pairs.num_rows, pairs.column_names == load_dataset(sys.argv[2], split="train").column_names)
for name in sys.argv[3:]:
    print(name, load_dataset(sys.argv[2], name, split="train").num_rows)
"""


def export(*names: str, to: Path, extra: tuple[str, ...] = (), licence: str = "unknown", replace: bool = False) -> None:
    hugging_face.export(names, to, extra=extra, licence=licence, replace=replace)


def tsr(*words: str) -> None:
    app(list(words), standalone_mode=False)


def header(folder: Path) -> dict[str, Any]:
    """The YAML of a card."""
    loaded: dict[str, Any] = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    return loaded


def told(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "provenance.json").read_text())
    return loaded


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def locked(run: Run) -> Iterator[dict[str, Any]]:
    """A dvc.lock beside the small run, as DVC would have written it."""
    row = {"generations": "data/generations/M0/r0.parquet", "scores": "data/scores/M0/M0/r0.parquet"}
    judged, pairs = "data/judgments/M0/M0/r0.parquet", "data/pairs/sr-1.parquet"

    def listed(*names: str) -> list[dict[str, str]]:
        return [{"path": name, "md5": actual_md5(Path(name))} for name in names]

    def stage(params: dict[str, Any], deps: list[str], *outs: str) -> dict[str, Any]:
        return {"params": {"params.yaml": params}, "deps": listed(*deps), "outs": listed(*outs)}

    ask = {"seed": 7, "micro.backends": {"openai": {"base_url": "http://somewhere.invalid"}}}
    prompts, model = "data/prompts/r0.parquet", "data/models/M0"
    lock = {
        "prepare": stage({"seed": 7, "micro.prepare": {"splits": 4}}, [], "data/prompts"),
        "generate@M0.r0": stage(ask | {"micro.generate": {"samples": 6}}, [prompts, model], row["generations"]),
        "judge@M0.M0.r0": stage(ask, [prompts, model, row["generations"]], judged),
        "score@M0.M0.r0": stage({}, [row["generations"], judged], row["scores"]),
        "pair@sr-1": stage(
            {"micro.pair": {"min_gap": 0.0}}, [prompts, *row.values()], pairs, "data/dropped/sr-1.parquet"
        ),
    }
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": lock}))
    yield lock
    Path("dvc.lock").unlink()


def test_a_folder_loads_as_the_pairs_file_does(run: Run, tmp_path: Path) -> None:
    tsr("export", "sr-1", "tsr-1", "--to", str(tmp_path / "out"), "--with", "generations,judgments,scores,dropped")
    names = ["sr-1", "tsr-1", "generations", "judgments", "scores", "dropped"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(paths.pairs("sr-1")), str(tmp_path / "out"), *names],
        env=os.environ | offline,
        capture_output=True,
        text=True,
        check=True,
    )
    sizes = {name: tables.read("pairs", paths.pairs(name)).height for name in names[:2]}
    for table in names[2:]:
        sizes[table] = pl.read_parquet(tmp_path / "out" / table / "**/*.parquet").height
    expected = [f"{sizes['sr-1']} True", *(f"{name} {rows}" for name, rows in sizes.items())]
    assert done.stdout.splitlines() == expected


def test_trl_trains_one_step_on_an_exported_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import load_dataset
    from trl import DPOConfig, DPOTrainer

    from stages import models

    export("sr-1", to=tmp_path / "out")
    plain = {"use_cpu": True, "bf16": False, "report_to": [], "output_dir": str(tmp_path / "made")}
    trainer = DPOTrainer(
        model=models.load_model(paths.model("M0")),
        ref_model=models.load_model(paths.model("M0")),
        processing_class=models.load_tokenizer(paths.model("M0")),
        train_dataset=load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache")),
        args=DPOConfig(max_steps=1, max_length=None, logging_steps=1, **plain),
    )
    trainer.train()
    assert trainer.state.global_step == 1
    assert trainer.state.log_history[0]["loss"] > 0


def test_equal_input_gives_equal_bytes(
    run: Run, locked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path.cwd()
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        shutil.copytree(here, tmp_path / place / "repo", ignore=shutil.ignore_patterns("models", ".tsr"))
        monkeypatch.chdir(tmp_path / place / "repo")
        export("sr-1", to=tmp_path / place / "out", extra=hugging_face.EXTRA, licence="cc-by-4.0")
    one, two = files(tmp_path / "one/out"), files(tmp_path / "two/out")
    assert one == two
    text = one["README.md"] + one["provenance.json"]
    assert str(tmp_path).encode() not in text
    assert b"somewhere.invalid" not in text


def test_the_card_says_what_is_inside(run: Run, locked: dict[str, Any], tmp_path: Path) -> None:
    export("sr-1", to=tmp_path / "out", extra=("dropped", "generations"), licence="cc-by-4.0")
    about = header(tmp_path / "out")
    assert about["license"] == "cc-by-4.0"
    assert about["size_categories"] == ["n<1K"]
    assert [(c["config_name"], c.get("default", False)) for c in about["configs"]] == [
        ("sr-1", True),
        ("dropped", False),
        ("generations", False),
    ]
    card = (tmp_path / "out/README.md").read_text()
    pairs, dropped = tables.read("pairs", paths.pairs("sr-1")), tables.read("dropped", paths.dropped("sr-1"))
    assert f"| `sr-1` | self_rewarding | {pairs.height + dropped.height} | {pairs.height} |" in card
    for reason, count in dropped.group_by("reason").len().iter_rows():
        assert f"| {reason} | {count} |" in card
    for table in ("pairs", "dropped", "generations"):
        for name, spec in tables.contract(table)["columns"].items():
            assert f"| `{name}` |" in card and str(spec.get("about", "")) in card
    assert "| strategy | self_rewarding |" in card
    assert "Licence: cc-by-4.0" in card


def test_provenance_leads_back_to_the_prompts(run: Run, locked: dict[str, Any], tmp_path: Path) -> None:
    export("sr-1", to=tmp_path / "out", extra=("scores", "generations", "judgments", "prompts"))
    known = told(tmp_path / "out")["pairs"]["sr-1"]
    assert known["plan"]["strategy"] == "self_rewarding"
    assert set(known["rests_on"]["stages"]) == set(locked)
    assert known["rests_on"]["weights"] == {"M0": actual_md5(paths.model("M0"))}
    assert known["rests_on"]["params"]["micro.generate"] == {"samples": 6}
    assert told(tmp_path / "out")["dvc_lock_md5"] == actual_md5(Path("dvc.lock"))
    copied = told(tmp_path / "out")["files"]
    assert set(copied) == {
        "pairs/sr-1.parquet",
        "prompts/r0.parquet",
        "generations/M0/r0.parquet",
        "judgments/M0/M0/r0.parquet",
        "scores/M0/M0/r0.parquet",
    }
    for name, md5 in copied.items():
        assert actual_md5(Path("data") / name) == md5 == actual_md5(tmp_path / "out" / name)


@pytest.mark.parametrize("name", ["pairs/sr-1.parquet", "prompts/r0.parquet"])
def test_a_table_that_is_not_what_the_lock_says_is_not_exported(
    run: Run, locked: dict[str, Any], tmp_path: Path, name: str
) -> None:
    path = Path("data") / name
    kept = path.read_bytes()
    rows = pl.read_parquet(path)
    rows.write_parquet(path, compression="uncompressed")
    with pytest.raises(TsrError, match=rf"{name}: md5 .*; dvc\.lock says .*: run `dvc repro`"):
        export("sr-1", to=tmp_path / "out", extra=("prompts",))
    path.write_bytes(kept)
    assert list(tmp_path.iterdir()) == []


def test_stages_that_ran_under_different_params_are_a_mixture(run: Run, locked: dict[str, Any], tmp_path: Path) -> None:
    locked["judge@M0.M0.r0"]["params"]["params.yaml"]["seed"] = 8
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": locked}))
    with pytest.raises(TsrError, match=r"seed differs between generate@M0\.r0 and judge@M0\.M0\.r0"):
        export("sr-1", to=tmp_path / "out")


def test_an_imported_dataset_tells_what_it_was_imported_from(
    run: Run, locked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "set"
    for table in ("pairs", "dropped", "generations", "scores"):
        shutil.copytree(Path("data") / table, root / table)
    (root / "import.json").write_text('{"source": "a.jsonl", "rows": 3}')
    monkeypatch.setenv("TSR_DATA", str(root))
    export("sr-1", to=tmp_path / "out", extra=("scores",))
    about = told(tmp_path / "out")
    assert about["imported"] == {"source": "a.jsonl", "rows": 3}
    assert about["pairs"]["sr-1"] == {"plan": None, "rests_on": None}
    assert about["dvc_lock_md5"] is None
    assert set(about["files"]) > {"scores/M0/M0/r0.parquet", "scores/M0/sr-1/r0.parquet"}
    assert "imported" in (tmp_path / "out/README.md").read_text()


def test_an_exported_folder_is_a_folder_of_tables(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export("sr-1", to=tmp_path / "out", extra=("dropped",))
    monkeypatch.setenv("TSR_DATA", str(tmp_path / "out"))
    export("sr-1", to=tmp_path / "again", extra=("dropped",))
    assert files(tmp_path / "again")["pairs/sr-1.parquet"] == files(tmp_path / "out")["pairs/sr-1.parquet"]
    assert read_lock().md5 is None


def test_no_licence_is_said_to_be_unknown(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export("sr-1", to=tmp_path / "out")
    assert header(tmp_path / "out")["license"] == "unknown"
    assert "licence is unknown" in capsys.readouterr().out


def test_no_pairs_have_no_gap() -> None:
    none = tables.frame("pairs", [])
    assert summary("m", none, tables.frame("dropped", []))["mean"] is None
    assert funnel([("m", none, tables.frame("dropped", []))]) == [{"reason": "a pair", "m": 0}]


BAD = {
    "unknown pairs": (["none"], {}, r"pairs/none\.parquet: no such file"),
    "outside": (["../sr-1"], {}, "expected letters"),
    "twice": (["sr-1", "sr-1"], {}, "named twice"),
    "unknown table": (["sr-1"], {"extra": ("votes",)}, "--with 'votes': expected some of"),
    "a table's name": (["scores"], {}, "would share a config"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_wishes_are_one_line_and_leave_nothing(run: Run, tmp_path: Path, kind: str) -> None:
    names, more, expected = BAD[kind]
    with pytest.raises(TsrError, match=expected) as refused:
        export(*names, to=tmp_path / "out", **more)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


WORDS = {
    "format": (["sr-1", "--format", "csv"], "expected hf or alpaca_eval"),
    "split": (["sr-1", "--split", "r0"], "go with --format alpaca_eval"),
    "sample": (["sr-1", "--sample", "0"], "go with --format alpaca_eval"),
    "licence": (["M0", "--format", "alpaca_eval", "--split", "r0", "--license", "mit"], "no --with or --license"),
    "best and sample": (
        ["M0", "--format", "alpaca_eval", "--split", "r0", "--best", "M0", "--sample", "1"],
        "--sample or --best, expected one",
    ),
    "no split": (["sr-1", "--format", "alpaca_eval"], "one model version and --split"),
    "two": (["sr-1", "M0", "--format", "alpaca_eval", "--split", "r0"], "one model version and --split"),
}


@pytest.mark.parametrize("kind", WORDS)
def test_options_of_the_other_format_are_refused(run: Run, tmp_path: Path, kind: str) -> None:
    words, expected = WORDS[kind]
    with pytest.raises(TsrError, match=expected):
        tsr("export", *words, "--to", str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_replaced_only_if_it_is_an_export_and_asked_for(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export("sr-1", to=out, extra=("dropped",))
    with pytest.raises(TsrError, match="is there already"):
        export("sr-1", to=out)
    assert (out / "dropped").is_dir()
    export("sr-1", to=out, replace=True)
    assert not (out / "dropped").exists()
    (out / "provenance.json").unlink()
    before = files(out)
    with pytest.raises(TsrError, match="so it is no export"):
        export("sr-1", to=out, replace=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(TsrError, match="is a file"):
        export("sr-1", to=tmp_path / "file", replace=True)
    assert files(out) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "out"]


@pytest.mark.parametrize("words", [["sr-1"], ["M0", "--format", "alpaca_eval", "--split", "r0"]])
@pytest.mark.parametrize("place", ["data/out", "data/imported/it", "link/out"])
def test_an_export_among_the_tables_is_refused(run: Run, tmp_path: Path, words: list[str], place: str) -> None:
    Path("link").symlink_to("data")
    try:
        with pytest.raises(TsrError, match=f"--to {place}: lies in data, whose tables are read-only"):
            tsr("export", *words, "--to", place)
    finally:
        Path("link").unlink()


def test_a_failure_on_the_way_leaves_what_was_there(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    export("sr-1", to=out)
    before = files(out)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(TsrError, match=r"out: cannot be written: No space left on device"):
        export("sr-1", to=out, replace=True)
    assert files(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_alpaca_eval_gets_one_response_a_prompt(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tsr("export", "M0", "--to", str(tmp_path / "out"), "--format", "alpaca_eval", "--split", "r0", "--sample", "2")
    rows = json.loads((tmp_path / "out/model_outputs.json").read_text())
    prompts = tables.read("prompts", paths.prompts("r0"))
    answers = tables.read("generations", paths.generations("M0", "r0")).filter(pl.col("sample_id") == 2)
    text = dict(answers["prompt_id", "response"].iter_rows())
    asked = {pid: messages[0]["content"] for pid, messages in prompts["prompt_id", "messages"].iter_rows()}
    assert [set(row) for row in rows] == [{"instruction", "output", "dataset", "generator", "datasplit"}] * len(asked)
    assert {row["instruction"]: row["output"] for row in rows} == {asked[pid]: text[pid] for pid in asked}
    assert {row["generator"] for row in rows} == {"M0"}
    assert f"export: {len(rows)} of {len(rows)} prompts" in capsys.readouterr().out
    assert told(tmp_path / "out")["written"] == len(rows)


def test_alpaca_eval_counts_what_it_leaves_out(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "set"
    prompts = tables.read("prompts", paths.prompts("r0")).sort("prompt_id").head(4)
    ids = prompts["prompt_id"].to_list()
    turns = [*prompts["messages"][1].to_list(), {"role": "user", "content": "and then?"}]
    messages = [turns if n == 1 else row for n, row in enumerate(prompts["messages"].to_list())]
    prompts = prompts.with_columns(messages=pl.Series(messages, dtype=prompts.schema["messages"]))
    tables.write("prompts", prompts, root / "prompts/r0.parquet")
    made = generations(["a", "b", "c"]).with_columns(
        prompt_id=pl.Series(ids[:3]),
        sample_id=pl.lit(0, pl.Int64),
        finish_reason=pl.Series(["length", "stop", "error"]),
    )
    tables.write("generations", made, root / "generations/M0/r0.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TSR_DATA", str(root))
        alpaca_eval.export("M0", "r0", tmp_path / "out", sample=0, best="", replace=False)
        assert told(tmp_path / "out")["left_out"] == {"failed": 1, "no_response": 1, "several_messages": 1}
        assert "1 of 4 prompts" in (said := capsys.readouterr().out) and "1 of them cut off" in said
        with pytest.raises(TsrError, match=r"no response to write; no_response 3; several_messages 1"):
            alpaca_eval.export("M0", "r0", tmp_path / "none", sample=5, best="", replace=False)
    assert not (tmp_path / "none").exists()


def test_what_alpaca_eval_gets_can_be_imported_again(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tsr("export", "M0", "--to", str(tmp_path / "out"), "--format", "alpaca_eval", "--split", "r0")
    answers = tables.read("generations", paths.generations("M0", "r0")).filter(pl.col("sample_id") == 0)
    monkeypatch.chdir(tmp_path)
    tsr("import", "back", "out/model_outputs.json", "--mapping", "alpaca_eval")
    again = pl.read_parquet("data/imported/back/generations/M0/*.parquet")
    assert set(again["prompt_id", "response"].iter_rows()) == set(answers["prompt_id", "response"].iter_rows())
