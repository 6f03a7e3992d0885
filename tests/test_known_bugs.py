"""Bugs that other systems have or had, and that this one must not have. One test each."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl
import pytest
from conftest import MakeModel
from rows import JUDGE, READING, candidates, generations, judgments, prompts, sampled, work

from stages import models, paths, tables
from stages.backends import Completion, Request
from stages.candidates import Sides, read_candidates
from stages.judge import judge_all
from stages.pair import make_pairs
from stages.params import Pair
from stages.parsing import score

STRATEGIES = ["self_rewarding", "anchored_rejection", "future_guided"]


class Says:
    """A backend that gives one reply to everything, in reverse order of the requests."""

    name, model_hash, template_hash, version = "says", "h", "t", "v"

    def __init__(self, reply: str) -> None:
        self.reply = reply

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in reversed(list(requests)):
            yield Completion(request.request_id, self.reply, "stop", 1, 1, -1.0)

    def close(self) -> None:
        pass


def scored(raw: dict[str, list[str]]) -> dict[str, float | None]:
    """Score of each generation from its raw replies."""
    return dict(score(READING, "J", generations(list(raw)), judgments(raw))["generation_id", "score"].iter_rows())


def own(scores: dict[str, float | None]) -> pl.DataFrame:
    """Candidates of one prompt with these scores."""
    return candidates([{"prompt": "p", "role": "own", "id": gid, "score": value} for gid, value in scores.items()])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_oxen_a_parse_failure_is_not_the_worst_response(strategy: str) -> None:
    """It was scored -1 and so picked as rejected."""
    scores = scored({"broken": ["I cannot judge this"], "good": ["a+ =5"], "fair": ["a+ =3"]})
    pairs, _ = make_pairs(Pair(min_gap=0.0, parameters={}), "m", strategy, prompts(["p"]), own(scores))
    assert pairs["rejected_id"].to_list() == ["fair"]


def test_datadreamer_an_unparseable_reply_gets_no_random_label() -> None:
    replies = {f"g{i}": ["neither of them"] for i in range(30)}
    assert set(scored(replies).values()) == {None}


@pytest.mark.parametrize("text", ["score: 5", "a+ b+ =5", "=5"])
def test_oxen_the_judged_text_cannot_score_itself(text: str) -> None:
    """The score was searched for in question and reply together."""
    asked = prompts(["next kitten"])
    made = generations(["g"], prompt_id="next kitten", response=text)
    raw = judge_all(7, JUDGE, "J", asked, made, Says("no idea"), work())
    assert raw["raw"].to_list() == ["no idea"]
    assert score(READING, "J", made, raw)["score"].to_list() == [None]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_distilabel_and_sppo_equal_scores_are_no_pair(strategy: str, count: int) -> None:
    """argmax and argmin of equal scores are the same response, on both sides of a pair."""
    pairs, dropped = make_pairs(
        Pair(min_gap=0.0, parameters={}), "m", strategy, prompts(["p"]), own({f"g{i}": 4.0 for i in range(count)})
    )
    assert pairs.height == 0
    assert dropped["reason"].to_list() == ["tie"]


def test_online_rlhf_shards_lose_no_remainder_and_share_no_seed(tiny: Path) -> None:
    """Seven prompts over three shards lost one, and each shard began with one seed."""
    ids = [f"{a}{b}" for a, b in itertools.product("abcde", "wxyz")][:7]
    shards = [ids[0:3], ids[3:6], ids[6:7]]
    joined = {key: row for shard in shards for key, row in sampled(tiny, shard).items()}
    assert joined == sampled(tiny, ids)
    assert len({row["seed"] for row in joined.values()}) == len(joined) == 21


def test_open_instruct_other_weights_under_the_same_name_share_nothing(tiny: Path, make_model: MakeModel) -> None:
    """A cache was keyed by the model's name."""
    other = make_model(seed=2)
    assert other.name == tiny.name
    assert models.model_hash(other) != models.model_hash(tiny)
    one, two = sampled(tiny, ["abc"]), sampled(other, ["abc"])
    for column in ("generation_id", "seed", "model_hash"):
        assert not {row[column] for row in one.values()} & {row[column] for row in two.values()}, column


def test_open_instruct_texts_stay_with_their_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A positional concat put chosen texts onto other prompts. Here a row lacks its score, and orders differ."""
    monkeypatch.chdir(tmp_path)
    ids = list("fbdace")
    made = pl.concat([generations([gid], prompt_id=gid, response=f"answer to {gid}") for gid in ids])
    tables.write("generations", made, paths.generations("M0", "r0"))
    votes = judgments({gid: [f"a+ ={i}"] for i, gid in enumerate(sorted(ids, reverse=True)) if gid != "c"})
    given = score(READING, "M0", made, votes).filter(pl.col("generation_id") != "c")
    tables.write("scores", given.reverse(), paths.scores("M0", "M0", "r0"))
    read = read_candidates(Sides("M0", "r0", "M0", "M0", "M0")).filter(pl.col("role") == "own")
    rows = {row["prompt_id"]: (row["response"], row["score"]) for row in read.to_dicts()}
    assert rows == {gid: (f"answer to {gid}", None if gid == "c" else 5.0 - "abcdef".index(gid)) for gid in ids}


def test_open_instruct_judgments_stay_with_their_responses() -> None:
    """Completions come in any order; each must find its own row."""
    ids = ["next kitten", "prev kitten", "flip kitten"]
    made = pl.concat([generations([f"g{pid[:4]}"], prompt_id=pid, response=pid[:4]) for pid in ids])
    asked: dict[str, str] = {}

    class Notes(Says):
        def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
            for request in reversed(list(requests)):
                asked[request.messages[-1]["content"]] = request.request_id
                yield Completion(request.request_id, request.messages[-1]["content"], "stop", 1, 1, -1.0)

    raw = judge_all(7, JUDGE, "J", prompts(ids[::-1]), made, Notes(""), work())
    assert dict(raw["generation_id", "raw"].iter_rows()) == {
        f"g{op}": "judge " + op + " " + " ".join(a + b for a, b in zip("kitten", op + "__", strict=True))
        for op in ("next", "prev", "flip")
    }
    assert len(asked) == 3


def test_spin_a_rerun_does_not_append(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    for _ in range(2):
        tables.write("generations", generations(["a", "b"]), path)
    assert tables.read("generations", path)["generation_id"].to_list() == ["a", "b"]


def test_every_vote_has_a_seed_of_its_own() -> None:
    """Votes with one seed are one vote, counted several times."""
    many = JUDGE.model_copy(update={"votes": 3, "temperature": 1.0})
    made = pl.concat([generations([gid], prompt_id="next kitten") for gid in "ab"])
    raw = judge_all(7, many, "J", prompts(["next kitten"]), made, Says("a+ =5"), work())
    assert sorted(raw["generation_id", "vote_id"].iter_rows()) == [(g, v) for g in "ab" for v in range(3)]
    assert raw["seed"].n_unique() == 6
    two = many.model_copy(update={"votes": 2})
    fewer = judge_all(7, two, "J", prompts(["next kitten"]), made, Says("a+ =5"), work())
    assert set(fewer.drop("digit_logprobs").iter_rows()) < set(raw.drop("digit_logprobs").iter_rows())
