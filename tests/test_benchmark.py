"""Public benchmarks: files of the published schemas, bad input, and lm-eval on a tiny model with the real files."""

import gzip
import json
import math
import os
from pathlib import Path

import byte_model
import polars as pl
import pytest

from stages import paths, tables
from stages.backends.transformers import Settings
from stages.benchmark import code, local_files, run, sandbox
from stages.benchmark.tasks import TASKS, named
from stages.errors import TsrError

ROOT = Path(__file__).parents[1]
REAL = Path(os.environ.get("TSR_REAL_DATA") or ROOT / "../shared/data")
ENGINE = Settings(tile_rows=8, dtype="float32", device="cpu")
ARC = [
    {
        "id": f"q{n}",
        "question": f"What is {n} plus one?",
        "choices": {"text": [str(n), str(n + 1), "a cat"], "label": ["A", "B", "C"]},
        "answerKey": "B",
    }
    for n in range(5)
]


def how(**changes) -> run.How:
    settings = {"root": REAL, "limit": 3, "chat": True, "allow_code": False, "batch_size": 4, "code_seconds": 10.0}
    return run.How(**(settings | changes))


def write(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_truthfulqa_becomes_multiple_choice(tmp_path: Path) -> None:
    path = tmp_path / "TruthfulQA.csv"
    path.write_text(
        "\ufeffType,Question,Best Answer,Correct Answers,Incorrect Answers\n"
        'x,Why?,Because,"Because; For that reason. ; ",Never; Nobody knows\n'
    )
    row = local_files.rows("truthfulqa", path).to_dicts()[0]
    assert row["question"] == "Why?"
    assert row["mc1_targets"] == {"choices": ["Because.", "Never.", "Nobody knows."], "labels": [1, 0, 0]}
    right = ["Because.", "For that reason."]
    assert row["mc2_targets"] == {"choices": [*right, "Never.", "Nobody knows."], "labels": [1, 1, 0, 0]}


def test_each_ending_is_read_alike(tmp_path: Path) -> None:
    plain = write(tmp_path / "a" / "test.jsonl", ARC)
    packed = tmp_path / "b" / "test.jsonl.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    (tmp_path / "c").mkdir()
    local_files.rows("arc_challenge", plain).write_parquet(tmp_path / "c" / "test.parquet")
    found = [local_files.rows("arc_challenge", p) for p in (plain, packed, tmp_path / "c" / "test.parquet")]
    assert found[0].equals(found[1])
    assert found[0].equals(found[2])


GSM = {"question": "2 and 2?", "answer": "#### 4"}
BAD_FILES = {
    "no column": ([{"question": "q"}], "column 'answer' is missing; gsm8k has: question, answer"),
    "other type": ([{"question": "q", "answer": 4}], "column 'answer' has type Int64; expected String"),
    "empty field": ([GSM, {"question": "q", "answer": None}], "row 2 has an empty field; 1 rows are like that"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_of_another_schema_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    rows, told = BAD_FILES[kind]
    with pytest.raises(TsrError) as refused:
        local_files.rows("gsm8k", write(tmp_path / "test.jsonl", rows))
    assert str(refused.value) == f"{tmp_path / 'test.jsonl'}: {told}"


@pytest.mark.parametrize("content", [b"", b"{", b"PAR1", b"\x1f\x8b broken"])
@pytest.mark.parametrize("name", ["test.jsonl", "test.jsonl.gz", "test.parquet"])
def test_a_broken_file_is_refused_in_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TsrError) as refused:
        local_files.rows("gsm8k", tmp_path / name)
    assert str(refused.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(refused.value)


def test_what_cannot_be_done_is_told_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.benchmark.tasks.find_spec", lambda _: None)
    with pytest.raises(TsrError, match="package lm-eval is not installed"):
        run.run(ENGINE, "M0", "gsm8k", how())
    monkeypatch.setattr(run, "definitions", Path)
    for tasks, changes, told in (
        ("gsm8k,arc", {}, "no task 'arc'; there are: gsm8k"),
        ("", {}, "expected --tasks"),
        ("humaneval", {}, "HumanEval runs code that the model writes; --allow-code"),
        ("gsm8k", {}, "data/models/M0: no such model folder"),
    ):
        with pytest.raises(TsrError, match=told):
            run.run(ENGINE, "M0", tasks, how(**changes))
    with pytest.raises(TsrError, match=r"gsm8k: no train in it; expected train\.jsonl or train\.jsonl\.gz"):
        local_files.files(tmp_path, "gsm8k")
    assert named(" gsm8k, humaneval,gsm8k,") == ["gsm8k", "humaneval"]


def test_a_chat_models_code_ends_where_its_block_does() -> None:
    item = {"prompt": "def f():\n", "entry_point": "f", "test": "t"}
    answer = "    return 1\n```\nThat is all."
    assert code.program("humaneval_instruct", item, answer).code == "def f():\n    return 1\n"
    assert code.program("humaneval", item, answer).code == "def f():\n" + answer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny byte-level model in its data/models."""
    pytest.importorskip("lm_eval", reason="needs lm-eval: pip install 'tsr[eval]'")
    home = tmp_path_factory.mktemp("benchmark")
    byte_model.make(home / "data/models/bytes", context=4096)
    return home


def items(task: str) -> pl.DataFrame:
    return tables.read("benchmarks", paths.benchmark("bytes", task))


def told(task: str) -> dict:
    return json.loads(Path(f"reports/evaluation/bytes/{task}.json").read_text())


@pytest.mark.slow
def test_an_arc_file_is_scored(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(model)
    for split in ("train", "test"):
        write(tmp_path / "arc_challenge" / f"{split}.jsonl", ARC)
    run.run(ENGINE, "bytes", "arc_challenge,arc_challenge_chat", how(root=tmp_path, limit=0))
    found = items("arc_challenge")
    assert sorted(set(found["metric"])) == ["acc", "acc_norm"]
    for row in found.filter(metric="acc").to_dicts():
        likelihoods = json.loads(row["response"])
        assert row["value"] == float(likelihoods.index(max(likelihoods)) == 1)
    assert told("arc_challenge")["metrics"]["acc,none"]["mean"] == round(found.filter(metric="acc")["value"].mean(), 6)
    assert told("arc_challenge")["items"] == 5
    assert items("arc_challenge_chat").height == 5


@pytest.mark.slow
def test_the_real_files_are_scored(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not REAL.is_dir():
        pytest.skip("needs the real data: TSR_REAL_DATA")
    monkeypatch.chdir(model)
    tasks = ["gsm8k", "truthfulqa_mc1", "truthfulqa_mc2", "humaneval"]
    try:
        sandbox.require()
    except TsrError:
        tasks.remove("humaneval")
    before = {}
    for _ in range(2):  # twice the same bytes: nothing in them knows the hour
        run.run(ENGINE, "bytes", ",".join(tasks), how(root=REAL, allow_code=True))
        files = [*Path("reports/evaluation/bytes").glob("*.json"), *Path("data/benchmarks/bytes").glob("*.parquet")]
        now = {path: path.read_bytes() for path in files}
        assert not before or before == now
        before = now
    for task in tasks:
        about = told(task)
        assert about["items"] == 3
        assert about["data"]["files"]
        assert about["model_hash"] == items(task)["model_hash"][0]
        assert all(figure["items"] + figure["without_value"] == 3 for figure in about["metrics"].values())
        assert all(figure["mean"] is None or 0 <= figure["mean"] <= 1 for figure in about["metrics"].values())
        assert about["cut_prompts"] == 0
    assert set(items("gsm8k")["filter"]) == {"strict-match", "flexible-extract"}
    for row in items("truthfulqa_mc1").to_dicts():
        likelihoods = json.loads(row["response"])
        assert row["value"] == float(likelihoods.index(max(likelihoods)) == 0)
    weights = [[math.exp(x) for x in json.loads(response)] for response in items("truthfulqa_mc2")["response"]]
    files = local_files.files(REAL, "truthfulqa")["validation"]
    labels = [t["labels"] for t in local_files.rows("truthfulqa", files)["mc2_targets"].to_list()[:3]]
    for weight, label, value in zip(weights, labels, items("truthfulqa_mc2")["value"], strict=True):
        right = sum(w for w, one in zip(weight, label, strict=True) if one)
        assert value == (pytest.approx(right / sum(weight), abs=1e-6) if sum(weight) else None)


@pytest.mark.slow
def test_the_prompt_begins_once(model: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    asked = HFLM(pretrained=str(model / "data/models/bytes"), device="cpu", dtype="float32")
    chat = asked.apply_chat_template([{"role": "user", "content": "Hi"}])
    assert asked.tok_encode(chat).count(0) == 1
    assert asked.tok_encode("Hi").count(0) <= 1


@pytest.mark.slow
def test_every_reference_solution_passes_and_an_empty_one_does_not() -> None:
    if not REAL.is_dir():
        pytest.skip("needs the real data: TSR_REAL_DATA")
    try:
        sandbox.require()
    except TsrError as error:
        pytest.skip(str(error))
    path = local_files.files(REAL, "human_eval")["test"]
    raw = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().split("\n") if line]
    assert len(raw) == 164
    reference = [{"doc": item, "resps": [[item["canonical_solution"]]]} for item in raw]
    assert code.judged("humaneval", reference, 20.0) == [""] * 164
    nothing = [{"doc": item, "resps": [["    pass\n"]]} for item in raw]
    assert "" not in code.judged("humaneval", nothing, 20.0)
    assert all(TASKS[name].code == name.startswith("humaneval") for name in TASKS)
