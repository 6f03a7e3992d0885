"""Tool alpaca-eval: AlpacaEval 2.0 of a model version's responses, by the alpaca-eval package and any annotator.

Against published reference outputs, the win rate and the published length-controlled one. Against another model version
on the run's own prompts, the length-controlled one without the published difficulties, which those prompts do not have.
"""

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from stages import paths, tables
from stages.errors import TsrError
from stages.exporting.alpaca_eval import one_response
from stages.exporting.folder import made_by
from stages.ids import content_id, file_sha256
from stages.metrics import rounded, write_json
from stages.models import endpoint, model_hash
from stages.params import Params

TASK = "alpaca_eval"
FIGURES = ("win_rate", "standard_error", "length_controlled_winrate", "lc_standard_error", "avg_length", "n_total")
NO_KEY = "none"  # a local server wants none, the client does
LEAST = 5  # responses; the length control is fitted in five folds


@dataclass(frozen=True)
class Contest:
    """What is compared: a row a prompt, in the reference's order; `published` says which length control applies."""

    rows: pl.DataFrame  # instruction, output, reference
    model_hash: str
    reference: str
    published: bool


def run(
    params: Params,
    model: str,
    *,
    split: str,
    reference: str,
    annotator: str,
    judge: str,
    gamed: Path | None,
    sample: int,
    limit: int,
) -> None:
    """Annotate, write and print the win rates.

    `reference` is a published JSON file of outputs, or a model version. `annotator` is one of the package's, or a YAML
    file of its form; with `judge`, a folder in data/models that runs elsewhere, that model is asked in place of the
    annotator's own. `gamed` is the package's df_gamed.csv, left out: from the hub. Raises TsrError before any work for
    what is missing.
    """
    if find_spec("alpaca_eval") is None:
        raise TsrError("alpaca-eval: package alpaca-eval is not installed; pip install 'tsr[alpaca-eval]'")
    contest = _contest(model, split, reference, sample, limit)
    key, asked_model = _access(params, judge)
    with tempfile.TemporaryDirectory(prefix="tsr-alpaca-") as folder:
        config = _config(annotator, judge, asked_model, Path(folder))
        table = _length_table(contest, gamed, Path(folder))
        with _quiet(key):
            figures, annotations = _annotated(contest, model, config, table)
    _keep(contest, model, annotator, judge, figures, annotations, {"split": split, "sample": sample, "limit": limit})


def _contest(model: str, split: str, reference: str, sample: int, limit: int) -> Contest:
    """Return what is compared. Raises TsrError where a prompt of the reference has no response."""
    prompts = tables.read("prompts", paths.prompts(split))
    mine = tables.read("generations", paths.generations(model, split))
    outputs = _outputs(prompts, mine, sample)
    published = reference.endswith(".json")
    if published:
        other = _published(Path(reference))
    else:
        theirs = tables.read("generations", paths.generations(reference, split))
        other = _outputs(prompts, theirs, sample).rename({"output": "reference"})
    other = other.head(limit or other.height)
    rows = other.join(outputs, on="instruction", how="left", maintain_order="left")
    lost = rows.filter(pl.col("output").is_null()).height
    if lost:
        raise TsrError(
            f"{paths.generations(model, split)}: no response to {lost} of {rows.height} prompts of {reference}"
        )
    if rows.height < LEAST:
        raise TsrError(f"alpaca-eval: {rows.height} prompts; expected {LEAST} or more for the length control")
    hashes = mine["model_hash"].unique().to_list()
    return Contest(rows, hashes[0] or "unknown", Path(reference).name, published)


def _outputs(prompts: pl.DataFrame, generations: pl.DataFrame, sample: int) -> pl.DataFrame:
    """Return instruction and output of the prompts that have one, by prompt_id."""
    rows = one_response(prompts, generations, tables.frame("scores", []), best=False, sample=sample)
    return rows.filter(pl.col("reason").is_null()).sort("prompt_id").select("instruction", "output")


