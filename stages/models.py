"""Model versions on disk: load, save, hash. A model version is a folder in Hugging Face form.

Only safetensors weights are read and written: no pickle, and no code of a model's own unless params.yaml lets it run.
A model that runs elsewhere (a judge behind an API) is a folder too: its `endpoint.json` says what it is called there.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.errors import TsrError, secret_in_url
from stages.files import replacing_folder
from stages.ids import content_id, file_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# All that decides what a model answers; the rest of the folder is not read.
_HASHED = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    *("special_tokens_map.json", "added_tokens.json", "tokenizer.model", "vocab.json", "merges.txt"),
)


ENDPOINT = "endpoint.json"
# Whether code that comes with a model may run. Left open, transformers would ask whoever sits at the terminal.
_own_code = {"runs": False}
MADE_BY = "made_by.json"


def endpoint(folder: Path) -> dict[str, str] | None:
    """Return what `endpoint.json` says of a model that runs elsewhere, or None for a model with weights.

    Keys: `model`, its name there, and, where it matters which server has it, `base_url`.
    """
    path = folder / ENDPOINT
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TsrError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(said, dict) or "model" not in said or not all(isinstance(v, str) for v in said.values()):
        raise TsrError(f'{path}: expected {{"model": "name", "base_url": "..."}}, base_url if it matters')
    if unknown := sorted(set(said) - {"model", "base_url"}):
        raise TsrError(f"{path}: unknown key {unknown[0]!r}; expected model, base_url")
    if told := secret_in_url(said.get("base_url", "")):
        raise TsrError(f"{path}: base_url {told}; expected the URL alone, and the key in the variable of api_key_env")
    return said


def model_hash(folder: Path) -> str:
    """Return the id of a model version: the hash of weights, tokenizer, template and own code, or of its endpoint."""
    if said := endpoint(folder):
        return content_id("endpoint", said)
    _check_folder(folder)
    weights = sorted(folder.glob("*.safetensors"))
    files = [*weights, *(folder / name for name in _HASHED if (folder / name).exists())]
    files += sorted(folder.glob("*.py"))  # code of the model's own, where it has some
    return content_id("model", [[f.name, file_sha256(f)] for f in files])


def template_hash(folder: Path) -> str:
    """Return the hash of a model version's chat template, read without loading the tokenizer."""
    if said := endpoint(folder):
        return content_id("template", None, said["model"])  # the server has it
    _check_folder(folder)
    beside, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if beside.is_file():
        return content_id("template", beside.read_text(encoding="utf-8"))
    try:
        inside = json.loads(config.read_text(encoding="utf-8")).get("chat_template") if config.is_file() else None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TsrError(f"{config}: not valid JSON: {error}") from error
    if not inside:
        raise TsrError(f"{folder}: the tokenizer has no chat template")
    return content_id("template", inside)


def read_json(path: Path) -> dict[str, Any]:
    """Return what a JSON file of a model folder says. Raises TsrError if it is not there, or says nothing."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TsrError(f"{path}: no such file; expected a model in Hugging Face form") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TsrError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(said, dict):
        raise TsrError(f"{path}: expected a JSON object")
    return said


def write_json(said: dict[str, Any], path: Path) -> None:
    """Write a JSON file of a model folder as transformers does."""
    path.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def let_own_code_run(*, allowed: bool) -> None:
    """Set whether code that comes with a model runs in this process: `base.trust_remote_code` says so."""
    _own_code["runs"] = allowed


def own_code_runs() -> bool:
    """Return whether code that comes with a model runs in this process."""
    return _own_code["runs"]


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Return the tokenizer of a model version; it must have a chat template."""
    from transformers import AutoTokenizer

    _check_folder(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=own_code_runs())
    except (OSError, ValueError) as error:
        raise TsrError(f"{folder}: the tokenizer cannot be read: {_line(error)}") from error
    if not tokenizer.chat_template:
        raise TsrError(f"{folder}: the tokenizer has no chat template")
    return tokenizer


def load_model(folder: Path, dtype: str = "float32", device: str = "cpu", **options: Any) -> "PreTrainedModel":
    """Return the model of a model version, in evaluation mode; `dtype` is a name of torch's.

    `options` go to `from_pretrained` as they are. Raises TsrError for weights that are not all that the configuration
    asks for: transformers fills what is missing, or of another shape, with random numbers.
    """
    import torch
    from safetensors import SafetensorError

    _check_folder(folder)
    try:
        model = _loaded(folder, dtype=getattr(torch, dtype), **options)
    except (OSError, ValueError, SafetensorError) as error:
        raise TsrError(f"{folder}: the model cannot be read: {_line(error)}") from error
    return model.eval() if "quantization_config" in options else model.eval().to(device)


