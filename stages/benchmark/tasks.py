"""The tasks: lm-eval's own definitions, with the data taken from local files where the user has them.

A task is a YAML file that includes lm-eval's and overrides where the data is. HumanEval's is read without its metric,
which would run the model's code in this process; the code runs in a sandbox instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from stages.benchmark import local_files
from stages.errors import TsrError
from stages.ids import file_sha256


@dataclass(frozen=True)
class Known:
    """A task: where lm-eval defines it, its data set's folder among local files, and whether its answers are code."""

    definition: str
    dataset: str
    code: bool = False


TASKS = {
    "gsm8k": Known("gsm8k/gsm8k.yaml", "gsm8k"),
    "gsm8k_cot_zeroshot": Known("gsm8k/gsm8k-cot-zeroshot.yaml", "gsm8k"),
    "arc_challenge": Known("arc/arc_challenge.yaml", "arc_challenge"),
    "arc_challenge_chat": Known("arc/arc_challenge_chat.yaml", "arc_challenge"),
    "truthfulqa_mc1": Known("truthfulqa/truthfulqa_mc1.yaml", "truthfulqa"),
    "truthfulqa_mc2": Known("truthfulqa/truthfulqa_mc2.yaml", "truthfulqa"),
    "humaneval": Known("humaneval/humaneval.yaml", "human_eval", code=True),
    "humaneval_instruct": Known("humaneval/humaneval_instruct.yaml", "human_eval", code=True),
}


def named(tasks: str) -> list[str]:
    """Return the tasks of a list with commas. Raises TsrError for an unknown one."""
    wanted = [name.strip() for name in tasks.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in TASKS]:
        raise TsrError(f"benchmark: no task {unknown[0]!r}; there are: {', '.join(TASKS)}")
    if not wanted:
        raise TsrError(f"benchmark: expected --tasks; there are: {', '.join(TASKS)}")
    return list(dict.fromkeys(wanted))


def definitions() -> Path:
    """Return the folder of lm-eval's own definitions. Raises TsrError where it is not installed."""
    found = find_spec("lm_eval")
    if found is None or not found.submodule_search_locations:
        raise TsrError("benchmark: package lm-eval is not installed; pip install 'tsr[eval]'")
    return Path(next(iter(found.submodule_search_locations))) / "tasks"


def write_definitions(tasks: list[str], root: Path | None, folder: Path) -> dict[str, dict[str, str]]:
    """Write a definition of each task into `folder`, and the data beside it where `root` has it.

    Returns task -> data file -> its SHA-256. Raises TsrError for data that is missing or of another schema.
    """
    home = definitions()
    sources: dict[str, dict[str, str]] = {}
    for task in tasks:
        known = TASKS[task]
        told = _code_task(home / known.definition) if known.code else {"include": str(home / known.definition)}
        sources[task] = {}
        if root:
            found = local_files.files(root, known.dataset)
            told |= _local(known.dataset, found, folder)
            sources[task] = {f"{known.dataset}/{path.name}": file_sha256(path) for path in found.values()}
        (folder / f"{task}.yaml").write_text(yaml.safe_dump(told | {"task": task}), encoding="utf-8")
    return sources


def _local(dataset: str, found: dict[str, Path], folder: Path) -> dict[str, Any]:
    """Return the keys that point a task at local data, having put it into `folder` as Parquet."""
    data = {}
    for split, path in found.items():
        data[split] = str(folder / f"{dataset}.{split}.parquet")
        local_files.rows(dataset, path).write_parquet(data[split])
    told: dict[str, Any] = {"dataset_path": "parquet", "dataset_name": None}
    if dataset == "arc_challenge":
        told["validation_split"] = None
    return told | {"dataset_kwargs": {"data_files": data, "cache_dir": str(folder / "cache")}}


def _code_task(definition: Path) -> dict[str, Any]:
    """Return lm-eval's definition of a task whose answers are code, without what would run it."""
    told = _read(definition)
    if base := told.pop("include", None):
        told = _read(definition.with_name(base)) | told
    told |= {"metric_list": [{"metric": "bypass"}], "unsafe_code": False}
    told.pop("filter_list", None)
    return told


def _read(path: Path) -> dict[str, Any]:
    """Return a definition with nothing in place of the functions that it names."""

    class Loader(yaml.SafeLoader):
        pass

    nothing: Callable[..., None] = lambda *_: None  # noqa: E731
    Loader.add_constructor("!function", nothing)
    loaded: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)  # noqa: S506 (a SafeLoader)
    return loaded
