"""Model versions on disk: load, save, hash. A model version is a folder in Hugging Face form.

Only safetensors weights are read and written; no pickle, no remote code.
"""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.errors import TsrError
from stages.ids import content_id, file_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# All that decides what a model answers; the rest of the folder is not read.
_HASHED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def model_hash(folder: Path) -> str:
    """Return the id of a model version: the hash of its weights, tokenizer and template."""
    _check_folder(folder)
    weights = sorted(folder.glob("*.safetensors"))
    files = [*weights, *(folder / name for name in _HASHED if (folder / name).exists())]
    return content_id("model", [[f.name, file_sha256(f)] for f in files])


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Return the tokenizer of a model version; it must have a chat template."""
    from transformers import AutoTokenizer

    _check_folder(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise TsrError(f"{folder}: the tokenizer cannot be read: {_line(error)}") from error
    if not tokenizer.chat_template:
        raise TsrError(f"{folder}: the tokenizer has no chat template")
    return tokenizer


def load_model(folder: Path) -> "PreTrainedModel":
    """Return the model of a model version, in fp32 on the CPU, in evaluation mode."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    _check_folder(folder)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise TsrError(f"{folder}: the model cannot be read: {_line(error)}") from error
    return model.eval()


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise TsrError(f"{folder}: no such model folder")
    for wanted in ("config.json", "tokenizer.json", "*.safetensors"):
        if not list(folder.glob(wanted)):
            raise TsrError(f"{folder}: no {wanted} in it; expected a model in Hugging Face form")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def save(model: Any, tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write a model version beside its place, then rename: a crash leaves no half model."""
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    model.save_pretrained(beside, safe_serialization=True)
    tokenizer.save_pretrained(beside)
    if folder.exists():
        shutil.rmtree(folder)
    beside.replace(folder)
