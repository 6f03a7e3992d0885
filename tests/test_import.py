"""Data from elsewhere: each format, each ready-made mapping, each kind of dirt, and what stops an import."""

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from console import REAL, filled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages import cli, paths, tables
from stages.errors import TsrError
from stages.ids import file_sha256, prompt_id
from stages.importing import mapping as mappings
from stages.importing.dirt import KINDS
from stages.importing.names import safe_name
from stages.importing.run import run

ROOT = Path(__file__).parents[1]
real_data = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data in {REAL}; TSR_REAL_DATA names another folder")
Rows = list[dict[str, Any]]

FLAT: dict[str, Any] = {
    "prompts": {"prompt": "q"},
    "responses": {"model": "m", "sample": "s", "response": "r", "finish_reason": {"value": "stop"}},
    "judgments": {"judge": "j", "score": "score", "raw": "why"},
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TSR_DATA", raising=False)


def row(q: Any = "Why?", m: Any = "A", s: Any = 0, r: Any = "So.", **more: Any) -> dict[str, Any]:
    """One row of a flat table."""
    return {"q": q, "m": m, "s": s, "r": r, "j": "J", "score": 3, "why": "fine"} | more


def row_of(cells: dict[str, Any]) -> dict[str, Any]:
    """A good row with some cells replaced."""
    return row() | {name: cells[name] for name in sorted(cells)[:2]}


def jsonl(rows: Rows, name: str = "rows.jsonl") -> str:
    """Write JSONL; returns its path."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("".join(json.dumps(one) + "\n" for one in rows))
    return name


def changed(**sections: Any) -> dict[str, Any]:
    """The flat mapping with keys of its sections changed; None takes one away."""
    told = json.loads(json.dumps(FLAT))
    for name, change in sections.items():
        told[name] = told.get(name, {}) | change if isinstance(change, dict) else change
        if isinstance(told[name], dict):
            told[name] = {k: v for k, v in told[name].items() if v is not None}
    return {name: section for name, section in told.items() if section is not None}


def brought(files: str | list[str], mapping: Any = FLAT, **more: Any) -> dict[str, Any]:
    """Import as `it` and return import.json; `mapping` is a ready-made one's name, or a whole mapping."""
    if not isinstance(mapping, str):
        Path("map.yaml").write_text(yaml.safe_dump(mapping))
        mapping = "map.yaml"
    files = [files] if isinstance(files, str) else files
    run("it", files, mapping, more.pop("split", ""), replace=more.pop("replace", True))
    return json.loads(paths.imported("it").joinpath("import.json").read_text())


def table(name: str) -> pl.DataFrame:
    """All rows of a table of the import, each file read under its contract."""
    files = sorted((paths.imported("it") / name).rglob("*.parquet"))
    return pl.concat([tables.read(name, path) for path in files]) if files else tables.frame(name, [])


def dirt(told: dict[str, Any]) -> dict[str, int]:
    """kind -> count."""
    counts: dict[str, int] = {}
    for one in told["dirt"]:
        counts[one["kind"]] = counts.get(one["kind"], 0) + one["count"]
    return counts


def hashes() -> dict[str, str]:
    """Each file of the import with its hash."""
    root = paths.imported("it")
    return {str(p.relative_to(root)): file_sha256(p) for p in sorted(root.rglob("*")) if p.is_file()}


LOOSE = changed(responses={"duplicates": "number"}, judgments={"duplicates": "keep"})


# Formats


def test_every_format_gives_the_same_tables() -> None:
    rows = [
        row(f"Why {q}?", m, s, f"{m}{q}{s} says\u2028so", score=s + 1.0) for q in range(3) for m in "AB" for s in (0, 1)
    ]
    brought(jsonl(rows))
    wanted = hashes()
    Path("list.json").write_text(json.dumps(rows))
    pl.DataFrame(rows).write_parquet("rows.parquet")
    with Path("rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    Path("inside.json").write_text(json.dumps({"data": rows}))
    deep = changed(
        parts={"rows": {"rows": "data[]"}},
        prompts={"prompt": "data[].q"},
        responses={"model": "data[].m", "sample": "data[].s", "response": "data[].r"},
        judgments={"judge": "data[].j", "score": "data[].score", "raw": "data[].why"},
    )
    for name, mapping in (("list.json", FLAT), ("rows.parquet", FLAT), ("rows.csv", FLAT), ("inside.json", deep)):
        brought(name, mapping)
        assert {k: v for k, v in hashes().items() if k != "import.json"} == {
            k: v for k, v in wanted.items() if k != "import.json"
        }, name


def test_the_order_of_rows_and_files_changes_no_byte() -> None:
    rows = [row(f"Why {q}?", "A", 0, f"answer {q} {i}", score=i) for q in range(5) for i in range(4)]
    rows += [row(" Why  0? ", "B", 0, "x"), row("Why\n0?", "C", 0, "y", score="7")]
    mapping = changed(responses={"duplicates": "number"}, judgments={"duplicates": "number"})
    seen = []
    for seed in (1, 2, 3):
        random.Random(seed).shuffle(rows)
        files = [jsonl(rows[:9], f"{'ab'[seed % 2]}.jsonl"), jsonl(rows[9:], f"{'ba'[seed % 2]}.jsonl")]
        brought(files, mapping)
        seen.append({k: v for k, v in hashes().items() if k != "import.json"})  # holds the hashes of the files
    assert seen[0] == seen[1] == seen[2]


def test_rows_that_are_alike_have_one_id_whatever_the_dataset() -> None:
    brought(jsonl([row(), row("How?")]))
    first = set(table("generations")["generation_id"])
    run("other", ["rows.jsonl"], "map.yaml", "r0", replace=False)
    other = tables.read("generations", paths.imported("other") / "generations/A/r0.parquet")
    assert set(other["generation_id"]) == first
    assert table("prompts").sort("messages")["prompt_id"][1] == prompt_id([{"role": "user", "content": "Why?"}])


def test_the_same_import_twice_is_the_same_bytes() -> None:
    brought(jsonl([row(), row("How?")]))
    first = hashes()
    brought("rows.jsonl")
    assert hashes() == first
    assert str(Path.cwd()) not in Path("data/imported/it/import.json").read_text()


# Dirt


def test_special_tokens_are_taken_off_the_end_and_told() -> None:
    texts = ["a<|endoftext|>", "b</s> \n</s>\n", "c </s> c", "d", "</s>", "e <|x|> e"]
    rows = [row(s=i, r=text) for i, text in enumerate(texts)]
    mapping = changed(end_marks=["<|endoftext|>", "</s>"], responses={"finish_reason": {"by": "end_marks"}})
    told = brought(jsonl(rows), mapping)
    got = table("generations").sort("sample_id").select("response", "finish_reason").rows()
    ends = ["stop", "stop", "length", "length", "stop", "length"]
    assert got == list(zip(["a", "b", "c </s> c", "d", "", "e <|x|> e"], ends, strict=True))
    assert dirt(told) == {"end_marks": 3, "empty": 1, "special_left": 2}


TOKENS = ["<|im_end|>", "<|end of text|>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>", "<eos>", "<bos>", "<unk>"]


@pytest.mark.parametrize("token", [*TOKENS, "<start_of_turn>"])
def test_special_tokens_are_told_of_prompts_responses_and_replies(token: str) -> None:
    told = brought(
        jsonl([row(f"a {token}?"), row(f"a {token}?", "B", r=token), row(r=token, why=f"{token} 3"), row("How?")])
    )
    where = {one["where"]: one["count"] for one in told["dirt"] if one["kind"] == "special_left"}
    assert where == {"prompts": 1, "responses.0": 2, "judgments.0.raw": 1}
    harmless = ["a <b> c", "x <| y", "|> z", "[INSTALL]", "<span>", "a<|\n|>b", "p < s > q"]
    assert "special_left" not in dirt(brought(jsonl([row(text, r=text, why=text) for text in harmless])))


SCORES: dict[str, tuple[Any, float | None, str | None]] = {
    "number": (4, 4.0, None),
    "text": ("4.5", 4.5, "score_as_text"),
    "null": (None, None, "no_score"),
    "null as text": ("null", None, "no_score"),
    "nothing": ("", None, "no_score"),
    "words": ("four", None, "score_no_number"),
    "of ten": ("8/10", None, "score_no_number"),
    "truth": (True, None, "score_no_number"),
    "not finite": (float("inf"), None, "score_not_finite"),
    "not a number": (float("nan"), None, "score_not_finite"),
    "below": (-1, None, "score_out_of_range"),
    "above": (11, None, "score_out_of_range"),
}


@pytest.mark.parametrize("case", SCORES)
def test_scores(case: str) -> None:
    given, wanted, kind = SCORES[case]
    mapping = changed(judgments={"score": {"column": "score", "low": 0, "high": 10}})
    told = brought(jsonl([row(score=given), row(s=1, score=2)]), mapping)
    judged = table("judgments").join(table("generations").select("generation_id", "sample_id"), on="generation_id")
    assert judged.sort("sample_id")["given_score"].to_list() == [wanted, 2.0]
    assert set(judged["way"]) == {"given"}
    scored = table("scores").filter(pl.col("score").is_null())
    assert scored["parse_status"].to_list() == ["unparsed"] * (wanted is None)
    assert dirt(told) == ({kind: 1} if kind else {})


def test_broken_text_stops_nothing_and_is_counted() -> None:
    lines = [
        rb'{"q": "Why?", "m": "A", "s": 0, "r": "half \ud800 pair", "j": "J", "score": 1, "why": "x"}',
        rb'{"q": "Why?", "m": "A", "s": 1, "r": "whole \ud83d\ude00 pair", "j": "J", "score": 1, "why": "x"}',
        rb'{"q": "Why?", "m": "A", "s": 2, "r": "nul \u0000 byte", "j": "J", "score": 1, "why": "a\u0000"}',
        b'{"q": "Why?", "m": "A", "s": 3, "r": "broken \xff byte", "j": "J", "score": 1, "why": "x"}',
        b"",
        b'{"q": "Why?", "m": "A", "s": 4, "r": "line \xe2\x80\xa8 in it", "j": "J", "score": 1, "why": "x"}\r',
    ]
    Path("rows.jsonl").write_bytes(b"\n".join(lines))
    told = brought("rows.jsonl")
    texts = table("generations").sort("sample_id")["response"].to_list()
    assert texts == [
        "half \ufffd pair",
        "whole \U0001f600 pair",
        "nul \ufffd byte",
        "broken \ufffd byte",
        "line \u2028 in it",
    ]
    assert dirt(told) == {"blank_lines": 1, "broken_utf8": 1, "surrogates": 1, "nul": 2}


def test_cells_that_hold_no_text() -> None:
    told = brought(jsonl([row(r=42), row(s=1, r=["a", "b\0"]), row(s=2, r=None), row(s=3, r=""), row(s=4, m=None)]))
    assert table("generations").sort("sample_id")["response"].to_list() == ["42", '["a", "b\ufffd"]', ""]
    kinds = {"not_text": 2, "no_response": 1, "empty": 1, "no_model": 1, "nul": 1, "judged_nothing": 2}
    assert dirt(told) == kinds


def test_prompts_that_differ_by_white_space_are_one() -> None:
    rows = [row("Why  so?"), row("Why so?", "B"), row("Why\nso?", "C"), row("How?")]
    told = brought(jsonl(rows))
    assert sorted(m[0]["content"] for m in table("prompts")["messages"].to_list()) == ["How?", "Why  so?"]
    assert table("generations").group_by("prompt_id").len()["len"].sort().to_list() == [1, 3]
    assert dirt(told) == {"prompt_white_space": 2, "unanswered": 2}
    told = brought("rows.jsonl", changed(prompts={"white_space": "keep"}))
    assert told["kept"]["prompts"] == 4


def test_models_with_missing_rows_are_counted_for_each() -> None:
    told = brought(jsonl([row("a"), row("b"), row("c"), row("a", "B"), row("b", "org/C"), row("c", "org/C")]))
    lacking = {m["model"]: (m["source_name"], m["prompts_without_response"]) for m in told["models"]}
    assert lacking == {"A": ("A", 0), "B": ("B", 2), "org--C": ("org/C", 1)}
    assert (paths.imported("it") / "generations/org--C/all.parquet").is_file()


def test_equal_rows_are_one_and_others_need_a_word() -> None:
    rows = [row(), row(), row(r="No.", score=1)]
    with pytest.raises(TsrError, match=r"responses: 1 times several rows that differ .*first A, Why\?, 0; .*number"):
        brought(jsonl(rows))
    told = brought("rows.jsonl", changed(responses={"duplicates": "number"}))
    assert table("generations").sort("sample_id").select("sample_id", "response").rows() == [(0, "No."), (1, "So.")]
    assert dirt(told) == {"identical": 2, "renumbered": 2}  # a response, and its vote
    assert table("scores").sort("score")["score"].to_list() == [1.0, 3.0]


def test_votes_that_are_equal_are_one_vote_unless_the_mapping_keeps_them() -> None:
    rows = [row(score=4), row(score=4), row(score=1)]
    with pytest.raises(TsrError, match="judgments: 1 times several rows that differ"):
        brought(jsonl(rows))
    for rule, wanted in (("number", 2.5), ("keep", 3.0)):
        brought("rows.jsonl", changed(judgments={"duplicates": rule}))
        assert table("scores")["score"].to_list() == [wanted]
    brought(jsonl([one | {"v": v} for v, one in enumerate(rows)]), changed(judgments={"vote": "v"}))
    assert table("judgments").sort("vote_id")["given_score"].to_list() == [4.0, 4.0, 1.0]


def test_judgments_of_responses_that_are_not_there() -> None:
    parts = {"rows": {"files": "rows.jsonl"}, "votes": {"files": "votes.jsonl"}}
    votes = {"part": "votes", "key": "q", "model": "m"}
    mapping = changed(parts=parts, prompts={"part": "rows"}, responses={"part": "rows"}, judgments=votes)
    files = [jsonl([row(), row("How?", s=1)]), jsonl([row(), row("Who?"), row(m="B")], "votes.jsonl")]
    told = brought(files, mapping)
    lost = next(one for one in told["dirt"] if one["kind"] == "judged_nothing")
    assert (lost["count"], lost["examples"]) == (2, ["Who?, A", "Why?, B"])
    assert told["kept"]["judgments"] == 1
    strict = changed(
        parts=parts, prompts={"part": "rows"}, responses={"part": "rows"}, judgments=votes | {"orphans": "error"}
    )
    with pytest.raises(TsrError, match=r"2 judgments of responses that are not there, first Who\?, A"):
        brought(files, strict)
    with pytest.raises(TsrError, match=r"1 judgments could be of several responses, first Why\?, A: 2 responses"):
        brought([jsonl([row(), row(s=1, r="No.")]), files[1]], mapping)


def test_replies_without_a_given_score_are_read_by_a_rubric() -> None:
    rows = [row(why="Good.\nScore: 4"), row(s=1, why="No idea."), row(s=2, why="Score: 2</s>")]
    mapping = changed(
        end_marks=["</s>"],
        judgments={"score": None, "rubric": "additive", "finish_reason": {"value": "stop"}},
    )
    brought(jsonl(rows), mapping)
    assert set(table("judgments")["way"]) == {"votes"}
    scored = table("scores").join(table("generations").select("generation_id", "sample_id"), on="generation_id")
    assert scored.sort("sample_id")["score"].to_list() == [4.0, None, 2.0]


def test_a_prompt_with_messages_system_reference_and_meta() -> None:
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    unread = [[*said[:1], {"role": "assistant", "content": "x"}], "no list", [{"role": "user", "content": [{"a": 1}]}]]
    rows = [row(said, ref="Hello.", k="x"), *(row(bad, k="x", ref=None) for bad in unread)]
    mapping = changed(prompts={"prompt": None, "messages": "q", "reference": "ref", "meta": {"kind": "k"}})
    told = brought(jsonl(rows), mapping, split="r0")
    (prompt,) = table("prompts").to_dicts()
    assert prompt["messages"] == [said[0], {"role": "user", "content": "Hi"}]
    assert (prompt["reference"], prompt["meta"], prompt["split"]) == ("Hello.", '{"kind": "x"}', "r0")
    assert dirt(told)["prompt_unreadable"] == 3
    brought(jsonl([row("Hi", y="Be brief.")]), changed(prompts={"system": "y"}))
    assert table("prompts")["messages"].to_list() == [[said[0], {"role": "user", "content": "Hi"}]]
    assert table("prompts")["prompt_id"][0] == prompt["prompt_id"]


def test_where_takes_some_rows_and_counts_the_others() -> None:
    mapping = changed(parts={"rows": {"where": [{"column": "m", "one_of": ["A"]}, {"column": "s", "one_of": [0]}]}})
    told = brought(jsonl([row(), row(m="B"), row(s=1)]), mapping)
    assert (told["kept"]["generations"], dirt(told)) == (1, {"left_out_by_where": 2})


# Ready-made mappings


def test_alpaca_eval() -> None:
    rows = [{"instruction": q, "output": f"{q}!", "generator": "gpt", "dataset": "d"} for q in ("One", "Two")]
    Path("model_outputs.json").write_text(json.dumps(rows))
    told = brought("model_outputs.json", "alpaca_eval")
    assert told["kept"] == {"prompts": 2, "models": 1, "generations": 2, "judgments": 0, "scores": 0}
    assert table("prompts")["meta"].to_list() == ['{"dataset": "d"}'] * 2


def annotation(q: str, preference: Any, model: str = "mine") -> dict[str, Any]:
    """One row of annotations.json."""
    said = {"output_1": f"base {q}", "generator_1": "base", "output_2": f"{model} {q}", "generator_2": model}
    return {"instruction": q, **said, "annotator": "judge", "preference": preference}


def test_alpaca_eval_annotations_score_both_sides_of_a_preference() -> None:
    rows = [
        annotation(q, p)
        for q, p in (("a", 1.0), ("b", 2), ("c", 1.25), ("d", 0), ("e", None), ("f", 1.5), ("g", 7), ("h", 0.0))
    ]
    Path("annotations.json").write_text(json.dumps(rows))
    told = brought("annotations.json", "alpaca_eval_annotations")
    said = table("generations").join(table("scores").select("generation_id", "score"), on="generation_id")
    wide = said.with_columns(q=pl.col("response").str.slice(-1)).pivot("model", index="q", values="score").sort("q")
    base, mine = [1.0, 0.0, 0.75, 0.5, None, 0.5, None, 0.5], [0.0, 1.0, 0.25, 0.5, None, 0.5, None, 0.5]
    assert (wide["base"].to_list(), wide["mine"].to_list()) == (base, mine)
    assert (dirt(told)["no_score"], dirt(told)["score_out_of_range"]) == (2, 2)


def test_a_baseline_that_met_several_models_has_no_score_on_their_scale() -> None:
    files = []
    for model, preference in (("mine", 1.25), ("theirs", 2.0)):
        files.append(f"{model}.json")
        Path(files[-1]).write_text(json.dumps([annotation("a", preference, model)]))
    told = brought(files, "alpaca_eval_annotations")
    scored = table("generations").join(table("scores"), on="generation_id")
    assert dict(scored.select("model", "score").rows()) == {"mine": 0.25, "theirs": 1.0}
    assert dirt(told) == {"identical": 1, "no_raw": 4, "several_opponents": 2}


def test_open_assistant_reports() -> None:
    def report(name: str, outputs: list[str], config: str = "k50") -> str:
        results = [{"sampling_config": config, "sampling_params": {}, "outputs": outputs}]
        told = {"model_name": "org/m", "date": "d", "args": {}, "prompts": [{"prompt": "Hi", "results": results}]}
        Path(name).write_text(json.dumps(told))
        return name

    files = [report("a.json", ["one<|endoftext|>", "two"]), report("b.json", ["one<|endoftext|>", "other"])]
    told = brought([*files, report("c.json", ["two"], "greedy")], "open_assistant")
    got = table("generations").sort("sample_id").select("sample_id", "response", "finish_reason").rows()
    assert got == [(0, "two", "length"), (1, "one", "stop"), (2, "other", "length"), (3, "two", "length")]
    assert dirt(told) == {"end_marks": 2, "identical": 1, "renumbered": 2}


def test_mt_bench_asks_the_second_question_after_the_first_answer() -> None:
    questions = [{"question_id": 81, "category": "writing", "turns": ["Q1", "Q2"]}]
    answers = [{"question_id": 81, "model_id": m, "choices": [{"index": 0, "turns": [f"{m}1", f"{m}2"]}]} for m in "AB"]
    votes = [
        {"question_id": 81, "model": m, "judge": ["gpt-4", "single-v1"], "turn": t, "score": s, "judgment": "[[x]]"}
        for m, t, s in (("A", 1, 7), ("A", 2, 9), ("B", 1, -1), ("B", 2, 5), ("C", 1, 5))
    ]
    files = [jsonl(questions, "question.jsonl"), jsonl(votes, "model_judgment/gpt-4_single.jsonl")]
    files += [jsonl([one], f"model_answer/{one['model_id']}.jsonl") for one in answers]
    told = brought(files, "mt_bench")
    prompts = {json.dumps([m["content"] for m in one]) for one in table("prompts")["messages"].to_list()}
    assert prompts == {'["Q1"]', '["Q1", "A1", "Q2"]', '["Q1", "B1", "Q2"]'}
    scored = table("generations").join(table("scores"), on="generation_id").sort("response")
    assert scored.select("response", "score").rows() == [("A1", 7.0), ("A2", 9.0), ("B1", None), ("B2", 5.0)]
    asked = table("generations").join(table("prompts"), on="prompt_id").filter(pl.col("response") == "B2")
    assert [m["role"] for m in asked["messages"].to_list()[0]] == ["user", "assistant", "user"]
    assert dirt(told) == {"score_out_of_range": 1, "judged_nothing": 1, "unanswered": 2}


def test_arena_hard_has_two_games_a_question() -> None:
    new = {"uid": "u1", "category": "hard_prompt", "subcategory": "coding", "prompt": "New?"}
    old = {"question_id": "u2", "category": "arena", "cluster": "c", "turns": [{"content": "Old?"}]}
    said = [{"role": "user", "content": "New?"}, {"role": "assistant", "content": {"answer": "New."}}]
    answers = [
        {"uid": "u1", "model": "m", "messages": said},
        {"question_id": "u2", "model_id": "m", "choices": [{"index": 0, "turns": [{"content": "Old."}]}]},
    ]
    games = [{"score": "A>>B", "judgment": {"answer": "a"}}, {"score": "A>B", "judgment": {"answer": "b"}}]
    votes = [
        {"uid": "u1", "model": "m", "judge": "gpt", "games": games},
        {
            "question_id": "u2",
            "model": "m",
            "judge": "gpt",
            "games": [{"score": "B>A", "judgment": "a"}, {"score": None}],
        },
    ]
    files = [jsonl([new, old], "question.jsonl"), jsonl(answers, "model_answer/m.jsonl")]
    brought([*files, jsonl(votes, "model_judgment/gpt/m.jsonl")], "arena_hard")
    scored = table("generations").join(table("scores"), on="generation_id").sort("response")
    assert scored.select("response", "score", "n_votes", "n_parsed").rows() == [
        ("New.", 2.5, 2, 2),
        ("Old.", 4.0, 2, 1),
    ]


@pytest.fixture
def unasked() -> None:
    """Three models' answers to a question that no row gives, and to one that is there, under the plan's params."""
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    Path("stages").mkdir()
    shutil.copyfile(ROOT / "stages/plan.yaml", "stages/plan.yaml")
    parts = {"rows": {"files": "rows.jsonl"}, "asked": {"files": "asked.jsonl"}}
    mapping = changed(
        parts=parts,
        prompts={"part": "asked", "without_text": "name_by_key"},
        responses={"part": "rows", "key": "q"},
        judgments={"part": "rows", "key": "q"},
    )
    rows = [row(q, m, r=f"{m} {q}", score=score) for q in ("here", "gone") for m, score in (("A", 1), ("B", 5))]
    brought([jsonl(rows), jsonl([row("here")], "asked.jsonl")], mapping)


def test_pairs_on_prompts_without_a_text_are_told_and_never_trained_on(
    unasked: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TSR_DATA", "data/imported/it")
    words = ["pair", "best", "--strategy", "self_rewarding", "--judge", "J", "--split", "all", "--own", "*"]
    cli.app(words, standalone_mode=False)
    told = "1 of the pairs best are on prompts whose text is not known; dpo refuses them"
    assert f"pair: {told}" in capsys.readouterr().out
    cli.app(["export", "best", "--to", "out"], standalone_mode=False)
    assert f"export: {told}" in capsys.readouterr().out
    with pytest.raises(TsrError, match=r"pairs/best\.parquet: 1 pairs are on prompts whose text is not known"):
        cli.app(["dpo", "best", "--policy", "tiny"], standalone_mode=False)
    for name in ("M0", "sr-1", "base"):
        with pytest.raises(TsrError, match=rf"data/models/{name}: is a model version of the plan"):
            cli.app(["dpo", name, "--policy", "tiny"], standalone_mode=False)


def test_arena_hard_tables_keep_answers_whose_question_is_not_there() -> None:
    jsonl([{"uid": "u1", "category": "c", "prompt": "Q"}], "question_v0.1.jsonl")
    inside = json.dumps({"index": 0, "turns": ["Inside."]})
    rows = [("arena-hard-v0.1", "m", "u1", "Plain."), ("arena-bench-v1", "m", "u9", inside)]
    pl.DataFrame(rows, schema=["bench", "model", "question_id", "output"], orient="row").write_parquet(
        "answers.parquet"
    )
    vote = {"bench": "arena-bench-v1", "model": "m", "question_id": "u9", "score": "null", "judgment": "?"}
    pl.DataFrame([vote]).write_parquet("judgments.parquet")
    told = brought(["question_v0.1.jsonl", "answers.parquet", "judgments.parquet"], "arena_hard_tables")
    assert sorted(table("generations")["response"]) == ["Inside.", "Plain."]
    named = next(one for one in told["dirt"] if one["kind"] == "prompt_named_by_key")
    assert named["examples"] == ["arena-bench-v1 / u9"]
    assert [json.loads(meta).get("text_not_known") for meta in table("prompts").sort("messages")["meta"]] == [
        "true",
        None,
    ]
    assert dirt(told) == {"not_inside_kept": 1, "prompt_named_by_key": 1, "no_score": 1}


def test_openai_batch() -> None:
    def asked(i: str) -> dict[str, Any]:
        return {"custom_id": i, "body": {"model": "gpt", "messages": [{"role": "user", "content": f"Hi {i}"}]}}

    def answered(i: str, *choices: tuple[str | None, str]) -> dict[str, Any]:
        said = [{"index": n, "message": {"content": c}, "finish_reason": f} for n, (c, f) in enumerate(choices)]
        body = {"model": "gpt", "choices": said, "usage": {"prompt_tokens": 3}}
        return {"custom_id": i, "response": {"status_code": 200, "body": body}, "error": None}

    failed = {"custom_id": "c", "response": None, "error": {"code": "batch_expired"}}
    files = [jsonl([asked(i) for i in "abc"], "batch_input.jsonl")]
    done = [answered("a", ("one", "stop"), ("two", "length")), answered("b", (None, "content_filter")), failed]
    told = brought([*files, jsonl(done, "batch_output.jsonl")], "openai_batch")
    got = (
        table("generations").sort("sample_id").select("sample_id", "response", "finish_reason", "prompt_tokens").rows()
    )
    assert got == [(0, "one", "stop", 3), (1, "two", "length", 3)]
    assert dirt(told) == {"no_response": 2, "nobody_answered": 2}
    with pytest.raises(TsrError, match="'tool_calls' in 1 rows; expected stop or length: say in `values`"):
        brought([*files, jsonl([answered("a", ("x", "tool_calls"))], "batch_output.jsonl")], "openai_batch")


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="no folder of real data; TSR_REAL_DATA names one")
@pytest.mark.parametrize("name", ["importing", "walkthrough"])
def test_the_docs_say_what_the_commands_say(name: str, tmp_path: Path) -> None:
    page = ROOT / "docs" / f"{name}.md"
    assert filled(page, tmp_path, ROOT) == page.read_text()


def test_the_docs_name_every_mapping_and_every_kind_of_dirt() -> None:
    docs = (ROOT / "docs/importing.md").read_text()
    for name in mappings.ready_made():
        assert f"`{name}`" in docs, name
    for what, done in KINDS.values():
        assert f"| {what} | {done} |" in docs, what


# What stops an import


def bad(**sections: Any) -> Any:
    """A mapping that is wrong in one thing."""
    return changed(**sections)


BAD: dict[str, tuple[Any, str]] = {
    "column not there": (
        bad(responses={"response": "rr"}),
        r"responses.0.response: no column 'rr'; the rows have: j, m, q, r, s",
    ),
    "unknown key": (bad(responses={"respnse": "r"}), "responses.0.respnse: unknown key; expected part, key, model"),
    "unknown key in a cell": (bad(prompts={"prompt": {"colum": "q"}}), "prompts.prompt.colum: unknown key; .*column"),
    "missing key": (bad(responses={"model": None}), "responses.0.model: key is missing"),
    "finish not said": (bad(responses={"finish_reason": None}), "responses.0.finish_reason: key is missing"),
    "two origins": (bad(prompts={"prompt": {"column": "q", "value": "x"}}), "one of column, first_of, value, file"),
    "no group": (bad(prompts={"prompt": {"column": "q", "extract": "x"}}), "expected a pattern with one group"),
    "no pattern": (bad(prompts={"prompt": {"column": "q", "extract": "("}}), "no regular expression"),
    "look-around": (bad(prompts={"prompt": {"column": "q", "extract": "(?<=W)(.)"}}), "extract: .*look-around"),
    "marks without marks": (bad(responses={"finish_reason": {"by": "end_marks"}}), "needs marks in end_marks"),
    "reply unread": (bad(judgments={"score": None}), "so rubric is needed"),
    "unknown rubric": (
        bad(judgments={"score": None, "rubric": "x", "finish_reason": {"value": "stop"}}),
        "no rubric 'x'",
    ),
    "unknown part": (bad(prompts={"part": "x"}), "prompts: part: no part 'x'; there are: rows"),
    "list not opened": (bad(prompts={"prompt": "a[].q"}), "'a\\[\\].q' opens lists that the rows of the part"),
    "not a mapping": (["a"], "expected the keys about, source, parts"),
    "bad reason": (bad(responses={"finish_reason": "r"}), "'So.' in 1 rows; expected stop or length"),
    "split": (bad(prompts={"split": {"value": "../../x"}}), r"split: name '../../x': expected .* with --split"),
    "key is a list": ("prompts:\n  ? [a, b]\n  : c\n", "a list or mapping is the key in line 2"),
    "keys are one": ("prompts: {values: {0: a, 0.0: b}}", "key '0.0' stands twice, again in line 1"),
    "no date": ("about: 2001-13-45", "not valid YAML: month must be in"),
    "half a pair": ('about: "\\ud800"', "half a surrogate pair in line 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_mapping_is_one_line_and_writes_nothing(case: str) -> None:
    mapping, told = BAD[case]
    if isinstance(mapping, str):
        Path("map.yaml").write_text(mapping)
        mapping = "map.yaml"
    with pytest.raises(TsrError, match=told) as caught:
        brought(jsonl([row()]), mapping)
    assert "\n" not in str(caught.value)
    assert "map.yaml" in str(caught.value) or case in ("bad reason", "split")
    assert not Path("data/imported/it").exists()
    assert not list(Path().rglob("*.tmp"))


BYTES: dict[str, tuple[str, bytes, str]] = {
    "no Parquet": ("rows.parquet", b"no such thing", "rows.parquet: not a readable Parquet file"),
    "cut JSONL": ("rows.jsonl", b'{"q": "a"}\n{"q": "b', "rows.jsonl: line 2, column 7: not valid JSON, or cut off"),
    "cut JSON": ("rows.json", b'[{"q": "a"}, {"q"', "rows.json: line 1, column .*: not valid JSON, or cut off"),
    "cut CSV": ("rows.csv", b'q,m\n"a', "rows.csv: line 2: not valid CSV, or cut off"),
    "ragged CSV": ("rows.csv", b"q,m\na,b,c\n", "rows.csv: line 2: 3 columns; expected 2"),
    "empty CSV": ("rows.csv", b"", "rows.csv: line 1: expected the names of the columns"),
    "empty JSONL": ("rows.jsonl", b"", "rows.jsonl: no rows; expected at least one"),
    "no object": ("rows.jsonl", b"[1]\n", "rows.jsonl: line 1: expected a JSON object, got"),
    "deep": ("rows.jsonl", b"[" * 100_000, "rows.jsonl: line 1: JSON that cannot be read"),
    "unknown ending": ("rows.txt", b"x", "rows.txt: unknown ending; expected .jsonl"),
}


@pytest.mark.parametrize("case", BYTES)
def test_a_broken_file_is_one_line_and_writes_nothing(case: str) -> None:
    name, data, told = BYTES[case]
    Path(name).write_bytes(data)
    with pytest.raises(TsrError, match=told):
        brought(name)
    assert not Path("data").exists()


def test_a_parquet_file_that_is_cut_off() -> None:
    pl.DataFrame([row()] * 1000).write_parquet("whole.parquet")
    whole = Path("whole.parquet").read_bytes()
    Path("rows.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TsrError, match=r"rows.parquet: not a readable Parquet file"):
        brought("rows.parquet")


def test_keys_and_ids_that_collide() -> None:
    keyed = changed(prompts={"key": "k"})
    with pytest.raises(TsrError, match="prompts: 'x' names 2 different prompts; expected one"):
        brought(jsonl([row(k="x"), row("How?", k="x")]), keyed)
    with pytest.raises(TsrError, match="'Why\\?' stands in 2 splits; expected one: set it with --split"):
        brought(jsonl([row(k="a"), row(s=1, k="b")]), changed(prompts={"split": "k"}))
    with pytest.raises(TsrError, match="model 'org/a' and 'org--A' both give the folder name"):
        brought(jsonl([row(m="org/a"), row(m="org--A")]))


def test_ids_that_collide_over_files_write_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.importing.responses.content_id", lambda *_: "0" * 16)
    with pytest.raises(TsrError, match="generations: id 0000000000000000 collides: two rows that differ have it"):
        brought(jsonl([row(), row(m="B")]), changed(judgments=None))
    assert not list(Path("data/imported").iterdir())


def test_a_response_of_an_unknown_prompt_is_counted_and_none_at_all_is_an_error() -> None:
    parts = {"rows": {"files": "rows.jsonl"}, "asked": {"files": "asked.jsonl"}}
    mapping = changed(parts=parts, prompts={"part": "asked"}, responses={"part": "rows", "key": "q"}, judgments=None)
    files = [jsonl([row(), row("Who?")]), jsonl([row(), row("Where?")], "asked.jsonl")]
    told = brought(files, mapping)
    assert dirt(told) == {"prompt_missing": 1, "response_without_prompt": 1, "nobody_answered": 1}
    with pytest.raises(TsrError, match="responses: none has a prompt that is there"):
        brought([jsonl([row("Who?")]), "asked.jsonl"], mapping)


def test_files_and_the_parts_they_play() -> None:
    parts = {"asked": {"files": "q*.jsonl"}, "rows": {}}
    mapping = changed(parts=parts, prompts={"part": "asked"}, responses={"part": "rows", "key": "q"}, judgments=None)
    jsonl([row()], "q.jsonl")
    assert brought(["q.jsonl", f"rows={jsonl([row()])}"], mapping)["kept"]["generations"] == 1
    with pytest.raises(
        TsrError, match=r"rows.jsonl: plays no part of mapping map.yaml; expected PART=FILE .*asked, rows"
    ):
        brought(["q.jsonl", "rows.jsonl"], mapping)
    with pytest.raises(TsrError, match="no file plays part 'rows': say rows=FILE"):
        brought(["q.jsonl"], mapping)
    with pytest.raises(TsrError, match=r"gone.jsonl: no such file"):
        brought(["q.jsonl", "rows=gone.jsonl"], mapping)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=4) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
ROW = st.fixed_dictionaries({}, optional=dict.fromkeys(("q", "m", "s", "r", "j", "score", "why"), ANY))
TURNS = changed(
    prompts={"prompt": None, "turns": "q"}, responses={"response": None, "turns": "r"}, judgments={"turn": "s"}
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(ROW | ROW.map(row_of), min_size=1, max_size=6), mapping=st.sampled_from([FLAT, LOOSE, TURNS]))
def test_whatever_is_in_the_cells_the_import_is_whole_or_one_line(rows: Rows, mapping: dict[str, Any]) -> None:
    shutil.rmtree("data", ignore_errors=True)
    try:
        told = brought(jsonl(rows), mapping)
    except TsrError as error:
        assert "\n" not in str(error)
        assert not list(Path("data/imported").glob("*"))
        return
    for name in ("prompts", "generations", "judgments"):
        assert table(name).height == told["kept"][name]


def test_a_dataset_that_is_there_stays_unless_it_is_replaced() -> None:
    brought(jsonl([row()]))
    before = hashes()
    with pytest.raises(TsrError, match="is there already; --replace"):
        brought("rows.jsonl", replace=False)
    with pytest.raises(TsrError):
        brought(jsonl([row(), row(r="No.")]))
    assert hashes() == before
    brought(jsonl([row(m="B")]))
    assert [p.name for p in (paths.imported("it") / "generations").iterdir()] == ["B"]
    assert [p.name for p in paths.imported("it").parent.iterdir()] == ["it"]


def test_what_was_made_of_a_dataset_since_is_not_replaced() -> None:
    brought(jsonl([row()]))
    made = [paths.imported("it") / name for name in ("dropped/best.parquet", "pairs/best.parquet")]
    for path in made:
        path.parent.mkdir()
        path.touch()
    with pytest.raises(TsrError, match=r"data/imported/it: has 2 files that were made since, first dropped/best\.parq"):
        brought("rows.jsonl")
    for path in made:
        path.unlink()
    brought("rows.jsonl")


def test_of_two_imports_at_once_the_second_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one ends between this one's first look and its last rename."""
    brought(jsonl([row()]))
    before, other = hashes(), paths.imported("other")
    write = tables.write

    def meanwhile(*given: Any) -> None:
        write(*given)
        shutil.copytree(paths.imported("it"), other, dirs_exist_ok=True)

    monkeypatch.setattr(tables, "write", meanwhile)
    with pytest.raises(TsrError, match=r"data/imported/other: is there already; --replace"):
        run("other", [jsonl([row(m="B")])], "map.yaml", "", replace=False)
    assert {str(p.relative_to(other)): file_sha256(p) for p in sorted(other.rglob("*")) if p.is_file()} == before
    assert sorted(p.name for p in other.parent.iterdir()) == ["it", "other"]


def test_a_last_rename_that_fails_puts_the_old_folder_back(monkeypatch: pytest.MonkeyPatch) -> None:
    brought(jsonl([row()]))
    before, rename = hashes(), Path.replace

    def replace(self: Path, target: Path) -> Path:
        if ".new." in self.name:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(TsrError, match=r"data/imported/it: cannot be written: Input/output error"):
        brought(jsonl([row(m="B")]))
    assert hashes() == before
    assert [p.name for p in paths.imported("it").parent.iterdir()] == ["it"]


def test_names_that_make_no_folder_name_are_named_by_their_hash() -> None:
    told = brought(jsonl([row(m="日本"), row(m="中国"), row(m="x" * 300)]))
    names = {one["source_name"]: one["model"] for one in told["models"]}
    assert len(set(names.values())) == 3 and all(name.startswith("model-") for name in names.values())
    assert dirt(told)["named_by_hash"] == 3
    assert {p.name for p in (paths.imported("it") / "generations").iterdir()} == set(names.values())
    again = brought(jsonl([row(m="日本", j="日本")]))
    assert again["models"][0]["model"] == names["日本"]
    assert again["judges"][0]["judge"].startswith("judge-")


def test_an_import_whose_writing_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    brought(jsonl([row()]))
    before = hashes()

    def full(table: str, *_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tables, "write", full)
    with pytest.raises(TsrError, match=r"data/imported/it: cannot be written: No space left on device"):
        brought("rows.jsonl")
    assert hashes() == before
    assert [p.name for p in paths.imported("it").parent.iterdir()] == ["it"]


def test_the_command_line() -> None:
    jsonl([row()])
    Path("map.yaml").write_text(yaml.safe_dump(FLAT))

    def tsr(*words: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "stages", *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, env=env)

    done = tsr("import", "it", "rows.jsonl", "--mapping", "map.yaml")
    assert done.returncode == 0
    told = "data/imported/it: 1 prompts, 1 models, 1 generations, 1 judgments, 1 scores\n"
    assert done.stdout == told
    assert f"no project; the tables are in {Path.cwd()}/data/imported/it" in done.stderr
    wrong = tsr("import", "other", "rows.jsonl", "--mapping", "alpaca")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("tsr: no mapping 'alpaca'; expected a .yaml file or one of: alpaca_eval, ")
    assert len(wrong.stderr.splitlines()) == 1
    listed = tsr("import", "--list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == list(mappings.ready_made())
    assert tsr("import", "it").returncode == 2
    Path("folder.jsonl").mkdir()
    long = "x" * 300
    for words, says in (
        (["--data", "nope", "import", "it", "rows.jsonl", "--mapping", "map.yaml"], "nope: no such folder"),
        (["--data", long, "import", "it", "rows.jsonl", "--mapping", "map.yaml"], "File name too long"),
        (["import", long, "rows.jsonl", "--mapping", "map.yaml"], "expected at most 100"),
        (["import", "new", f"{long}.jsonl", "--mapping", "map.yaml"], "File name too long"),
        (["import", "new", "rows.jsonl", "--mapping", f"{long}.yaml"], "File name too long"),
        (["import", "new", "rows.jsonl", "--mapping", "folder.jsonl/m.yaml"], "cannot be read"),
        (["import", "new", "rows.jsonl", "--mapping", "map.yaml", "--split", "a/b"], "split: name 'a/b': expected"),
    ):
        refused = tsr(*words)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
        assert says in refused.stderr and refused.stderr.startswith("tsr: ")
    assert sorted(p.name for p in Path("data/imported").iterdir()) == ["it"]
    assert not Path("nope").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_what_may_not_be_read_or_written_is_one_line() -> None:
    jsonl([row()])
    Path("data").mkdir(mode=0o500)
    with pytest.raises(TsrError, match=r"data/imported/it: cannot be written: Permission denied"):
        brought("rows.jsonl")
    Path("rows.jsonl").chmod(0)
    with pytest.raises(TsrError, match=r"rows.jsonl: cannot be read: Permission denied"):
        brought("rows.jsonl")
    Path("map.yaml").chmod(0)
    with pytest.raises(TsrError, match=r"map.yaml: cannot be read: Permission denied"):
        run("it", ["rows.jsonl"], "map.yaml", "", replace=False)


def test_safe_names_stay_in_their_folder() -> None:
    for name in ("../../etc/passwd", "/abs", "a/b", "ü x", "..", "a..b"):
        if safe := safe_name(name):
            assert paths.checked(safe) == safe


# Real data: what was counted is counted again here, from the source, without the importer


@pytest.mark.slow
@real_data
def test_prometheus() -> None:
    source = pl.read_parquet(REAL / "prometheus/gpt4_scores.parquet")
    told = brought(str(REAL / "prometheus/gpt4_scores.parquet"), "prometheus")
    assert told["kept"] == {"prompts": 398, "models": 8, "generations": 640, "judgments": 1920, "scores": 640}
    assert told["splits"] == {"mt_bench_eval": 318, "vicuna_eval": 80}
    votes = source.group_by("bench", "idx", "response_source").agg(
        pl.col("score").mean(), pl.col("score").n_unique().alias("n")
    )
    assert votes.height == 640
    assert votes.filter(pl.col("n") > 1).height == 300 == table("scores").filter(pl.col("score_std") > 0).height
    assert abs(table("scores")["score"].sum() - votes["score"].sum()) < 1e-9
    assert set(table("scores")["n_parsed"]) == {3}
    inside = source["judge_input"].to_list()
    texts = set(table("generations")["response"]) | {m[0]["content"] for m in table("prompts")["messages"].to_list()}
    assert all(any(text in whole for whole in inside) for text in texts)
    cut = [t.split("###Response to evaluate:\n")[1].split("\n\n###Reference Answer (Score 5):")[0] for t in inside]
    assert set(cut) == set(table("generations")["response"])


@pytest.mark.slow
@real_data
def test_arena_hard() -> None:
    folder = REAL / "arena_hard"
    names = ("question_v0.1.jsonl", "question_v2.0.jsonl", "answers.parquet", "judgments.parquet")
    told = brought([str(folder / name) for name in names], "arena_hard_tables")
    answers, judged = (pl.read_parquet(folder / f"{name}.parquet") for name in ("answers", "judgments"))
    assert (
        (answers.height, judged.height) == (8398, 5100) == (told["kept"]["generations"], told["rows_read"]["judgments"])
    )
    assert judged.filter(pl.col("score") == "null").height == 41 == dirt(told)["no_score"]
    assert (
        dirt(told)["identical"]
        == judged.height - judged.unique(["model", "question_id", "score", "judgment"]).height
        == 300
    )
    assert told["kept"]["scores"] == judged.filter(pl.col("score") != "null").n_unique(["model", "question_id"]) == 4760
    assert told["kept"]["prompts"] == answers.n_unique(["bench", "question_id"]) == 1550
    plain = answers.filter(~pl.col("output").str.starts_with('{"index"'))
    assert dirt(told)["not_inside_kept"] == plain.height == 2998
    assert set(plain["output"]) <= set(table("generations")["response"])
    assert {m["model"]: m["generations"] for m in told["models"]} == {
        safe_name(model): count for model, count in answers.group_by("model").len().rows()
    }
    means = (
        judged.with_columns(pl.col("score").cast(pl.Float64, strict=False))
        .group_by("model")
        .agg(pl.col("score").mean())
    )
    got = table("scores").group_by("model").agg(pl.col("score").mean())
    wanted = {safe_name(m.removeprefix("mistralai/")): s for m, s in means.rows()}
    assert {m: round(s, 9) for m, s in got.rows()} == {m: round(s, 9) for m, s in wanted.items()}


@pytest.mark.slow
@real_data
def test_open_assistant_series() -> None:
    files = [str(REAL / "oasst_model_eval" / name) for name in ("generations.parquet", "prompts.parquet")]
    source = pl.read_parquet(files[0])
    told = brought(files, "oasst_eval")
    assert source.height == 30150
    same = ["model", "prompt_id", "sampling_config", "sample_idx"]
    once = source.unique([*same, "output"])
    assert told["kept"]["generations"] == once.height == 30145
    assert dirt(told)["renumbered"] == once.filter(pl.struct(same).is_duplicated()).height == 78
    assert dirt(told)["end_marks"] == source.filter(pl.col("output").str.ends_with("<|endoftext|>")).height == 25194
    stopped = table("generations").group_by("finish_reason").len().sort("finish_reason").rows()
    ended = once.filter(pl.col("output").str.ends_with("<|endoftext|>")).height
    assert stopped == [("length", once.height - ended), ("stop", ended)]
    series = table("generations").filter(pl.col("model").str.contains("oasst-1_12b"))
    taken = once.filter(pl.col("model").str.contains("oasst-1_12b"))
    assert series.height == taken.height
    most = taken.group_by("model", "prompt_id").len()["len"].max()
    assert series["sample_id"].max() == most - 1
    assert not table("generations").filter(pl.col("response").str.contains("<|endoftext|>", literal=True)).height


@pytest.mark.slow
@real_data
def test_mt_bench_questions_with_made_up_answers() -> None:
    """The published questions, answered by a machine that says which it was asked."""
    questions = [json.loads(line) for line in (REAL / "mt_bench/question.jsonl").read_text().split("\n") if line]
    answers = [
        {"question_id": q["question_id"], "model_id": "m", "choices": [{"index": 0, "turns": [f"1 {i}", f"2 {i}"]}]}
        for i, q in enumerate(questions)
    ]
    vote = {"question_id": 81, "model": "m", "judge": ["J", "t"], "turn": 2, "score": 4, "judgment": "x"}
    votes = jsonl([vote], "model_judgment/J_single.jsonl")
    told = brought([str(REAL / "mt_bench/question.jsonl"), jsonl(answers, "model_answer/m.jsonl"), votes], "mt_bench")
    assert told["kept"] == {"prompts": 160, "models": 1, "generations": 160, "judgments": 1, "scores": 1}
