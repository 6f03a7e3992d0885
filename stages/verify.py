"""Tool verify: are all outputs what dvc.lock says, and do the tables agree with each other?

Every check is a function that yields one line for each thing that is wrong.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import duckdb
import polars as pl

from stages import lockfile, models, paths, plan, tables
from stages.candidates import Sides, read_candidates
from stages.errors import TsrError
from stages.evaluate import fixed_ways
from stages.pair import make_pairs
from stages.params import Params
from stages.parsing import Reading, score
from stages.progress import progress
from stages.score import check_votes

Row = dict[str, Any]


def run(params: Params, *, partial: bool = False) -> None:
    """Print what is wrong, one line each; raise TsrError if anything is. `partial` lets outputs be absent."""
    planned = plan.check_agrees(params)
    of_plan = list(planned_outputs(planned))
    if not partial:
        check_was_run(of_plan)
    outputs = [*of_plan, *lockfile.added()]
    wrong = list(check_hashes(outputs, partial=partial))
    checks = [
        *((check_generations, row) for row in planned["answers"].values()),
        *((check_evaluation, row) for row in planned["models"].values()),
        *((check_scores, row) for row in [*planned["judges"].values(), *planned["oracles"].values()]),
        *((check_pairs, row | {"name": name}) for name, row in planned["learns"].items()),
    ]
    absent = 0
    with progress("verify", len(checks), "tables") as advance:
        for check, row in checks:
            try:
                wrong += found(check, params, row)
            except TsrError as error:
                if partial and "no such file" in str(error):
                    absent += 1
                else:
                    wrong.append(str(error))
            advance()
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        mend = "to restore one, delete it and run `dvc pull`; where no remote has it, `dvc checkout` or `dvc repro`"
        raise TsrError(f"verify: {len(wrong)} things are wrong; {mend}")
    here, all_of_them = sum(out.path.exists() for out in outputs), len(outputs)
    if here == all_of_them and not absent:
        print(f"verify: all outputs match {lockfile.LOCK_FILE}, and {len(checks)} tables agree with each other")
        return
    agree = f"{len(checks) - absent} of {len(checks)} tables have all that they rest on and agree with it"
    print(f"verify: {here} of {all_of_them} outputs are here and match {lockfile.LOCK_FILE}; {agree}")


def found(check: Callable[[Params, Row], Iterator[str]], params: Params, row: Row) -> list[str]:
    """Return what a check says of a row. Raises TsrError for tables that are missing, broken or foreign."""
    try:
        return list(check(params, row))
    except (pl.exceptions.PanicException, duckdb.Error) as error:  # what damaged bytes may end in
        of = " ".join(str(value) for value in row.values() if isinstance(value, str))
        raise TsrError(f"{of}: a table of these cannot be read: {str(error).splitlines()[0]}") from error


def planned_outputs(planned: dict[str, Any]) -> Iterator[lockfile.Output]:
    """Yield the outputs of the plan's rows; DVC keeps entries of removed rows in dvc.lock."""
    rows = {key for table in plan.TABLES for key in planned[table]}
    for out in lockfile.outputs():
        _, _, key = out.stage.partition("@")
        if not key or key in rows:
            yield out


def check_was_run(outputs: Iterable[lockfile.Output]) -> None:
    """Raise TsrError, one line for all, where none of the tables and models is here; reports come with git."""
    made = [out.path for out in outputs if not out.path.is_relative_to(paths.REPORTS)]
    if made and not any(path.exists() for path in made):
        told = f"nothing has been run here yet: none of {len(made)} tables and models in {lockfile.LOCK_FILE} is here"
        raise TsrError(f"verify: {told}; expected `dvc repro`, or `dvc pull` where a remote has them")


def check_hashes(outputs: Iterable[lockfile.Output], *, partial: bool) -> Iterator[str]:
    """Compare the bytes of outputs with what dvc.lock, or a `.dvc` file, says of them."""
    for out in outputs:
        source = out.stage if out.stage.endswith(".dvc") else lockfile.LOCK_FILE
        if not out.path.exists():
            if not partial:
                yield f"{out.path}: absent; {source} has it{'' if source == out.stage else f' from stage {out.stage}'}"
        elif (actual := lockfile.actual_md5(out.path)) != out.md5:
            yield f"{out.path}: md5 {actual}; {source} says {out.md5}"


def check_generations(params: Params, row: Row) -> Iterator[str]:
    """K responses to each prompt of the split, from the weights that are in the model's folder."""
    yield from _wrong_answers(row["model"], row["split"], params.block.generate.samples)


