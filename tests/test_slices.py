"""Large tables in slices: what comes out does not depend on how they are cut, and faults in any slice are told."""

import os
import threading
import time
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_file import ROOT
from rows import generations, judgments

from stages import params, paths, tables
from stages import score as stage
from stages.asking import rubric_hash
from stages.errors import TsrError
from stages.parsing import Reading, score
from stages.score import score_files
from stages.slices import Slice, in_order, slices
from stages.sqlrun import SQL, connect, run_query

READING = Reading("additive", 0.5)
IDS = [f"{n * 7919 % 65536:04x}" for n in range(300)]
REPLIES = ["Fine.\nScore: 4", "Score: 3", "Score: 5", "no idea", "Score: 0"]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Generations and judgments in many small row groups, so that a slice cuts through them."""
    made = generations(IDS).with_columns(
        finish_reason=pl.when(pl.col("generation_id") == IDS[7]).then(pl.lit("error")).otherwise("finish_reason")
    )
    replies = {gid: [REPLIES[(n * 3 + vote * vote) % 5] for vote in range(3)] for n, gid in enumerate(IDS) if n != 7}
    paths = tmp_path / "generations.parquet", tmp_path / "judgments.parquet"
    made.sort("generation_id").write_parquet(paths[0], row_group_size=11)
    judgments(replies).sort("generation_id", "vote_id").write_parquet(paths[1], row_group_size=20)
    return paths


def scored(files: tuple[Path, Path], way: str = "votes", votes: int = 3) -> pl.DataFrame:
    return pl.concat(score_files(READING, way, votes, "J", *files))


@pytest.mark.parametrize("rows", [50, 333, 10_000])
@pytest.mark.parametrize("cores", [1, 3])
def test_slices_give_what_the_whole_gives(
    files: tuple[Path, Path], rows: int, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.score.slices", partial(slices, rows=rows))
    monkeypatch.setattr("stages.slices.cores", lambda: cores)
    whole = score(READING, "J", *(pl.read_parquet(path) for path in files)).sort("generation_id")
    assert whole["score_std"].n_unique() > 3
    assert set(whole["parse_status"]) == {"ok", "partial", "no_votes"}
    assert scored(files).sort("generation_id").equals(whole)


@pytest.mark.parametrize("column", ["generation_id", "raw"])
def test_slices_fit_together(files: tuple[Path, Path], column: str) -> None:
    """Also by a column that the file is not sorted by."""
    cut = slices(files[1], column, rows=100)
    assert len(cut) > 1
    assert (cut[0].low, cut[-1].high) == ("", None)
    assert [part.high for part in cut[:-1]] == [part.low for part in cut[1:]]
    assert all(part.low < (part.high or "~") for part in cut)


def test_an_empty_table_is_one_slice(tmp_path: Path) -> None:
    tables.write("generations", generations([]), tmp_path / "g")
    tables.write("judgments", judgments({}), tmp_path / "j")
    assert slices(tmp_path / "j", "generation_id") == [Slice()]
    assert scored((tmp_path / "g", tmp_path / "j")).equals(tables.frame("scores", []))


def test_votes_that_another_rubric_asked_for_are_refused(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They would be read all the same, by a parser that was not meant for them. Scores that were given are no votes."""
    profile = params.load(ROOT / "params.yaml").profiles["small"]
    monkeypatch.chdir(tmp_path)
    for place, rows in ((paths.generations("M", "s"), files[0]), (paths.judgments("J", "M", "s"), files[1])):
        place.parent.mkdir(parents=True)
        rows.rename(place)
    votes = pl.read_parquet(place)

    def told(**changes: str) -> str | None:
        votes.with_columns(**{name: pl.lit(value) for name, value in changes.items()}).write_parquet(place)
        try:
            stage.run(profile, "J", "M", "s")
        except TsrError as error:
            return str(error)
        return None

    now = rubric_hash(profile.judge.rubric)
    wrong = f"its votes were asked for by rubric_hash h; expected {now}, rubric 'additive' as it is now; judge again"
    assert told(rubric_hash="h") == f"{place}: {wrong}"
    assert not paths.scores("J", "M", "s").exists()
    assert told(rubric_hash=now) is None
    assert paths.scores("J", "M", "s").exists()
    votes = votes.with_columns(given_score=3.0)
    assert told(rubric_hash="h", way="given") is None


