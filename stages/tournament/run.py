"""Tool tournament: plays the model versions against each other and writes games, ranking and picture.

`data/games/<judge>/<split>.parquet` has every verdict; `reports/tournament/<judge>.<split>` with .json (what it rests
on, and all figures), .csv (the ranking) and .svg.
"""

import json
from pathlib import Path
from typing import Any

import polars as pl

from stages import output, paths, plan, tables
from stages.asking import rubrics
from stages.backends import Backend, open_backend
from stages.errors import TsrError
from stages.exporting.folder import made_by
from stages.files import write_text
from stages.ids import file_sha256
from stages.metrics import rounded, write_json
from stages.params import Params
from stages.reporting.chart_ranking import picture
from stages.tournament.games import PAIRWISE, Hall, play, schedule
from stages.tournament.ranking import Ranking, rank

ONLY_SCORE = {"micro"}  # rubrics of judges that cannot compare two responses in one question


def run(
    params: Params, models: list[str], *, judge: str, rubric: str, split: str, samples: int, resamples: int
) -> None:
    """Play and rank `models` (none: all of the plan that have responses) on a split; print the ranking.

    Without a judge, the run's own if it has one for all, else M0, from which every arm is equally far. Without a
    rubric, `pairwise`, or the run's where its judge can only score. Raises TsrError before any work for what is absent.
    """
    players = _players(models, split)
    judge = _judge(judge, params)
    asked = _rubric(rubric, params.block.judge.rubric)
    settings = params.block.judge.model_copy(update={"rubric": asked})
    hall = Hall(params.seed, settings, judge, players, split, samples, params.block.score.least_mass)
    prompts = tables.read("prompts", paths.prompts(split))
    generations = pl.concat([tables.read("generations", paths.generations(model, split)) for model in players])
    _check_prompts(prompts, generations, split)
    meetings = schedule(hall, generations)
    backend = open_backend(paths.model(judge), settings.backend, params.block.backends)
    try:
        games = play(hall, meetings, prompts, generations, backend)
    finally:
        backend.close()
    ranking = rank(hall, games, _true_scores(players) if split == "eval" else {}, resamples)
    tables.write("games", games, paths.games(judge, split))
    told = _lineage(hall, backend, generations, resamples) | ranking.told | {"unplayed": _unplayed(meetings)}
    _write(ranking, told, players[0], paths.REPORTS / "tournament" / f"{judge}.{split}")


def _players(models: list[str], split: str) -> list[str]:
    """Return the model versions that play, M0 first where it does; the others as the plan or the caller has them."""
    listed = models or [m for m in plan.read()["models"] if paths.generations(m, split).is_file()]
    players = sorted(dict.fromkeys(listed), key=lambda model: model != "M0")
    if len(players) < 2:
        raise TsrError(f"tournament: {len(players)} model versions have responses to {split}; expected two or more")
    return players


def _judge(named: str, params: Params) -> str:
    """Return who judges. Raises TsrError for one who has no folder, naming where he was named."""
    judge = named or ("M0" if params.judge == "self" else params.judge)
    if not paths.model(judge).is_dir():
        where = f"--judge {judge}" if named else f"params.yaml: judge: {judge}"
        raise TsrError(f"tournament: {where}: no folder {paths.model(judge)}; expected a model there, e.g. --judge M0")
    return judge


def _rubric(named: str, of_run: str) -> str:
    rubric = named or (of_run if of_run in ONLY_SCORE else PAIRWISE)
    if rubric not in (known := [PAIRWISE, *rubrics()]):
        raise TsrError(f"tournament: no rubric {rubric!r}; there are: {', '.join(known)}")
    return rubric


def _check_prompts(prompts: pl.DataFrame, generations: pl.DataFrame, split: str) -> None:
    strange = generations.filter(~pl.col("prompt_id").is_in(prompts["prompt_id"].implode()))
    if strange.height:
        first = strange.select(pl.struct("model", "generation_id").min()).item()
        told = f"{strange.height} responses have no prompt in it, first {first['generation_id']} of {first['model']}"
        raise TsrError(f"{paths.prompts(split)}: {told}")


def _true_scores(players: list[str]) -> dict[str, float]:
    """Return the true scores of the players, as stage evaluate has measured them; only a made world has any."""
    found = {}
    for model in players:
        if (path := paths.evaluation_json(model)).is_file():
            score = json.loads(path.read_text(encoding="utf-8")).get("true_score")
            if score is not None:
                found[model] = float(score)
    return found


def _unplayed(meetings: pl.DataFrame) -> dict[str, int]:
    """Return reason -> meetings that could not be played."""
    return dict(meetings.drop_nulls("reason").group_by("reason").len().sort("reason").iter_rows())


def _lineage(hall: Hall, backend: Backend, generations: pl.DataFrame, resamples: int) -> dict[str, Any]:
    """Return what the ranking rests on."""
    hashes = dict(generations.select("model", "model_hash").unique().sort("model").iter_rows())
    return {
        "made_by": made_by(),
        "judge": {"model": hall.judge, "model_hash": backend.model_hash, "backend": backend.name},
        "rubric": {"name": hall.settings.rubric, "hash": hall.asked_hash, "way": hall.way},
        "sampling": hall.settings.model_dump(include={"temperature", "top_p", "max_new_tokens", "votes"}),
        "split": hall.split,
        "samples": hall.samples,
        "seed": hall.seed,
        "resamples": resamples,
        "players": {
            model: {
                "model_hash": hashes[model],
                "generations_sha256": file_sha256(paths.generations(model, hall.split)),
            }
            for model in hall.players
        },
        "anchor": hall.players[0],
    }


def _write(ranking: Ranking, told: dict[str, Any], anchor: str, place: Path) -> None:
    """Write the three files of a report, and the ranking on the screen."""
    table = ranking.table.with_columns(pl.col("points", "true_score").round(6))
    write_text(table.write_csv(), place.with_name(place.name + ".csv"))
    drawn = picture(table.to_dicts(), anchor).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    write_text(drawn + "\n", place.with_name(place.name + ".svg"))
    write_json(told | {"ranking": [rounded(row) for row in table.to_dicts()]}, place.with_name(place.name + ".json"))
    output.put(table)
    print(_summary(told))
    print(f"written: {place}.json, .csv, .svg")


def _summary(told: dict[str, Any]) -> str:
    """Return in a few lines what a reader of the ranking must know."""
    fit, positions, true = told["fit"], told["positions"], told["as_true_scores"]
    lost = {**told["without_verdict"], **told["unplayed"]}
    lines = [
        f"verdicts: {', '.join(f'{way} {count}' for way, count in told['verdicts'].items())}; "
        + (
            f"without one: {', '.join(f'{why} {count}' for why, count in sorted(lost.items()))}"
            if lost
            else "all count"
        )
    ]
    worst = fit["worst"]
    lines.append(
        f"fit: {fit['word']}; furthest off: {worst['model']} takes {worst['points']:.1%} from {worst['other']}, "
        f"expected {worst['expected']:.1%}"
    )
    if positions["both_orders"]:
        lines.append(
            f"position: the response read first takes {positions['first_share']:.1%} of the wins; in "
            f"{positions['always_first'] + positions['always_second']:.1%} of the meetings the place decided"
        )
    if true:
        lines.append(f"true scores: {true['same_order']} of {true['pairs']} pairs of models stand in their order")
    return "\n".join(lines)
