"""A model folder or a checkpoint from elsewhere runs no code: none that comes with it, and no pickle."""

import ast
import json
import shutil
from pathlib import Path

import pytest
from rows import embedded

from stages import models
from stages.errors import TsrError

CODE = "import pathlib\npathlib.Path(__file__).with_name('pwned').touch()\npathlib.Path('pwned').touch()\n"


@pytest.fixture
def given(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of an architecture of its own, whose code comes with it."""
    folder = tmp_path / "given"
    shutil.copytree(tiny, folder)
    (folder / "own.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nobody is asked whether code may run"))
    return folder


def change(path: Path, **keys: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def own_config(folder: Path) -> None:
    auto = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    change(folder / "config.json", model_type="own-kind", architectures=["Model"], auto_map=auto)


def own_tokenizer(folder: Path) -> None:
    change(folder / "tokenizer_config.json", tokenizer_class="Own", auto_map={"AutoTokenizer": ["own.Own", "own.Own"]})


@pytest.mark.parametrize("kind", ["config", "tokenizer"])
def test_code_of_a_models_own_never_runs_unasked(kind: str, given: Path, tmp_path: Path) -> None:
    {"config": own_config, "tokenizer": own_tokenizer}[kind](given)
    with pytest.raises(TsrError, match="cannot be read") as refused:
        (models.load_model if kind == "config" else models.load_tokenizer)(given)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.rglob("pwned"))


def test_a_known_architecture_takes_transformers_code(given: Path, tmp_path: Path) -> None:
    change(given / "config.json", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"})
    assert type(models.load_model(given)).__name__ == "LlamaForCausalLM"
    embedded(given)
    assert not list(tmp_path.rglob("pwned"))


def test_the_modules_setting_is_off() -> None:
    assert not models.own_code_runs()


def test_trainings_go_on_from_tensors_alone() -> None:
    """transformers keeps optimizer, schedule and random state as pickles, and reads them as `weights_only`.

    Should a version of it read one of them otherwise, this is where it shows.
    """
    from transformers import trainer

    calls = [node for node in ast.walk(ast.parse(Path(trainer.__file__).read_text())) if isinstance(node, ast.Call)]
    loads = [node for node in calls if ast.unparse(node.func) == "torch.load"]
    assert len(loads) > 5
    for node in loads:
        told = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert told.get("weights_only") == "True", node.lineno
    assert not [node for node in calls if ast.unparse(node.func) in ("pickle.load", "pickle.loads")]


def test_a_pickle_in_a_checkpoint_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    import torch

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path("pwned"),)  # type: ignore[return-value]

    monkeypatch.chdir(tmp_path)
    for protocol in (2, 4):
        torch.save({"state": Evil()}, "optimizer.pt", pickle_protocol=protocol)
        with pytest.raises(pickle.UnpicklingError):
            torch.load("optimizer.pt", map_location="cpu", weights_only=True)
    assert not Path("pwned").exists()


def test_weights_are_safetensors_or_nothing(tiny: Path, tmp_path: Path) -> None:
    import torch

    folder = tmp_path / "given"
    shutil.copytree(tiny, folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(TsrError, match=r"no \*\.safetensors in it"):
        models.load_model(folder)
    (folder / "other.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(TsrError, match="the model cannot be read"):
        models.load_model(folder)
