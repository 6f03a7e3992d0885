"""Weights that are not what the configuration asks for, or are no numbers: one line, before anything rests on them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import families
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_given_base import SETTINGS

from stages import models
from stages.backends import Request, SamplingParams, open_backend
from stages.backends.transformers import Settings
from stages.errors import TsrError
from stages.given_base import take_in
from stages.params import GivenBase

UP = "model.layers.1.mlp.up_proj.weight"
DOWN = "model.layers.1.mlp.down_proj.weight"
Weights = dict[str, torch.Tensor]


def settings(family: str) -> GivenBase:
    return SETTINGS.model_copy(update={"template_values": families.FAMILIES[family][-1]})


def made(family: str, folder: Path, change: Callable[[Weights], Weights]) -> Path:
    """A model of a family with its weights changed."""
    families.make(family, folder)
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return folder


def without(*names: str) -> Callable[[Weights], Weights]:
    return lambda held: {name: tensor for name, tensor in held.items() if name not in names}


def cut(*names: str) -> Callable[[Weights], Weights]:
    return lambda held: {name: t[:10].contiguous() if name in names else t for name, t in held.items()}


UNFIT = {
    "one is missing": (without(UP), rf"model\.safetensors: lacks {UP}; expected the weights that .*config\.json asks"),
    "two are missing": (without(UP, DOWN), rf"model\.safetensors: lacks {DOWN}, {UP}; expected"),
    "another shape": (cut(UP), rf"model\.safetensors: has another shape of {UP} \(10 x 32, not 64 x 32\); expected"),
    "both": (lambda held: cut(UP)(without(DOWN)(held)), rf"lacks {DOWN}, and has another shape of {UP} \("),
    "a whole layer": (
        lambda held: {name: t for name, t in held.items() if "layers.1." not in name},
        r"lacks model\.layers\.1\.input_layernorm\.weight, .* and \d+ more; expected",
    ),
    "a layer too many": (
        lambda held: held | {n.replace(".1.", ".2."): t.clone() for n, t in held.items() if "layers.1." in n},
        r"has model\.layers\.2\.input_layernorm\.weight, .* more, which the configuration does not ask for; expected",
    ),
    "a bias that is turned off": (
        lambda held: held | {UP.replace("weight", "bias"): torch.ones(64)},
        r"has model\.layers\.1\.mlp\.up_proj\.bias, which the configuration does not ask for; expected the weights",
    ),
    "the table of tokens": (without("model.embed_tokens.weight"), r"lacks .*model\.embed_tokens\.weight"),
}


@pytest.mark.parametrize("kind", UNFIT)
@pytest.mark.parametrize("family", ["qwen", "llama"])
def test_weights_that_are_not_the_configurations_are_refused(
    kind: str, family: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    change, told = UNFIT[kind]
    folder = made(family, tmp_path / "given", change)
    capfd.readouterr()
    for read in (
        lambda: take_in(str(folder), settings(family), tmp_path / "made" / "base"),
        lambda: models.load_model(folder),
        lambda: models.check_weights(folder),
    ):
        with pytest.raises(TsrError, match=told) as refused:
            read()
        assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("made/*"))
    assert "LOAD REPORT" not in "".join(capfd.readouterr()), "one line says it"


def test_a_shard_that_another_has_the_rest_of(tmp_path: Path) -> None:
    """The index is named, where there are several files."""
    folder = families.make("qwen", tmp_path / "given")
    held = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    half = {name: tensor for name, tensor in held.items() if "layers.1" in name}
    names = {"model-00001-of-00002.safetensors": without(*half)(held), "model-00002-of-00002.safetensors": half}
    for name, tensors in names.items():
        save_file(tensors, folder / name, metadata={"format": "pt"})
    index: dict[str, Any] = {"metadata": {}, "weight_map": {one: name for name, ts in names.items() for one in ts}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    models.check_weights(folder)
    save_file(without(UP)(half), folder / "model-00002-of-00002.safetensors", metadata={"format": "pt"})
    with pytest.raises(TsrError, match=rf"model\.safetensors\.index\.json: lacks {UP}; expected"):
        models.check_weights(folder)


def with_head(held: Weights) -> Weights:
    return held | {"lm_head.weight": held["model.embed_tokens.weight"].clone()}


def with_more(held: Weights) -> Weights:
    more = {"model.rotary_emb.inv_freq": torch.ones(4), "of.somebody.else": torch.ones(3), "v_head.bias": torch.ones(1)}
    return held | more | {"model.layers.0.self_attn.masked_bias": torch.ones(1)}


@pytest.mark.parametrize("change", [lambda held: held, with_head, with_more])
def test_tied_weights_and_more_than_is_needed_are_no_fault(
    change: Callable[[Weights], Weights], tmp_path: Path
) -> None:
    """Qwen's table of tokens serves both ends: with or without a copy in the file."""
    folder = made("qwen", tmp_path / "given", change)
    models.check_weights(folder)
    take_in(str(folder), settings("qwen"), tmp_path / "base")
    assert models.load_model(tmp_path / "base").config.tie_word_embeddings


def test_headers_alone_are_read(tmp_path: Path) -> None:
    """On torch's meta device no weight takes memory: a large model is looked at as quickly as a small one."""
    folder = families.make("llama", tmp_path / "given")
    assert {p.device.type for p in models._loaded(folder, device_map="meta").parameters()} == {"meta"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_no_numbers_are_not_taken_in(value: float, dtype: torch.dtype, tmp_path: Path) -> None:
    def spoilt(held: Weights) -> Weights:
        held = {name: tensor.to(dtype) for name, tensor in held.items()}
        held[UP][3, 4] = value
        return held

    folder = made("llama", tmp_path / "given", spoilt)
    told = rf"given/model\.safetensors: {UP} holds 1 of 2048 weights that are no numbers \(NaN, inf\); expected"
    with pytest.raises(TsrError, match=told):
        take_in(str(folder), settings("llama"), tmp_path / "made" / "base")
    assert not list(tmp_path.glob("made/*"))


def test_a_model_that_gives_no_numbers_is_one_line(tmp_path: Path) -> None:
    take_in(str(families.make("llama", tmp_path / "given")), settings("llama"), tmp_path / "base")
    held = load_file(tmp_path / "base/model.safetensors")
    held[UP][0, 0] = float("nan")
    save_file(held, tmp_path / "base/model.safetensors", metadata={"format": "pt"})
    engine = {"transformers": Settings(tile_rows=8, dtype="float32", device="cpu")}
    for temperature in (0.0, 0.7):
        request = Request("r", [{"role": "user", "content": "One?"}], 1, SamplingParams(temperature, 0.9, 4))
        with pytest.raises(TsrError, match=r"base: the model's weights give no numbers \(NaN\)"):
            list(open_backend(tmp_path / "base", "transformers", engine).complete([request]))


def test_an_architecture_that_nobody_knows_is_not_taken_in(tmp_path: Path) -> None:
    folder = families.make("qwen", tmp_path / "given")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "qwen99"}))
    with pytest.raises(TsrError, match=r"config\.json: model_type 'qwen99' is no language model that the installed"):
        take_in(str(folder), SETTINGS, tmp_path / "made" / "base")
    assert not list(tmp_path.glob("made/*"))
