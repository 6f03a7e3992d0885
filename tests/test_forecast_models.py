"""A model's shape against transformers and PEFT, and what is held in memory against what torch holds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml

from stages.errors import TsrError
from stages.forecast import memory, shape

pytestmark = pytest.mark.filterwarnings("ignore:.*checkpointing.*:FutureWarning")
SIZES = {"vocab_size": 50, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("Llama", {}),
    ("Llama", {"tie_word_embeddings": True, "head_dim": 24}),
    ("Llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4}),
    ("Qwen2", {"tie_word_embeddings": True}),
    ("Qwen2", {"num_key_value_heads": 1}),
    ("Qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    ("Qwen3", {"head_dim": 16, "attention_bias": True}),
    ("Mistral", {}),
    ("Mistral", {"head_dim": 32}),
]
# What the publishers say, by their weights.
PUBLISHED = {
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
}


def config(family: str, **changes: Any) -> Any:
    return getattr(transformers, f"{family}Config")(**SIZES | changes)


def shaped(of: Any) -> shape.Shape:
    """The shape, read from what transformers writes into a config.json."""
    return shape.of_config(of.to_dict(), "tiny", "here")


@pytest.mark.parametrize(("family", "changes"), VARIANTS)
def test_parameters_are_those_of_transformers(family: str, changes: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config(family, **changes))
    assert shaped(model.config).parameters == sum(p.numel() for p in model.parameters())


def test_the_micro_worlds_model_is_the_one_that_is_made() -> None:
    from stages.params import load
    from stages.tiny_llama import build_model, build_tokenizer

    block = load().profiles["micro"].base
    model = build_model(build_tokenizer(), 1, **block.model_dump())
    assert shape.made(block) == replace(shaped(model.config), name="made", source="params.yaml: base")
    assert shape.made(block).parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_known_models_have_the_weights_that_are_published(name: str) -> None:
    assert shape.of_hub(f"{name}@{'0' * 40}").parameters == PUBLISHED[name]


def test_every_known_model_is_the_model_that_transformers_would_make() -> None:
    known = yaml.safe_load(shape.KNOWN.read_text())["models"]
    kinds = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "mistral": "Mistral"}
    for figures in {str(one): one for one in known.values()}.values():
        found = getattr(transformers, f"{kinds[figures['model_type']]}Config")(**figures)
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(found)
        assert shape.of_config(figures, "", "").parameters == sum(p.numel() for p in model.parameters()), figures


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Qwen3", "Mistral"])
def test_adapters_are_those_of_peft(family: str) -> None:
    from peft import LoraConfig, get_peft_model

    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config(family))
        adapted = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert shaped(config(family)).adapters(8) == trained


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Qwen3", "Mistral"])
def test_a_token_leaves_the_keys_and_values_that_a_cache_holds(family: str) -> None:
    model = transformers.AutoModelForCausalLM.from_config(config(family)).eval()
    with torch.no_grad():
        cache = model(input_ids=torch.ones(1, 10, dtype=torch.long), use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert 10 * shaped(model.config).cache_bytes(4) == held


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Qwen3", "Mistral"])
def test_activations_are_what_torch_keeps_for_the_backward_pass(family: str, checkpointing: bool) -> None:
    """A layer's share, in float32, as the difference of models of three layers and one."""
    tokens, few, many = 256, saved_bytes(family, 1, 256, checkpointing), saved_bytes(family, 3, 256, checkpointing)
    of = shaped(config(family))
    expected = of.hidden * 4 if checkpointing else memory.layer_activations(of, 4, 4)
    assert (many - few) / 2 / tokens == pytest.approx(expected, rel=0.01)


def saved_bytes(family: str, layers: int, tokens: int, checkpointing: bool) -> int:
    """The bytes of all tensors that torch saves in a forward pass, weights left out."""
    made = config(family, num_hidden_layers=layers)
    model = transformers.AutoModelForCausalLM.from_config(made, attn_implementation="sdpa").train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            kept[place] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.model(input_ids=torch.ones(1, tokens, dtype=torch.long), use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_weights_gradients_and_moments_are_what_a_step_of_adam_holds() -> None:
    from stages.params import load

    micro = load().profiles["micro"]
    model = transformers.AutoModelForCausalLM.from_config(config("Llama"), dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters())
    model(input_ids=torch.ones(1, 8, dtype=torch.long), labels=torch.ones(1, 8, dtype=torch.long)).loss.backward()
    optimizer.step()
    peak = memory.training("sft", shaped(model.config), micro, micro.sft, memory.Launch(), 1)
    assert peak.weights == sum(p.nbytes for p in model.parameters())
    assert peak.gradients == sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    moments = [v for state in optimizer.state.values() for v in state.values() if v.dim()]
    assert peak.optimizer == sum(moment.nbytes for moment in moments)


def test_parts_over_processes_and_frozen_weights_take_less() -> None:
    from stages.params import load

    paper = load().profiles["paper"]
    llama = shape.of_hub(paper.base_model)

    def peak(processes: int, sharded: bool, **changes: Any) -> memory.Peak:
        settings = paper.training.model_copy(update=changes)
        profile = paper.model_copy(update={"training": settings})
        return memory.training("dpo", llama, profile, profile.dpo, memory.Launch(processes, sharded), 2)

    n = llama.parameters
    alone, eight = peak(1, False), peak(8, True)
    assert alone.weights + alone.gradients + alone.optimizer == 16 * n  # arXiv 1910.02054, section 3.1
    assert eight.weights + eight.gradients + eight.optimizer == 2 * n
    assert peak(2, False).other - alone.other == 4 * n
    lora, qlora = peak(1, False, adapter="lora"), peak(1, False, adapter="qlora")
    trained = llama.adapters(64)
    assert lora.weights + lora.gradients + lora.optimizer == 2 * n + 16 * trained
    tables = 2 * llama.embedding  # stay in bfloat16; the others take 0.516 bytes (arXiv 2305.14314)
    assert qlora.weights - 4 * trained == pytest.approx(2 * tables + 0.516 * (n - tables), rel=0.01)
    kept = peak(1, False, gradient_checkpointing=False)
    assert kept.activations / alone.activations > 9


def test_a_model_that_is_not_known_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TsrError, match=r"base_model: 'org/unknown' is no folder.*--config FILE"):
        shape.of_hub("org/unknown@" + "0" * 40)
    (tmp_path / "config.json").write_text('{"model_type": "gemma3"}')
    with pytest.raises(TsrError, match=r"config\.json: model_type 'gemma3'; a forecast knows llama, mistral"):
        shape.of_file(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "vocab_size": 5}')
    with pytest.raises(TsrError, match=r"config\.json: hidden_size is None; expected a whole number"):
        shape.of_file(tmp_path / "config.json")
