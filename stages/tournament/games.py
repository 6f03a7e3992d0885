"""The games of a tournament: who meets whom, what the judge says of it, and what that decides.

Two ways. `pairwise`: the judge reads both responses at once, in both orders, for it may lean towards a place.
`scores`: a judge that can only score one response gives each its score, and the higher one wins.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from stages import tables
from stages.asking import RUBRICS, rubric_hash
from stages.backends import Backend, Messages, Request, SamplingParams
from stages.completing import Work, outcomes
from stages.ids import content_id, file_sha256, seed_for
from stages.judge import judge_all
from stages.params import Judge
from stages.parsing import Reading, load_rubric, score
from stages.rubrics.pairwise import compare
from stages.sqlrun import SQL, connect, run_file

PAIRWISE = "pairwise"  # the rubric of two responses
ASKING = (f"{PAIRWISE}/compare.py", "fencing.py")  # files that decide what it asks
QUERIES = SQL / "tournament"


@dataclass(frozen=True)
class Hall:
    """What all games have in common; `players` in the order in which they stand, the first one first."""

    seed: int
    settings: Judge  # its `rubric` is the one that is asked: PAIRWISE, or one that scores
    judge: str
    players: list[str]
    split: str
    samples: int
    least_mass: float

    @property
    def way(self) -> str:
        """Return `pairwise` or `scores`."""
        return "pairwise" if self.settings.rubric == PAIRWISE else "scores"

    @property
    def asked_hash(self) -> str:
        """Return the id of what the judge is asked."""
        if self.way == "scores":
            return rubric_hash(self.settings.rubric)
        return content_id("rubric", PAIRWISE, *(file_sha256(RUBRICS / name) for name in ASKING))


def schedule(hall: Hall, generations: pl.DataFrame) -> pl.DataFrame:
    """Return the meetings, as schedule.sql has them; those with a reason cannot be played."""
    players = pl.DataFrame({"model": hall.players, "place": range(len(hall.players))})
    values = {"samples": hall.samples, "swapped": hall.way == "pairwise"}
    with connect() as db:
        frames = {"players": players, "generations": generations}
        return run_file(db, QUERIES / "schedule.sql", frames, values)


def play(
    hall: Hall, meetings: pl.DataFrame, prompts: pl.DataFrame, generations: pl.DataFrame, backend: Backend
) -> pl.DataFrame:
    """Return `games` rows of the meetings that can be played."""
    asked_hash = hall.asked_hash
    columns = ["prompt_id", "sample_id", "first_model", "second_model", "first_id", "second_id", "same_text"]
    planned = meetings.filter(pl.col("reason").is_null()).sort(columns[:4]).select(columns)
    ids = [
        content_id("game", backend.model_hash, asked_hash, first, second)
        for first, second in planned.select("first_id", "second_id").iter_rows()
    ]
    planned = planned.with_columns(game_id=pl.Series(ids, dtype=pl.String))
    asked = planned.filter(~pl.col("same_text"))
    told = (_pairwise if hall.way == "pairwise" else _by_scores)(hall, asked, prompts, generations, backend)
    ties = planned.filter("same_text").select("game_id", verdict=pl.lit("tie"), way=pl.lit("same_text"))
    decided = pl.concat([told.with_columns(way=pl.lit(hall.way)), ties], how="diagonal_relaxed")
    games = planned.join(decided, on="game_id", how="left", validate="1:1").with_columns(
        judge=pl.lit(hall.judge),
        judge_hash=pl.lit(backend.model_hash),
        rubric=pl.lit(hall.settings.rubric),
        rubric_hash=pl.lit(asked_hash),
    )
    absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in tables.schema("games").items()]
    return games.with_columns([one for one in absent if one.meta.output_name() not in games.columns]).select(
        list(tables.schema("games"))
    )


def _pairwise(
    hall: Hall, asked: pl.DataFrame, prompts: pl.DataFrame, generations: pl.DataFrame, backend: Backend
) -> pl.DataFrame:
    """Return what the judge said of each game, and its verdict."""
    seeds = [seed_for(hall.seed, "tournament", game_id) for game_id in asked["game_id"]]
    planned = asked.with_columns(seed=pl.Series(seeds, dtype=pl.Int64))
    texts = dict(generations.select("generation_id", "response").iter_rows())
    questions = _Questions(planned, dict(prompts.select("prompt_id", "messages").iter_rows()), texts, hall.settings)
    work = Work(f"tournament/{hall.judge}/{hall.split}", hall.settings.max_failed_share)
    done = outcomes(work.complete(backend, questions)).rename({"request_id": "game_id", "text": "raw"})
    with connect() as db:
        load_rubric(db, PAIRWISE)
        read = run_file(db, QUERIES / "by_reply.sql", {"asked": done}, {})
    said = done.select("game_id", "raw", "error", "prompt_tokens", "response_tokens")
    return planned.select("game_id", "seed").join(said, on="game_id", how="left").join(read, on="game_id", how="left")


@dataclass(frozen=True)
class _Questions:
    """The requests of planned games; `messages` by prompt_id, `texts` by generation_id."""

    planned: pl.DataFrame
    messages: dict[str, Messages]
    texts: dict[str, str]
    settings: Judge

    def __len__(self) -> int:
        return self.planned.height

    def __iter__(self) -> Iterator[Request]:
        sampling = SamplingParams(self.settings.temperature, self.settings.top_p, self.settings.max_new_tokens)
        rows = self.planned.select("game_id", "prompt_id", "first_id", "second_id", "seed")
        for game_id, prompt_id, first, second, seed in rows.iter_rows():
            both = self.texts[first], self.texts[second]
            yield Request(game_id, compare.compare_prompt(self.messages[prompt_id], *both), seed, sampling)


def _by_scores(
    hall: Hall, asked: pl.DataFrame, prompts: pl.DataFrame, generations: pl.DataFrame, backend: Backend
) -> pl.DataFrame:
    """Return the scores of each game's responses, and its verdict."""
    wanted = pl.concat([asked["first_id"], asked["second_id"]]).unique()
    judged = generations.filter(pl.col("generation_id").is_in(wanted.implode()))
    work = Work(f"tournament/{hall.judge}/{hall.split}", hall.settings.max_failed_share)
    judgments = judge_all(hall.seed, hall.settings, hall.judge, prompts, judged, backend, work)
    scores = score(Reading(hall.settings.rubric, hall.least_mass), hall.judge, judged, judgments)
    with connect() as db:
        return run_file(db, QUERIES / "by_score.sql", {"asked": asked, "scores": scores}, {})
