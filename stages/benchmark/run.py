"""Tool benchmark: a model version on public benchmarks, by lm-eval.

`data/benchmarks/<model>/<task>.parquet` has every item; `reports/evaluation/<model>/<task>.json` the figures, and what
they rest on.
"""

import json
import logging
import math
import os
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from stages import paths, tables
from stages.backends.transformers import Settings
from stages.benchmark import code, sandbox
from stages.benchmark.tasks import TASKS, definitions, named, write_definitions
from stages.errors import TsrError
from stages.exporting.folder import made_by
from stages.metrics import rounded, write_json
from stages.models import load_tokenizer, model_hash, template_hash
from stages.runtime import prepare_torch


@dataclass(frozen=True)
class How:
    """How a model version is asked. `limit` 0 takes all items; `code_seconds` is the time of one program."""

    root: Path | None
    limit: int
    chat: bool
    allow_code: bool
    batch_size: int
    code_seconds: float


def run(engine: Settings, model: str, tasks: str, how: How) -> None:
    """Evaluate a model version and write items and figures; print the figures.

    Raises TsrError before any work for an unknown task, data that is missing or not as published, a missing package, a
    model that cannot be read, and code that may not run or has no sandbox.
    """
    wanted = named(tasks)
    if any(TASKS[task].code for task in wanted):
        if not how.allow_code:
            raise TsrError("benchmark: HumanEval runs code that the model writes; --allow-code runs it in a sandbox")
        sandbox.require()
    definitions()
    folder = paths.model(model)
    load_tokenizer(folder)  # a folder that is no model, or has no template, is told of in one line here
    if how.root is None:
        os.environ["HF_HUB_OFFLINE"] = "0"
    prepare_torch()
    with tempfile.TemporaryDirectory(prefix="tsr-benchmark-") as place:
        sources = write_definitions(wanted, how.root, Path(place))
        results = _evaluate(engine, folder, wanted, how, place)
    for task in wanted:
        _keep(engine, model, task, how, results, sources[task])


def _evaluate(engine: Settings, folder: Path, tasks: list[str], how: How, place: str) -> dict[str, Any]:
    """Return lm-eval's results, samples included. Raises TsrError where data cannot be loaded."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    import torch
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    torch.use_deterministic_algorithms(mode=False)  # sums of log-likelihoods have no such kernel on a GPU
    try:
        loaded = TaskManager(include_path=place, include_defaults=False).load(tasks)["tasks"]
    except Exception as error:  # the hub's client raises its own, and those of two HTTP libraries
        where = f"files in {how.root}" if how.root else "hub; --from FOLDER takes local files"
        told = " ".join(str(error).split())[:200]
        raise TsrError(f"benchmark: data of {', '.join(tasks)} cannot be loaded from the {where}: {told}") from error
    asked = HFLM(
        pretrained=str(folder),
        dtype=engine.dtype,
        device=engine.device,
        batch_size=how.batch_size,
        trust_remote_code=False,
        use_safetensors=True,
    )
    found = simple_evaluate(
        model=asked,
        tasks=list(loaded.values()),
        limit=how.limit or None,
        apply_chat_template=how.chat,
        fewshot_as_multiturn=how.chat,
        bootstrap_iters=0,
    )
    results: dict[str, Any] = dict(found)
    cut = {task: len({one["doc_id"] for one in results["samples"][task] if _is_cut(asked, one)}) for task in tasks}
    return results | {"cut_prompts": cut}


def _is_cut(asked: Any, sample: dict[str, Any]) -> bool:
    """Return whether lm-eval has cut the beginning of what the model should read, for want of context."""
    for prompt, rest in sample["arguments"]:
        told = len(asked.tok_encode(prompt))
        if isinstance(rest, str):
            told += len(asked.tok_encode(rest, add_special_tokens=False)) - 1
        else:
            told += rest.get("max_gen_toks", asked.max_gen_toks)
        if told > asked.max_length:
            return True
    return False


def _keep(engine: Settings, model: str, task: str, how: How, results: dict[str, Any], sources: dict[str, str]) -> None:
    """Write one task's items and figures, and print the figures."""
    folder = paths.model(model)
    samples = results["samples"][task]
    about = {"model": model, "model_hash": model_hash(folder), "task": task}
    about["task_version"] = str(results["versions"][task])
    notes = code.judged(task, samples, how.code_seconds) if TASKS[task].code else None
    items = _items(about, samples, notes)
    tables.write("benchmarks", items, paths.benchmark(model, task))
    metrics = _metrics(items)
    config = results["configs"][task]
    told = about | {
        "made_by": made_by(),
        "template_hash": template_hash(folder),
        "metrics": metrics,
        "items": len({sample["doc_id"] for sample in samples}),
        "cut_prompts": results["cut_prompts"][task],
        "shots": results["n-shot"][task],
        "settings": {
            "chat": how.chat,
            "limit": how.limit,
            "batch_size": how.batch_size,
            "dtype": engine.dtype,
            "generation": config.get("generation_kwargs"),
            "code_seconds": how.code_seconds if notes is not None else None,
        },
        "data": {"files": sources} if sources else {"hub": config["dataset_path"]},
        "packages": {name: version(name) for name in ("lm_eval", "transformers", "torch")},
    }
    place = paths.REPORTS / "evaluation" / paths.checked(model) / f"{task}.json"
    write_json(told, place)
    for name, figure in metrics.items():
        print(f"{task} {name}: {_told(figure)}")
    if cut := results["cut_prompts"][task]:
        print(
            f"{task}: {cut} of {told['items']} prompts lost their beginning: the model's context is too short for them"
        )
    print(f"written: {place}, {paths.benchmark(model, task)}")


