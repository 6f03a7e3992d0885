"""A base model from a hub or a folder, made fit for every later stage: weights, a pad token, a chat template.

What a template leaves open is closed here, once: its variables (Llama 3's reads the clock for `date_string`, Qwen 3's
asks `enable_thinking`) are set inside it, so that training, the embedded engine and any server see the same prompts.
"""

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages import hub, models
from stages.errors import TsrError
from stages.files import replacing_folder
from stages.params import GivenBase
from stages.weights import check_finite, weights_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEFAULT_TEMPLATE = Path(__file__).parent / "templates" / "plain.jinja"
_TAKEN = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
_PINNED = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})")
_PADS = ("<|finetune_right_pad_id|>", "<|endoftext|>", "<pad>", "[PAD]", "<unk>")  # never trained on, where they exist
_PROBE = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Two."}]


def take_in(base_model: str, settings: GivenBase, to: Path) -> None:
    """Write `base_model`, a hub id with @revision or a folder, to the folder `to`.

    Raises TsrError for a model that is not there, has no safetensors, wants code of its own that `trust_remote_code`
    does not allow, is not known to transformers, whose weights are not those of its configuration or are no numbers,
    or whose template cannot be used.
    """
    found = Path(base_model) if is_folder(base_model) else downloaded(base_model, settings)
    check_folder(found, settings)
    tokenizer = fitted(found, settings, base_model)  # before gigabytes are copied
    check_weights(found, settings)
    check_finite(found)
    with replacing_folder(to, replace=True) as beside:
        for pattern in _taken(settings):
            for file in found.glob(pattern):
                shutil.copyfile(file, beside / file.name)
        tokenizer.save_pretrained(beside)
        _tell_config(beside, tokenizer)


def _taken(settings: GivenBase) -> list[str]:
    """Return which files of a model are taken; its own code only where it may run."""
    return [*_TAKEN, "*.py"] if settings.trust_remote_code else list(_TAKEN)


def is_folder(base_model: str) -> bool:
    """Return whether `base_model` names a local folder."""
    return bool(base_model) and Path(base_model).is_dir()


def on_hub(base_model: str) -> tuple[str, str]:
    """Return name and commit of a model on the hub. Raises TsrError for what is no such thing."""
    pinned = _PINNED.fullmatch(base_model)
    if not pinned:
        raise TsrError(
            f"params.yaml: base_model: {base_model!r} is no folder, and no hub id with its commit; "
            "expected organisation/name@40 hex digits"
        )
    return pinned["name"], pinned["revision"]


def downloaded(base_model: str, settings: GivenBase, *, local_only: bool = False) -> Path:
    """Return the folder in the hub's cache with a model of the hub; with `local_only`, nothing is asked for there.

    Raises TsrError for one that cannot be had.
    """
    name, commit = on_hub(base_model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    lost = "" if local_only else hub.out_of_reach()
    here = local_only or bool(lost)
    try:
        taken = _taken(settings)
        return Path(snapshot_download(name, revision=commit, allow_patterns=taken, local_files_only=here))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        told = lost or " ".join(str(error).split())[:200]
        raise TsrError(f"params.yaml: base_model: {base_model} cannot be had from the hub: {told}") from error


def check_folder(folder: Path, settings: GivenBase) -> None:
    """Raise TsrError for a folder that is no model in Hugging Face form with safetensors."""
    weights_of(folder)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise TsrError(f"{folder}: no tokenizer in it; expected a tokenizer.json")
    config = models.read_json(folder / "config.json")
    if "auto_map" in config and not settings.trust_remote_code:
        raise TsrError(
            f"{folder}/config.json: the model wants code of its own; expected one of transformers', "
            "or base.trust_remote_code: true"
        )
    _check_architecture(folder, config)


def _check_architecture(folder: Path, config: dict[str, Any]) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and "auto_map" not in config:
        raise TsrError(
            f"{folder}/config.json: model_type {kind!r} is no language model that the installed transformers knows; "
            "expected another model, or a newer transformers"
        )


def check_weights(folder: Path, settings: GivenBase) -> None:
    """Raise TsrError for weights that are not those of the configuration; those of its own code are not looked at."""
    if not (settings.trust_remote_code and "auto_map" in models.read_json(folder / "config.json")):
        models.check_weights(folder)


def fitted(folder: Path, settings: GivenBase, where: str) -> "PreTrainedTokenizerBase":
    """Return a model's tokenizer with a pad token and the chat template that every later stage uses.

    Raises TsrError for a tokenizer that cannot be read, or has no end token, and a template that cannot be used.
    """
    tokenizer = _tokenizer(folder)
    if tokenizer.eos_token is None:
        raise TsrError(f"{where}: the tokenizer has no end token, so that no answer would end; expected an eos_token")
    _give_pad(tokenizer)
    tokenizer.chat_template = template(tokenizer, settings)
    check_template(tokenizer, where)
    return tokenizer


def _tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=models.own_code_runs())
    except Exception as error:  # whatever a broken file makes transformers, tokenizers and their checks raise
        told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise TsrError(f"{folder}: the tokenizer cannot be read: {told}") from error