def _published(path: Path) -> pl.DataFrame:
    """Return instruction and reference of a published file. Raises TsrError for one of another schema."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        rows = [(row["instruction"], row["output"]) for row in told]
        if not all(isinstance(text, str) for row in rows for text in row):
            raise TypeError
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
        raise TsrError(f"{path}: expected a JSON list of objects with the texts instruction and output") from None
    frame = pl.DataFrame(rows, schema={"instruction": pl.String, "reference": pl.String}, orient="row")
    if frame["instruction"].is_duplicated().any():
        raise TsrError(f"{path}: an instruction is there twice; expected each once")
    return frame


def _access(params: Params, judge: str) -> tuple[str, dict[str, Any]]:
    """Return the key, and what the annotator asks in place of its own model; nothing where there is no judge.

    The package's client reads the key from the environment when it is first imported; it is in no file.
    """
    settings: Any = params.block.backends.get("openai")
    asked: dict[str, Any] = {}
    if judge:
        said = endpoint(paths.model(judge))
        if said is None:
            model_hash(paths.model(judge))  # says what is wrong with the folder, if anything is
            raise TsrError(f"{paths.model(judge)}: no endpoint.json; alpaca-eval asks a server, which serves it")
        url = said.get("base_url") or settings.base_url
        asked = {"model_name": said["model"], "openai_api_base": url, "requires_chatml": True, "price_per_token": 0}
    key = os.environ.get(settings.api_key_env if settings else "OPENAI_API_KEY", "")
    os.environ["OPENAI_API_KEYS"] = key or NO_KEY
    return key, asked


def _config(annotator: str, judge: str, asked_model: dict[str, Any], folder: Path) -> Path:
    """Return a folder with the annotator's configuration. Raises TsrError for one that is not there."""
    from alpaca_eval import constants

    home = Path(constants.EVALUATORS_CONFIG_DIR)
    path = Path(annotator) if annotator.endswith((".yaml", ".yml")) else home / annotator / "configs.yaml"
    try:
        ((_, told),) = yaml.safe_load(path.read_text(encoding="utf-8")).items()
        asked = told["completions_kwargs"]
        template = next(
            base / told["prompt_template"] for base in (path.parent, home) if (base / told["prompt_template"]).is_file()
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
        raise TsrError(f"{path}: expected an annotator of alpaca-eval: one block with completions_kwargs") from None
    except StopIteration:
        raise TsrError(f"{path}: prompt_template: no such file {told['prompt_template']!r}") from None
    asked |= asked_model
    local = str(asked.get("openai_api_base")).startswith(("http://127.0.0.1", "http://localhost"))
    if told.get("fn_completions") == "openai_completions" and os.environ["OPENAI_API_KEYS"] == NO_KEY and not local:
        raise TsrError("alpaca-eval: no API key; set the variable that backends.openai.api_key_env names")
    name = f"{path.parent.name if path.name == 'configs.yaml' else path.stem}{f'-{judge}' if judge else ''}"
    (folder / name).mkdir()
    told["prompt_template"] = str(template.absolute())
    (folder / name / "configs.yaml").write_text(yaml.safe_dump({name: told}), encoding="utf-8")
    return folder / name


def _length_table(contest: Contest, gamed: Path | None, folder: Path) -> Path:
    """Return the table that the length control is fitted beside.

    For prompts of one's own, which have no published difficulty, all are taken for equally hard: the package's
    `length_controlled_minimal` leaves the difficulty out, but looks it up.
    """
    if not contest.published:
        path = folder / "df_gamed.csv"
        rows = pl.DataFrame({"model": "none", "index": range(contest.rows.height), "instruction_difficulty": 0.0})
        rows.write_csv(path)
        return path
    if gamed:
        try:
            known = pl.read_csv(gamed, n_rows=1).columns
        except (OSError, pl.exceptions.PolarsError) as error:
            raise TsrError(f"{gamed}: not a readable CSV file: {str(error).splitlines()[0]}") from error
        wanted = {"model", "index", "instruction_difficulty", "preference", "std_delta_len", "not_gamed_baseline"}
        if lost := sorted(wanted - set(known)):
            raise TsrError(f"{gamed}: column {lost[0]!r} is missing; expected alpaca-eval's df_gamed.csv")
        return gamed
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download("tatsu-lab/alpaca_eval", "df_gamed.csv", repo_type="dataset"))
    except Exception as error:  # the hub's client raises its own, and those of two HTTP libraries
        told = " ".join(str(error).split())[:150]
        raise TsrError(f"alpaca-eval: df_gamed.csv cannot be loaded from the hub; --gamed FILE: {told}") from error


