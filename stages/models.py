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
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise TsrError(f"{folder}: no *.safetensors in it; expected a model in Hugging Face form")
    files = [*weights, *(folder / name for name in _HASHED if (folder / name).exists())]
    return content_id("model", [[f.name, file_sha256(f)] for f in files])


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Return the tokenizer of a model version; it must have a chat template."""
    from transformers import AutoTokenizer

    if not folder.is_dir():
        raise TsrError(f"{folder}: no such model folder")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not tokenizer.chat_template:
        raise TsrError(f"{folder}: the tokenizer has no chat template")
    return tokenizer


def load_model(folder: Path) -> "PreTrainedModel":
    """Return the model of a model version, in fp32 on the CPU, in evaluation mode."""
    import torch
    from transformers import AutoModelForCausalLM

    if not folder.is_dir():
        raise TsrError(f"{folder}: no such model folder")
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    return model.eval()


def save(model: Any, tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write a model version beside its place, then rename: a crash leaves no half model."""
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    model.save_pretrained(beside, safe_serialization=True)
    tokenizer.save_pretrained(beside)
    if folder.exists():
        shutil.rmtree(folder)
    beside.replace(folder)
