"""The source chat_data: what is read, chosen, written and counted, and what stops it before anything is written."""

import json
import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pytest
from chat_rows import Row, message, mine, rated, settings, tree, write, write_all
from console import REAL
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import ValidationError

from stages import paths, prepare, tables
from stages.errors import TsrError
from stages.importing import run as imports
from stages.reporting.funnel import REASONS, STEPS, funnel_rows
from stages.sources.loading import in_cache

ROOT = Path(__file__).parents[1]
COMMIT = "40b436560ca83a8dba36114c22ab3c66e43f6d5e"
SPLITS = ("rated", "fixed", "eval", "ift", "r0", "r1")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TSR_DATA", raising=False)
    write_all()


def run(seed: int = 7, **changed: Any) -> dict[str, pl.DataFrame]:
    """Run the stage; returns its splits, but `eft`: no judgments come with this data."""
    prepare.run(seed, settings(**changed))
    found = {path.stem: tables.read("prompts", path) for path in Path("data/prompts").glob("*.parquet")}
    assert found.pop("eft").is_empty()
    return found


def counts(step: str) -> dict[tuple[str, str], int]:
    """(source, outcome) -> rows, of one step of the funnel."""
    told = json.loads(Path("data/prompts/funnel.json").read_text())["steps"]
    return {(row["source"], row["outcome"]): row["count"] for row in told if row["step"] == step}


def texts(rows: pl.DataFrame) -> set[str]:
    """The last message of each prompt."""
    return {messages[-1]["content"] for messages in rows["messages"].to_list()}


def only(**changed: Any) -> dict[str, Any]:
    """Settings for one small source: one prompt to each split that must have some, none set aside."""
    none: dict[str, Any] = {"oasst": [], "ultrafeedback": [], "files": []}
    small = {"eft_prompts": 0, "fixed_responses": 1, "eval_prompts": 1, "ift_examples": 1, "splits": 1}
    return none | small | {"prompts_per_split": 1, "best_prompts": 99} | changed


def test_every_split_has_its_size_and_no_prompt_stands_in_two() -> None:
    splits = run()
    assert {name: rows.height for name, rows in splits.items()} == settings().sizes
    ids = [pid for rows in splits.values() for pid in rows["prompt_id"]]
    assert len(ids) == len(set(ids))
    assert {name: set(rows["split"]) for name, rows in splits.items()} == {name: {name} for name in SPLITS}
    assert splits["ift"]["reference"].null_count() == 0
    assert {"oasst", "ultrafeedback", "files"} == set(pl.concat(splits.values())["source"])