def _told(figure: dict[str, Any]) -> str:
    """Return a figure with its standard error, as far as there are any."""
    lost = f", {figure['without_value']} without a value" if figure["without_value"] else ""
    if figure["mean"] is None:
        return f"no value{lost}"
    error = "" if figure["se"] is None else f" +- {figure['se']:.4f}"
    return f"{figure['mean']:.4f}{error} over {figure['items']} items{lost}"


def _items(about: dict[str, str], samples: list[dict[str, Any]], notes: list[str] | None) -> pl.DataFrame:
    """Return `benchmarks` rows; `notes` are the verdicts of the sandbox, in the order of the samples."""
    rows = []
    for place, sample in enumerate(samples):
        shared = about | {
            "item": sample["doc_id"],
            "item_hash": sample["doc_hash"],
            "prompt_hash": sample["prompt_hash"],
            "response": _response(sample["resps"]),
            "note": None,
            "judge": None,
            "judge_hash": None,
            "raw": None,
        }
        if notes is not None:
            why = notes[place]
            rows.append(
                shared | {"filter": "sandbox", "metric": "pass@1", "value": float(not why), "note": why or None}
            )
        else:
            scored = {name: float(sample[name]) for name in sample["metrics"]}
            rows += [shared | {"filter": sample["filter"], "metric": n} | _number(v) for n, v in scored.items()]
    return tables.frame("benchmarks", rows)


def _number(value: float) -> dict[str, Any]:
    return {"value": value} if math.isfinite(value) else {"value": None, "note": "not a number"}


def _response(responses: list[Any]) -> str:
    """Return what the model wrote, or the log-likelihoods of the choices."""
    if isinstance(responses[0][0], str):
        return str(responses[0][0])
    return json.dumps([choice[0][0] for choice in responses])


def _metrics(items: pl.DataFrame) -> dict[str, Any]:
    """Return the mean of each metric over the items that have a value, its standard error, and how many have none."""
    found = items.group_by("metric", "filter").agg(
        mean=pl.col("value").mean(),
        std=pl.col("value").std(),
        items=pl.col("value").count(),
        without=pl.col("value").null_count(),
    )
    return {
        f"{row['metric']},{row['filter']}": rounded(
            {
                "mean": row["mean"],
                "se": None if row["std"] is None else row["std"] / math.sqrt(row["items"]),
                "items": row["items"],
                "without_value": row["without"],
            }
        )
        for row in found.sort("metric", "filter").iter_rows(named=True)
    }