def _give_pad(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Give a tokenizer without a pad token one that it has; its end token only where it has no other.

    A pad token of its own keeps the end token in what is learned.
    """
    if tokenizer.pad_token is None:
        known = tokenizer.get_vocab()
        free = (token for token in _PADS if token in known and token != tokenizer.eos_token)
        tokenizer.pad_token = next(free, tokenizer.eos_token)


def template(tokenizer: "PreTrainedTokenizerBase", settings: GivenBase) -> str:
    """Return the chat template to use: the one that settings name, the tokenizer's own, or the default.

    It starts by setting `template_values`, and gives the BOS where the tokenizer has one and the template forgets it.
    """
    if settings.chat_template:
        file = Path(settings.chat_template)
        if not file.is_file():
            raise TsrError(f"params.yaml: base.chat_template: no file {file}")
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise TsrError(f"params.yaml: base.chat_template: {file} is no text in UTF-8") from error
    else:
        text = tokenizer.chat_template or DEFAULT_TEMPLATE.read_text(encoding="utf-8")
    if "strftime_now" in text and "date_string" not in settings.template_values:
        raise TsrError(
            "params.yaml: base.template_values: the model's chat template reads the clock, so that no run could be "
            'repeated; expected a date_string, e.g. "26 Jul 2024"'
        )
    text = values(settings) + text
    if _counts_bos(tokenizer) and not _starts_with_bos(tokenizer, text):
        text = "{{- bos_token -}}" + text
    return text


def values(settings: GivenBase) -> str:
    """Return what a template begins with, so that the variables which it reads are set."""
    return "".join(f"{{%- set {name} = {json.dumps(value)} -%}}" for name, value in settings.template_values.items())


def _counts_bos(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Return whether the model is used to a BOS: its tokenizer puts one before plain text."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def _starts_with_bos(tokenizer: "PreTrainedTokenizerBase", text: str) -> bool:
    return bool(_encoded(tokenizer, _PROBE, chat_template=text)[0] == tokenizer.bos_token_id)


def _encoded(tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, str]], **how: Any) -> list[int]:
    """Return the tokens of a conversation. Raises TsrError for a template that cannot give them."""
    import jinja2

    try:
        return list(tokenizer.apply_chat_template(messages, return_dict=True, **how)["input_ids"])
    except (jinja2.TemplateError, ValueError) as error:
        told = " ".join(str(error).split())[:200]
        raise TsrError(f"params.yaml: base_model: its chat template refuses a conversation: {told}") from error


def check_template(tokenizer: "PreTrainedTokenizerBase", where: str) -> None:
    """Raise TsrError for a template whose BOS comes twice, or whose prompt is not how its conversation starts.

    The latter would train the answer to follow another prompt than the one it is asked with.
    """
    asked, whole = _encoded(tokenizer, _PROBE[:1], add_generation_prompt=True), _encoded(tokenizer, _PROBE)
    given = whole.count(tokenizer.bos_token_id)
    if _counts_bos(tokenizer) and tokenizer.bos_token_id != tokenizer.eos_token_id and given != 1:
        raise TsrError(f"{where}: the chat template gives {given} BOS tokens; expected one")
    if whole[: len(asked)] != asked:
        raise TsrError(
            f"{where}: the chat template's prompt is not how its conversation starts; "
            "expected base.template_values or base.chat_template to mend that"
        )
    if len(whole) == len(asked):
        raise TsrError(f"{where}: the chat template leaves out what the assistant says")


def _tell_config(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Write the pad token into the model's own configuration too, where training and engines look for it."""
    for name in ("config.json", "generation_config.json"):
        if (folder / name).is_file():
            config: dict[str, Any] = models.read_json(folder / name)
            config["pad_token_id"] = tokenizer.pad_token_id
            models.write_json(config, folder / name)