def test_the_widest_ratings_are_set_aside_and_come_with_responses_and_scores() -> None:
    splits = run()
    spread = {f"Task {i}": pl.Series([1 + i % 10, 5, 1 + i * 3 % 10]).var(ddof=0) for i in range(24)}
    assert {spread[text] for text in texts(splits["rated"])} <= set(sorted(spread.values())[-3:])  # type: ignore[type-var]
    responses = tables.read("generations", paths.generations("world", "rated"))
    human = tables.read("scores", paths.scores("human", "world", "rated"))
    assert responses.group_by("prompt_id").len()["len"].to_list() == [3, 3, 3]
    assert set(responses["prompt_id"]) == set(splits["rated"]["prompt_id"])
    assert sorted(responses["sample_id"]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert responses.select("model_hash", "seed", "response_tokens").null_count().row(0) == (9, 9, 9)
    given_scores = dict(responses.join(human, on="generation_id").select("response", "score").rows())
    for i in (int(text.split()[1]) for text in texts(splits["rated"])):
        wanted = {f"Answer {k} to Task {i}": float(s) for k, s in enumerate((1 + i % 10, 5, 1 + i * 3 % 10))}
        assert wanted.items() <= given_scores.items()
    meta = json.loads(splits["rated"]["meta"][0])
    assert meta == {"origin": "flan", "rating_range": [1.0, 10.0], "models": ["m0", "m1", "m2"]}


def test_the_fixed_set_is_one_response_a_prompt_with_its_rating_where_there_is_one() -> None:
    splits = run(**only(files=["mine.jsonl"], fixed_responses=3))
    fixed = tables.read("generations", paths.generations("world", "fixed"))
    human = tables.read("scores", paths.scores("human", "world", "fixed"))
    assert sorted(fixed["prompt_id"]) == sorted(splits["fixed"]["prompt_id"])
    assert splits["fixed"]["reference"].null_count() == 3  # it is what is judged
    assert set(fixed["response"]) <= {f"Known {i}" for i in range(6)}
    assert human.select("n_votes", "score", "parse_status").unique().rows() == [(0, None, "no_votes")]
    run(**only(ultrafeedback=["ultrafeedback.jsonl"], fixed_responses=9))
    again = tables.read("scores", paths.scores("human", "world", "fixed"))
    assert again["score"].null_count() == 0
    assert again["score"].n_unique() >= 7  # balanced: hardly a rating twice among nine


def test_trees_become_conversations_with_the_best_ranked_reply() -> None:
    write("oasst.jsonl", [row for i in range(4) for row in tree(f"t{i}", turns=3)])
    splits = run(**only(oasst=["oasst.jsonl"], turns=3, fixed_responses=1))
    rows = pl.concat([splits["eval"], splits["ift"], splits["r0"]]).to_dicts()
    for row in rows:
        roles = [one["role"] for one in row["messages"]]
        assert roles == (["user", "assistant"] * 3)[: len(roles)]
        assert roles[-1] == "user"
        assert all(one["content"].endswith("b") for one in row["messages"] if one["role"] == "assistant")
        assert row["reference"].endswith("b")
        assert row["reference"].removeprefix("Text of ").startswith(json.loads(row["meta"])["id"].split(".")[0])
    assert counts("questions") == {("oasst", "kept"): 4, ("oasst", "same_tree"): 8}
    assert {len(row["messages"]) for row in rows} <= {1, 3, 5}


def test_what_is_left_out_of_the_trees_is_counted() -> None:
    good = [row for i in range(4) for row in tree(f"t{i}")]
    bad = [
        *(message("d") | {"deleted": True}, message("u", review_result=False), message("v", review_result=None)),
        *(message("e", lang="es"), message("n"), message("n.0", "n", "assistant"), message("t0")),
    ]
    write("oasst.jsonl", good + bad)
    run(**only(oasst=["oasst.jsonl"]))
    assert counts("messages") == {
        ("oasst", "kept"): 17,
        ("oasst", "deleted"): 1,
        ("oasst", "not_reviewed"): 2,
        ("oasst", "other_language"): 1,
        ("oasst", "no_rank"): 1,
        ("oasst", "twice"): 1,
    }
    assert counts("questions") == {("oasst", "kept"): 4, ("oasst", "no_ranked_reply"): 1}


def test_the_best_scored_of_ultrafeedback_stay_and_answer_with_the_best_response() -> None:
    rows = [rated(f"Task {i}", i, 1) for i in range(1, 11)]
    write("ultrafeedback.jsonl", [*rows, rated("Never rated", None, None)])
    splits = run(**only(ultrafeedback=["ultrafeedback.jsonl"], best_prompts=3, fixed_responses=1))
    kept = texts(pl.concat([splits["eval"], splits["ift"], splits["r0"]]))
    fixed = texts(splits["fixed"])
    assert kept == set([f"Task {i}" for i in range(10, 0, -1) if f"Task {i}" not in fixed][:3])
    assert counts("splits")["ultrafeedback", "below_best"] == 6
    assert counts("splits")["ultrafeedback", "no_rating"] == 1
    row = splits["ift"].to_dicts()[0]
    assert row["reference"] == f"Answer 0 to {row['messages'][-1]['content']}"


def test_a_prompt_of_two_sources_is_one_and_the_users_own_goes_first() -> None:
    write("mine.jsonl", [mine(f"Task  {i} ", reference="Known") for i in range(4)])
    run(**only(files=["mine.jsonl"], ultrafeedback=["ultrafeedback.jsonl"]))
    assert counts("unique") == {("files", "kept"): 4, ("ultrafeedback", "kept"): 20, ("ultrafeedback", "duplicate"): 4}


def test_ratings_that_cannot_be_read_are_null_and_counted() -> None:
    odd: list[Any] = [11, "N/A", None, "7.5", 0.99]
    write("ultrafeedback.jsonl", [rated(f"Task {i}", 5, score, 9) for i, score in enumerate(odd)])
    run(**only(ultrafeedback=["ultrafeedback.jsonl"], eft_prompts=1))
    assert counts("ratings") == {
        ("ultrafeedback", "kept"): 11,
        ("ultrafeedback", "unreadable"): 3,
        ("ultrafeedback", "no_rating"): 1,
    }


def test_files_may_have_messages_system_and_reference() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    rows = [{"messages": turns, "system": "Brief.", "reference": "d"}]
    write(
        "mine.jsonl", [*rows, *(mine(f"Mine {i}", 1, 5) for i in range(9)), {"prompt": None}, {"prompt": "x", "id": 3}]
    )
    splits = run(**only(files=["mine.jsonl"], eft_from="files", eft_prompts=4, prompts_per_split=4))
    everything = pl.concat(splits.values())
    assert [{"role": "system", "content": "Brief."}, *turns] in everything["messages"].to_list()
    assert counts("questions") == {("files", "kept"): 11, ("files", "no_text"): 1}
    assert splits["rated"]["meta"].to_list() == ['{"models": [null, null], "rating_range": [1.0, 5.0]}'] * 4


def files_of(folder: str) -> dict[str, bytes]:
    """Relative path -> bytes, of every file in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_neither_the_order_of_rows_nor_the_form_of_files_matters() -> None:
    run()
    first = files_of("data")
    for name in ("oasst", "ultrafeedback", "mine"):
        lines = Path(f"{name}.jsonl").read_text().splitlines(keepends=True)
        random.Random(1).shuffle(lines)
        Path(name).mkdir()
        half = len(lines) // 2
        (Path(name) / "b.jsonl").write_text("".join(lines[:half]))
        rows = [json.loads(line) for line in lines[half:]]
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(Path(name) / "a.parquet")
        (Path(name) / "README.md").write_text("Not data.")
    run(oasst=["oasst"], ultrafeedback=["ultrafeedback"], files=["mine"])
    assert files_of("data") == first


def test_more_rounds_change_no_prompt_that_is_there_and_the_seed_changes_most() -> None:
    before, after = run(), run(splits=3)
    assert all(before[split].equals(after[split]) for split in SPLITS)
    assert not run(seed=8)["r0"].equals(before["r0"])


def test_the_hub_is_asked_for_the_pinned_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is out of reach of tests: a local file stands in for it, read by the same library."""
    asked = []
    load = datasets.load_dataset_builder

    def load_builder(name: str, **options: Any) -> Any:
        asked.append((name, options))
        found = load("json", data_files={"train": "ultrafeedback.jsonl", "validation": "more.jsonl"})
        found.hash = COMMIT
        return found

    write("more.jsonl", [rated(f"More {i}", 2, 9) for i in range(3)])
    monkeypatch.setattr(datasets, "load_dataset_builder", load_builder)
    run(ultrafeedback=[f"openbmb/UltraFeedback@{COMMIT}"])
    assert asked == [("openbmb/UltraFeedback", {"revision": COMMIT})]
    assert counts("questions")["ultrafeedback", "kept"] == 27


def keep(commit: str, rows: list[Row], config: str = "default") -> None:
    """Put a commit of UltraFeedback where the library datasets keeps what it had from the hub."""
    write("kept.jsonl", rows)
    kept = Path(datasets.config.HF_DATASETS_CACHE) / "openbmb___ultra_feedback" / config / "0.0.0" / commit
    found = datasets.load_dataset_builder("json", data_files={"train": "kept.jsonl"}, cache_dir="made")
    found.dataset_name, found.config.name, found.info.config_name = "ultra_feedback", "default", "default"
    found.download_and_prepare(output_dir=str(kept))


def test_another_commit_in_the_cache_is_not_taken_for_the_pinned_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a hub the library takes the latest commit that its cache holds, and only warns."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    older, newer, part = ("1" * 40, "2" * 40, "3" * 40)
    keep(older, [rated(f"Older {i}", 1 + i % 10, 5) for i in range(24)])
    keep(part, [rated("Part", 1, 5)], config="default-0123456789abcdef")  # as with `data_files`
    keep(newer, [rated(f"Newer {i}", 1 + i % 10, 5) for i in range(24)])
    name = "openbmb/UltraFeedback"
    asked = [one["content"] for row in run(ultrafeedback=[f"{name}@{older}"])["rated"]["messages"] for one in row]
    assert asked and all(text.startswith("Older ") for text in asked)
    assert [in_cache(name, one) is not None for one in (older, newer, part, COMMIT)] == [True, True, False, False]
    for commit in (part, COMMIT):
        with pytest.raises(TsrError, match=f"{name}@{commit}: .*the cache holds {newer} in place of this commit; exp"):
            prepare.run(7, settings(ultrafeedback=[f"{name}@{commit}"]))


def without(rows: list[Row], *names: str) -> list[Row]:
    """Rows that lack some columns."""
    return [{k: v for k, v in row.items() if k not in names} for row in rows]


HUB = f"openbmb/UltraFeedback@{COMMIT}"
REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no such file": ({"oasst": ["none.jsonl"]}, ["none.jsonl: no such file or folder; expected one, or NAME@COMMIT"]),
    "no revision": (
        {"ultrafeedback": ["openbmb/UltraFeedback"]},
        ["openbmb/UltraFeedback: no such file or folder, and no revision; expected openbmb/UltraFeedback@COMMIT"],
    ),
    "a branch": (
        {"ultrafeedback": ["openbmb/UltraFeedback@main"]},
        ["openbmb/UltraFeedback@main: 'main' is no pinned revision; expected openbmb/UltraFeedback@COMMIT, a"],
    ),
    "no hub": ({"ultrafeedback": [HUB]}, [f"{HUB}: cannot be had from the hub: ", "or a file or folder of the same"]),
    "empty file": ({"files": ["empty.jsonl"]}, ["empty.jsonl: no rows"]),
    "no rows": ({"files": ["none.parquet"]}, ["none.parquet: no rows"]),
    "cut off": ({"files": ["cut.jsonl"]}, ["cut.jsonl: cannot be read: ", "Malformed JSON", "in line"]),
    "not Parquet": ({"files": ["wrong.parquet"]}, ["wrong.parquet: cannot be read: "]),
    "unknown ending": ({"files": ["mine.txt"]}, ["mine.txt: unknown ending; expected .parquet, .jsonl"]),
    "folder without data": ({"files": ["bare"]}, ["bare: no files in this folder that end in .parquet, .jsonl"]),
    "no rank": (
        {"oasst": ["no_rank.jsonl"]},
        ["no_rank.jsonl: column 'rank' is missing, or null in all of 36 rows; expected message_id, parent_id"],
    ),
    "no completions": (
        {"ultrafeedback": ["no_completions.parquet"]},
        ["no_completions.parquet: column 'completions' is missing, or null in all of 24 rows; expected instruction, "],
    ),
    "no scores": (
        {"ultrafeedback": ["no_scores.jsonl"]},
        ["no_scores.jsonl: column 'completions[].overall_score' is missing, or null in every row"],
    ),
    "no prompt": (
        {"files": ["oasst.jsonl"]},
        ["oasst.jsonl: column 'prompt' or 'messages' is missing, or null in all"],
    ),
    "no English": ({"language": "fr"}, ["oasst.jsonl: no question of oasst can be used: 36 messages other_language"]),
    "too few rated": (
        {"eft_prompts": 40},
        ["prepare: split rated gets 24 of 40 prompts whose ratings differ, of ultrafeedback; the sources give"],
    ),
    "too few": ({"prompts_per_split": 9}, ["prepare: split r1 gets 7 of 9 prompts; the sources give", "expected 33"]),
    "too few answers": ({"ift_examples": 40}, ["prepare: split ift gets 21 of 40 prompts with an answer; "]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_one_line_names_source_and_expectation_and_nothing_is_written(kind: str) -> None:
    changed, told = REFUSED[kind]
    Path("empty.jsonl").touch()
    pl.DataFrame(schema={"prompt": pl.String}).write_parquet("none.parquet")
    Path("cut.jsonl").write_text('{"prompt": "a"}\n{"prom')
    Path("wrong.parquet").write_text("PAR1")
    Path("mine.txt").write_text("a")
    Path("bare").mkdir()
    trees = [row for i in range(6) for row in tree(f"t{i}", turns=1 + i % 2)]
    write("no_rank.jsonl", without(trees, "rank"))
    ratings = [rated(f"Task {i}", 1 + i % 10, 5) for i in range(24)]
    pl.DataFrame(without(ratings, "completions", "models")).write_parquet("no_completions.parquet")
    bare = [row | {"completions": without(row["completions"], "overall_score")} for row in ratings]
    write("no_scores.jsonl", bare)
    with pytest.raises(TsrError) as refused:
        prepare.run(7, settings(**changed))
    message = str(refused.value)
    assert message.startswith(told[0]), message
    assert all(part in message for part in told)
    assert "\n" not in message
    assert list(Path("data").rglob("*")) == []


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no source": ({"oasst": [], "ultrafeedback": [], "files": []}, "oasst, ultrafeedback and files are all empty"),
    "rated by nobody": ({"ultrafeedback": []}, "eft_from is 'ultrafeedback', but ultrafeedback is empty"),
    "scale upside down": ({"files_rating": [5, 1]}, "expected the lowest rating, then the highest"),
    "scale of three": ({"files_rating": [1, 2, 3]}, "at most 2 items"),
    "other score": ({"rating": "helpfulness"}, "'overall_score' or 'fine-grained_score'"),
    "no round": ({"splits": 0}, "greater than or equal to 1"),
    "unknown key": ({"trust_remote_code": True}, "Extra inputs are not permitted"),
}


@pytest.mark.parametrize("kind", BAD)
def test_settings_that_cannot_be(kind: str) -> None:
    changed, told = BAD[kind]
    with pytest.raises(ValidationError, match=told.replace("[", r"\[")):
        settings(**changed)


def check_funnel() -> None:
    """What a step keeps is what the next one counts, of each source; the last step's kept rows are the splits."""
    rows = {(row["step"], row["source"]): row for row in funnel_rows()}
    splits = {path.stem: tables.read("prompts", path) for path in Path("data/prompts").glob("*.parquet")}
    for (step, source), row in rows.items():
        assert row["rows"] == sum(count for _, count, _ in row["went"])
        assert row["kept"] <= row["rows"]
        if step == "splits":
            assert row["kept"] == sum(split.filter(pl.col("source") == source).height for split in splits.values())
    limited = [step for step in ("questions", "length", "unique") if any(step == name for name, _ in rows)]
    for before, after in (*pairwise(limited), ("unique", "splits"), ("responses", "ratings")):
        for source in {source for step, source in rows if step == before}:
            assert rows[before, source]["kept"] == rows[after, source]["rows"] if (after, source) in rows else True


def test_the_funnel_adds_up_and_is_worded() -> None:
    run()
    check_funnel()
    rows = funnel_rows()
    assert [row["step"] for row in rows if row["source"] == "oasst"] == [
        step for step in STEPS if step not in ("length", "judgments")
    ]
    worded = [told for row in rows for told, _, _ in row["went"]]
    assert set(worded) - set(REASONS.values()) == {"kept", *SPLITS}
    Path("data/prompts/funnel.json").write_text("[]")
    with pytest.raises(TsrError, match="not a funnel"):
        funnel_rows()


def test_every_reason_is_worded() -> None:
    files = [*(ROOT / "stages/sql/sources").glob("*.sql"), ROOT / "stages/sql/eft.sql"]
    told = {name for path in files for name in re.findall(r"then '(\w+)'$", path.read_text(), re.MULTILINE)}
    assert told - {"rated", "fixed", "eval", "ift"} <= set(REASONS)
    assert set(REASONS) - told == {"unreadable", "spare", "cut", "too_long"}


words = st.sampled_from(["a", "b ", " b", "c", "", "d", "e"])
scores = st.lists(st.sampled_from([1.0, 4.0, 9.0, 10.5, None]), max_size=3)


@examples(derandomize=True, max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(words, scores), max_size=12),
    st.lists(st.tuples(words, scores), max_size=12),
    st.lists(st.sampled_from(["en", "es"]), max_size=6),
    st.integers(0, 3),
)
def test_whatever_comes_counts_add_up_and_no_prompt_stands_in_two_splits(
    ours: list[Any], theirs: list[Any], languages: list[str], seed: int
) -> None:
    for path in Path().rglob("data/**/*.*"):
        path.unlink()
    write("mine.jsonl", [mine(text, *found) for text, found in ours] + [mine(f"Mine {i}", 1, 3) for i in range(5)])
    write("ultrafeedback.jsonl", [rated(*one) for one in ((t, *s) for t, s in theirs)] + [rated("Sure", 1, 9)])
    trees = [[row | {"lang": lang} for row in tree(f"t{i}")] for i, lang in enumerate(languages)]
    write("oasst.jsonl", [row for rows in [*trees, tree("s")] for row in rows])
    splits = run(seed, eft_prompts=1, fixed_responses=2, eval_prompts=1, ift_examples=1, splits=1, prompts_per_split=1)
    check_funnel()
    ids = [pid for rows in splits.values() for pid in rows["prompt_id"]]
    said = [" ".join(text.split()) for rows in splits.values() for text in texts(rows)]
    assert len(ids) == len(set(ids)) == len(set(said)) == 6
    for split in ("rated", "fixed"):
        responses = tables.read("generations", paths.generations("world", split))
        human = tables.read("scores", paths.scores("human", "world", split))
        assert responses["generation_id"].to_list() == human["generation_id"].to_list()
        assert set(responses["prompt_id"]) == set(splits[split]["prompt_id"])


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data in {REAL}; TSR_REAL_DATA names another folder")
def test_real_prompts_and_real_ratings() -> None:
    """Prompts of four benchmarks as they are published, and Prometheus' responses with the mean of GPT-4's scores."""
    imports.run("prometheus", [str(REAL / "prometheus/gpt4_scores.parquet")], "prometheus", "", replace=False)
    read = {table: pl.read_parquet(f"data/imported/prometheus/{table}/**/*.parquet") for table in ("prompts", "scores")}
    made = pl.read_parquet("data/imported/prometheus/generations/**/*.parquet")
    scored = made.join(read["scores"], on="generation_id")
    replies = scored.group_by("prompt_id").agg(responses=pl.struct("model", "response", rating="score"))
    read["prompts"].join(replies, on="prompt_id").select("messages", "responses").write_parquet("rated.parquet")
    published = ("arena_hard/question_v0.1.jsonl", "arena_hard/question_v2.0.jsonl", "human_eval/HumanEval.jsonl.gz")
    published += ("self_instruct/predictions.parquet", "oasst_model_eval/prompts.parquet")
    files = ["rated.parquet", *(str(REAL / name) for name in published)]
    sizes = {"eft_prompts": 60, "fixed_responses": 100, "eval_prompts": 100, "splits": 5, "prompts_per_split": 200}
    splits = run(**only(files=files, files_rating=[1, 5], eft_from="files") | sizes)
    check_funnel()
    rows = 398 + 500 + 750 + 164 + 2016 + 1285
    assert counts("questions") == {("files", "kept"): 3349, ("files", "twice"): rows - 3349}
    assert counts("unique") == {("files", "kept"): 3349}
    assert counts("responses") == counts("ratings") == {("files", "kept"): 640}
    assert counts("splits")["files", "spare"] == 3349 - (60 + 100 + 100 + 1 + 5 * 200)
    assert splits["rated"].height == 60