def check_evaluation(params: Params, row: Row) -> Iterator[str]:
    """K responses to each held-out prompt, and the votes on each fixed response, from the model's weights."""
    model = row["model"]
    yield from _wrong_answers(model, "eval", params.block.evaluate.samples)
    path = paths.judgments(model, paths.WORLD, "fixed")
    judgments = tables.read("judgments", path)
    fixed = tables.read("generations", paths.generations(paths.WORLD, "fixed"))
    for way, votes in fixed_ways(params.block.judge).items():
        check_votes(way, votes, fixed, judgments.filter(pl.col("way") == way), str(path))
    yield from _wrong_hash(path, "judge_hash", judgments["judge_hash"], row["judge"])


def _wrong_answers(model: str, split: str, samples: int) -> Iterator[str]:
    path = paths.generations(model, split)
    generations = tables.read("generations", path)
    prompts = tables.read("prompts", paths.prompts(split))
    counts = prompts.select("prompt_id").join(
        generations.group_by("prompt_id").len(), on="prompt_id", how="full", coalesce=True
    )
    for pid, count in counts.filter(pl.col("len").fill_null(0) != samples).sort("prompt_id").iter_rows():
        yield f"{path}: prompt {pid} has {count or 0} responses; expected {samples}"
    if foreign := set(generations["prompt_id"]) - set(prompts["prompt_id"]):
        yield f"{path}: prompt {min(foreign)} is not in split {split}; {len(foreign)} are like that"
    yield from _wrong_hash(path, "model_hash", generations["model_hash"], model)


def check_scores(params: Params, row: Row) -> Iterator[str]:
    """Each score is what its votes give; votes are on these generations, by the judge's weights."""
    where = (row["judge"], row["model"], row["split"])
    generations = tables.read("generations", paths.generations(row["model"], row["split"]))
    judgments = tables.read("judgments", paths.judgments(*where))
    settings = params.block.judge
    check_votes(settings.way, settings.votes, generations, judgments, str(paths.judgments(*where)))
    reading = Reading(settings.rubric, params.block.score.least_mass)
    again = score(reading, row["judge"], generations, judgments)
    kept = tables.read("scores", paths.scores(*where))
    yield from _differences(str(paths.scores(*where)), "generation_id", kept, again, "the votes give")
    yield from _wrong_hash(paths.judgments(*where), "judge_hash", judgments["judge_hash"], row["judge"])


def check_pairs(params: Params, row: Row) -> Iterator[str]:
    """Pairs and drops are what the strategy makes of the candidates, and together they are the prompts."""
    name = row["name"]
    pairs = tables.read("pairs", paths.pairs(name))
    dropped = tables.read("dropped", paths.dropped(name))
    prompts = tables.read("prompts", paths.prompts(row["split"]))
    ended = sorted([*pairs["prompt_id"], *dropped["prompt_id"]])
    if ended != sorted(prompts["prompt_id"]):
        have = f"{pairs.height} pairs and {dropped.height} drops"
        yield f"{paths.pairs(name)}: {have}; expected the {prompts.height} prompts of {row['split']}, each once"
    sides = Sides(**{key: row[key] for key in ("judge", "split", "own", "anchor", "future", "second")})
    pairs_again, dropped_again = make_pairs(params.block.pair, name, row["strategy"], prompts, read_candidates(sides))
    yield from _differences(str(paths.pairs(name)), "pair_id", pairs, pairs_again, "the candidates give")
    yield from _differences(str(paths.dropped(name)), "prompt_id", dropped, dropped_again, "the candidates give")
    measured = tables.read("measures", paths.measures(name))
    if sorted(measured["pair_id"]) != sorted(pairs["pair_id"]):
        yield f"{paths.measures(name)}: its pairs are not those of {paths.pairs(name)}"


def _differences(where: str, key: str, kept: pl.DataFrame, again: pl.DataFrame, source: str) -> Iterator[str]:
    """Yield a line for the first rows that differ between what is kept and what it should be."""
    columns = kept.columns
    left = {row[columns.index(key)]: row for row in kept.iter_rows()}
    right = {row[columns.index(key)]: row for row in again.select(columns).iter_rows()}
    differing = sorted(k for k in left.keys() | right.keys() if left.get(k) != right.get(k))
    for k in differing[:3]:
        if k not in left or k not in right:
            yield f"{where}: {key} {k} {'is missing' if k in right else 'should not be there'}, by what {source}"
            continue
        column = next(c for c, a, b in zip(columns, left[k], right[k], strict=True) if a != b)
        at = columns.index(column)
        yield f"{where}: {key} {k}: {column} is {left[k][at]!r}; {source} {right[k][at]!r}"
    if len(differing) > 3:
        yield f"{where}: and {len(differing) - 3} more rows"


def _wrong_hash(path: object, column: str, hashes: pl.Series, model: str) -> Iterator[str]:
    folder = paths.model(model)
    if folder.exists() and set(hashes) - {actual := models.model_hash(folder)}:
        yield f"{path}: {column} {sorted(set(hashes) - {actual})[0]}; the weights in {folder} have {actual}"