def check_weights(folder: Path) -> None:
    """Raise TsrError as `load_model` does, by the files' headers alone: no weight is read, and no memory is taken."""
    from transformers.utils import logging as told

    shown = told.is_progress_bar_enabled()
    told.disable_progress_bar()
    try:
        _loaded(folder, device_map="meta")
    except TsrError:
        raise
    except Exception as error:  # whatever a configuration makes a model's own code raise
        raise TsrError(f"{folder}: the model cannot be built: {type(error).__name__}: {_line(error)}") from error
    finally:
        if shown:
            told.enable_progress_bar()


def _loaded(folder: Path, **options: Any) -> "PreTrainedModel":
    from transformers import AutoModelForCausalLM

    with _without_report() as reports:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=own_code_runs(),
            ignore_mismatched_sizes=True,  # else an error of many lines
            output_loading_info=True,
            **options,
        )
    if told := _unfit(model, info):
        files = [*folder.glob("*.safetensors.index.json"), *folder.glob("*.safetensors")]
        where = files[0] if files else folder
        raise TsrError(f"{where}: {told}; expected the weights that {folder / 'config.json'} asks for, in its shapes")
    for report in reports:
        logging.getLogger(report.name).handle(report)
    return model


def _unfit(model: "PreTrainedModel", info: dict[str, Any]) -> str:
    """Return in words which weights were not there, of another shape or too many; empty where all is right.

    What stands beside the model, as a head or a tower of another one, is no fault; neither is what the architecture
    lets a file have. A layer more than the configuration says, or a bias that it turns off, would make another model.
    """
    told = []
    if lost := sorted(info["missing_keys"]):
        told.append(f"lacks {_listed(lost)}")
    if other := sorted(info["mismatched_keys"]):
        shapes = [f"{key} ({_shape(here)}, not {_shape(wanted)})" for key, here, wanted in other]
        told.append(f"has another shape of {_listed(shapes)}")
    parts = {_numberless(name.rpartition(".")[0]) for name, _ in model.named_parameters(remove_duplicate=False)}
    if more := sorted(key for key in info["unexpected_keys"] if _numberless(key.rpartition(".")[0]) in parts):
        told.append(f"has {_listed(more)}, which the configuration does not ask for")
    return ", and ".join(told)


def _numberless(name: str) -> str:
    """Return a module's name as that of its equals in all layers.

    >>> _numberless("model.layers.12.mlp")
    'model.layers.#.mlp'
    """
    return ".".join("#" if part.isdigit() else part for part in name.split("."))


def _listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _shape(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes)) or "a number"


@contextmanager
def _without_report() -> Iterator[list[logging.LogRecord]]:
    """Hold back transformers' table of keys: `_unfit` may say the same in one line."""
    held: list[logging.LogRecord] = []

    def goes(record: logging.LogRecord) -> bool:
        if report := "LOAD REPORT" in record.getMessage():
            held.append(record)
        return not report

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(goes)
    try:
        yield held
    finally:
        logger.removeFilter(goes)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise TsrError(f"{folder}: no such model folder")
    for wanted in ("config.json", "tokenizer.json", "*.safetensors"):
        if not list(folder.glob(wanted)):
            raise TsrError(f"{folder}: no {wanted} in it; expected a model in Hugging Face form")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def save(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    folder: Path,
    weights: dict[str, Any] | None = None,
    made_by: dict[str, Any] | None = None,
) -> None:
    """Write a model version beside its place, then rename: a crash leaves no half model.

    `weights` take the place of the model's own; `made_by` says how it came about, and is no part of its hash.
    """
    with replacing_folder(folder, replace=True) as beside:
        model.save_pretrained(beside, state_dict=weights)
        tokenizer.save_pretrained(beside)
        if weights:  # transformers has written the dtype of the model in memory
            config = read_json(beside / "config.json")
            config["dtype"] = str(next(iter(weights.values())).dtype).removeprefix("torch.")
            write_json(config, beside / "config.json")
        if made_by:
            write_json(made_by, beside / MADE_BY)
