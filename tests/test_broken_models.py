"""Model folders that are not what they should be: one line, before any work."""

import shutil
from pathlib import Path

import pytest

from stages import models
from stages.errors import TsrError


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def test_no_such_folder(tmp_path: Path) -> None:
    for read in (models.model_hash, models.load_model, models.load_tokenizer):
        with pytest.raises(TsrError, match="ghost: no such model folder"):
            read(tmp_path / "ghost")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(TsrError, match=r"model: no .* in it; expected a model in Hugging Face form"):
        models.model_hash(folder)


def test_truncated_weights_are_one_line(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(TsrError, match=r"^.*model: the model cannot be read: [^\n]+$"):
        models.load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_garbage_is_one_line(folder: Path, name: str) -> None:
    (folder / name).write_text("{")
    read = models.load_model if name == "config.json" else models.load_tokenizer
    with pytest.raises(TsrError, match=r"^.*model: the (model|tokenizer) cannot be read: [^\n]+$"):
        read(folder)