FAULTS = {
    "missing": (pl.col("vote_id") != 1, r"vote 1 on generation 0000 is missing; 299 votes are like that"),
    "another number": (pl.col("generation_id") != IDS[3], f"vote 0 on generation {IDS[3]} is missing; 3 votes"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_lost_votes_of_all_slices_are_counted(
    files: tuple[Path, Path], kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("stages.score.slices", partial(slices, rows=50))
    keep, told = FAULTS[kind]
    pl.read_parquet(files[1]).filter(keep).write_parquet(files[1], row_group_size=20)
    with pytest.raises(TsrError, match=rf"judgments\.parquet: {told}"):
        tables.write_parts("scores", score_files(READING, "votes", 3, "J", *files), tmp_path / "scores")
    assert not list(tmp_path.glob("*scores*"))


def test_votes_on_what_failed_or_is_not_there_are_refused(files: tuple[Path, Path]) -> None:
    foreign = judgments({IDS[7]: ["Score: 5"], "zzzz": ["Score: 5"]})
    pl.concat([pl.read_parquet(files[1]), foreign]).sort("generation_id").write_parquet(files[1])
    with pytest.raises(TsrError, match=rf"vote 0 on generation {IDS[7]} should not be there; 2 votes"):
        scored(files)


def test_another_way_of_judging_is_refused(files: tuple[Path, Path]) -> None:
    with pytest.raises(TsrError, match="vote 0 on generation 0000 is of way votes, not one_token; 897 votes"):
        scored(files, "one_token")


def test_imported_votes_may_be_of_any_number(files: tuple[Path, Path]) -> None:
    votes = pl.read_parquet(files[1]).with_columns(way=pl.lit("given"), given_score=pl.col("vote_id").cast(pl.Float64))
    some = (pl.col("generation_id") < "4") | (pl.col("vote_id") > 1)
    votes.filter(some).write_parquet(files[1])
    made = scored(files).filter(pl.col("n_votes") > 0)
    assert set(made.select("n_votes", "score").unique().rows()) == {(3, 1.0), (1, 2.0)}


VOTE = st.tuples(
    st.sampled_from("abx"), st.sampled_from([0, 0, 1, 1, 2, 61, 62, 99]), st.sampled_from(["votes"] * 9 + ["given"])
)


@settings(derandomize=True, max_examples=200, deadline=None, database=None)
@given(st.lists(VOTE, max_size=6), st.sampled_from(["stop", "error"]), st.sampled_from([None, 0, 1, 2, 63]))
def test_votes_are_whole_exactly_where_nothing_is_wrong_with_them(
    drawn: list[tuple[str, int, str]], ended: str, votes: int | None
) -> None:
    """The quick look at each response's votes finds what the slow one has words for; it may err above 61 votes."""
    made = pl.DataFrame({"generation_id": ["a", "b"], "model": "M", "finish_reason": ["stop", ended]})
    names = {"generation_id": pl.String, "vote_id": pl.Int64, "way": pl.String, "value": pl.Float64}
    asked = {"judge": "J", "way": "votes", "votes": votes}
    with connect() as db:
        db.register("generations", made.to_arrow())
        db.register("votes", pl.DataFrame([(*one, 1.0) for one in drawn], schema=names, orient="row").to_arrow())
        scores = run_query(db, SQL / "scores.sql", asked)
        wrong = run_query(db, SQL / "wrong_votes.sql", {"way": "votes", "votes": votes})
    sound = scores["is_whole"].all() and scores["n_votes"].sum() == len(drawn)
    assert not (sound and wrong.height)
    if all(vote < 62 for _, vote, _ in drawn) and (votes or 0) < 62:
        assert sound == (wrong.height == 0)


def test_more_votes_than_are_looked_at_at_once(tmp_path: Path) -> None:
    tables.write("generations", generations(["a"]), tmp_path / "g")
    tables.write("judgments", judgments({"a": ["Score: 4"] * 70}), tmp_path / "j")
    assert scored((tmp_path / "g", tmp_path / "j"), votes=70)["score"].to_list() == [4.0]
    with pytest.raises(TsrError, match="vote 70 on generation a is missing"):
        scored((tmp_path / "g", tmp_path / "j"), votes=71)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("cut", [0, 40, -9])
def test_a_broken_file_is_one_line(files: tuple[Path, Path], which: int, cut: int) -> None:
    whole = files[which].read_bytes()
    files[which].write_bytes(whole[:40] + b"x" * 3000 + whole[3040:] if cut == 40 else whole[:cut])
    with pytest.raises(TsrError, match=files[which].name) as refused:
        scored(files)
    assert "\n" not in str(refused.value)
    files[which].unlink()
    with pytest.raises(TsrError, match=rf"{files[which].name}: no such file"):
        scored(files)


def test_work_runs_side_by_side_and_comes_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.slices.cores", lambda: 2)
    both = threading.Barrier(2, timeout=10)

    def work(part: Slice) -> str:
        both.wait()  # passes only if two run at once
        time.sleep(0.02 if part.low in "aceg" else 0)
        return part.low

    assert list(in_order(work, [Slice(low) for low in "abcdefgh"])) == list("abcdefgh")


def test_what_is_not_asked_for_is_not_worked_out() -> None:
    """Results that nobody takes would fill the memory."""
    begun: list[str] = []
    results = in_order(lambda part: begun.append(part.low), [Slice(f"{n}") for n in range(100)])
    next(results)
    time.sleep(0.1)
    assert len(begun) <= 2 * (os.cpu_count() or 1) + 1
    results.close()  # type: ignore[attr-defined]


def test_parts_are_written_as_the_whole_would_be(tmp_path: Path) -> None:
    whole = generations(sorted(IDS))
    tables.write("generations", whole.sample(fraction=1.0, shuffle=True, seed=1), tmp_path / "whole")
    parts = [whole[:100].reverse(), whole[:0], whole[100:101], whole[101:]]
    tables.write_parts("generations", parts, tmp_path / "parts")
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    for wrong in ([whole[100:], whole[:100]], [whole[:101], whole[100:]]):
        with pytest.raises(TsrError, match=r"generation_id=\w+ comes after .*; expected parts in key order"):
            tables.write_parts("generations", wrong, tmp_path / "wrong")
    with pytest.raises(TsrError, match="'sample_id' is not within min 0"):
        tables.write_parts(
            "generations", [whole[:5], whole[5:].with_columns(sample_id=-pl.col("sample_id"))], tmp_path / "wrong"
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "whole"]