@contextmanager
def _quiet(key: str) -> Iterator[None]:
    """Turn what the package raises into one line without the key, and its logging off: it prints whole requests."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # what its fit will have to change with scikit-learn 1.10
            yield
    except Exception as error:  # whatever it and its client raise
        told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise TsrError(f"alpaca-eval: {told.replace(key, '...') if key else told}") from None
    finally:
        logging.disable(logging.NOTSET)


def _annotated(contest: Contest, model: str, config: Path, table: Path) -> tuple[dict[str, Any], Any]:
    """Return the figures and the annotations, as the package has them."""
    from alpaca_eval import evaluate
    from alpaca_eval.metrics import glm_winrate

    glm_winrate.hf_hub_download = lambda **_: str(table)
    differences = contest.rows["output"].str.len_chars().cast(pl.Int64) - contest.rows["reference"].str.len_chars()
    alike = differences.n_unique() == 1  # there is no length to be controlled, and the fit would divide by its spread
    control = {
        "glm_name": "length_controlled_v1" if contest.published else "length_controlled_minimal",
        "save_weights_dir": None,
    }
    outputs = [
        [
            {"instruction": asked, "output": text, "generator": who}
            for asked, text in contest.rows.select("instruction", side).rows()
        ]
        for side, who in (("reference", f"reference {contest.reference}"), ("output", model))
    ]
    board, annotations = evaluate(
        model_outputs=outputs[1],
        reference_outputs=outputs[0],
        annotators_config=str(config),
        name=model,
        output_path=None,
        precomputed_leaderboard=None,
        is_return_instead_of_print=True,
        fn_metric="get_winrate" if alike else "get_length_controlled_winrate",
        metric_kwargs={} if alike else control,
        sort_by="win_rate",
        annotation_kwargs={"is_ordered": True},
        caching_path=None,
    )
    found = board.loc[model]
    return {name: float(found[name]) if name in found else None for name in FIGURES}, annotations


def _keep(
    contest: Contest,
    model: str,
    annotator: str,
    judge: str,
    figures: dict[str, Any],
    annotations: list[dict[str, Any]],
    settings: dict[str, Any],
) -> None:
    """Write the items and the figures, and print the figures."""
    asked_by = judge or annotator
    rows = []
    for place, told in enumerate(annotations):
        preference = told["preference"]
        known = preference is not None and preference == preference  # noqa: PLR0124 (NaN is not itself)
        rows.append(
            {
                "model": model,
                "model_hash": contest.model_hash,
                "task": TASK,
                "task_version": content_id("annotator", annotator),
                "item": place,
                "item_hash": content_id("item", told["instruction"]),
                "prompt_hash": content_id("messages", told["instruction"]),
                "response": told["output_2"],
                "filter": asked_by,
                "metric": "preference",
                "value": float(preference) - 1 if known else None,
                "judge": asked_by,
                "judge_hash": model_hash(paths.model(judge)) if judge else None,
                "raw": json.dumps(told.get("raw_completion"), sort_keys=True, default=str),
                "note": None if known else "unparsed",
            }
        )
    items = tables.frame("benchmarks", rows)
    tables.write("benchmarks", items, paths.benchmark(model, TASK))
    lost = items["value"].null_count()
    told = {
        "made_by": made_by(),
        "task": TASK,
        "model": {"name": model, "model_hash": contest.model_hash},
        "reference": contest.reference,
        "annotator": annotator,
        "judge": judge or None,
        "length_control": "published" if contest.published else "length alone",
        "metrics": rounded(figures),
        "without_preference": lost,
        "settings": settings,
        "outputs_sha256": file_sha256(paths.generations(model, settings["split"])),
        "packages": {"alpaca_eval": version("alpaca_eval")},
    }
    report = paths.REPORTS / "evaluation" / paths.checked(model) / f"{TASK}.json"
    write_json(told, report)
    controlled = figures["length_controlled_winrate"]
    length = "unknown, all lengths differ alike" if controlled is None else f"{controlled:.1f}"
    print(
        f"{TASK} {model} against {contest.reference}, judged by {asked_by}: "
        f"{figures['win_rate']:.1f} +- {figures['standard_error']:.1f}, length-controlled {length}, "
        f"over {figures['n_total']:.0f} prompts" + (f"; {lost} without a preference" if lost else "")
    )
    print(f"written: {report}, {paths.benchmark(model, TASK)}")
