"""Tiny models with random weights of the real architectures, with tokenizers and chat templates that behave as theirs.

The templates are our own words for the families' published formats. What matters is kept: Llama 3 reads the clock for
its date, Qwen has no BOS and adds a system message of its own, Qwen 3 puts an empty thought before an answer, Mistral
takes a system message into the first user's turn and refuses turns that do not alternate.
"""

from pathlib import Path
from typing import Any

import torch

# ruff: noqa: E501 (templates are what they are)
TEXT = ("What is the sum of two and three? The sum is five. Score: 4. Write a short letter to a friend. ") * 20

LLAMA = """{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}{%- set said = messages[0]['content'] | trim %}{%- set messages = messages[1:] %}
{%- else %}{%- set said = "" %}{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}{{- "Today Date: " + date_string + "\n\n" + said + "<|eot_id|>" }}
{%- for message in messages %}
{{- "<|start_header_id|>" + message['role'] + "<|end_header_id|>\n\n" + message['content'] | trim + "<|eot_id|>" }}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<|start_header_id|>assistant<|end_header_id|>\n\n" }}{%- endif %}"""

QWEN = """{%- if messages[0]['role'] == 'system' %}{{- "<|im_start|>system\n" + messages[0]['content'] + "<|im_end|>\n" }}
{%- else %}{{- "<|im_start|>system\nYou are helpful.<|im_end|>\n" }}{%- endif %}
{%- for message in messages %}{%- if not (loop.first and message['role'] == 'system') %}
{{- "<|im_start|>" + message['role'] + "\n" + message['content'] + "<|im_end|>\n" }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- "<|im_start|>assistant\n" }}{%- endif %}"""

QWEN3 = """{%- for message in messages %}
{%- if message['role'] == 'assistant' and loop.last %}
{{- "<|im_start|>assistant\n<think>\n\n</think>\n\n" + message['content'] + "<|im_end|>\n" }}
{%- else %}{{- "<|im_start|>" + message['role'] + "\n" + message['content'] + "<|im_end|>\n" }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<|im_start|>assistant\n" }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- "<think>\n\n</think>\n\n" }}{%- endif %}{%- endif %}"""

MISTRAL = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}{%- set said = messages[0]['content'] + "\n\n" %}{%- set messages = messages[1:] %}
{%- else %}{%- set said = "" %}{%- endif %}
{%- for message in messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{- raise_exception('roles must alternate') }}{%- endif %}
{%- if message['role'] == 'user' %}{{- "[INST] " + (said if loop.first else "") + message['content'] + "[/INST]" }}
{%- else %}{{- " " + message['content'] + eos_token }}{%- endif %}{%- endfor %}"""

# family -> (configuration class, special tokens, bos, eos, pad, template, what its template leaves open)
FAMILIES: dict[str, tuple[str, list[str], str | None, str, str | None, str | None, dict[str, Any]]] = {
    "llama": (
        "LlamaConfig",
        [f"<|{name}|>" for name in ("begin_of_text", "end_of_text", "start_header_id", "end_header_id", "eot_id")]
        + ["<|finetune_right_pad_id|>"],
        "<|begin_of_text|>",
        "<|eot_id|>",
        None,
        LLAMA,
        {"date_string": "26 Jul 2024"},
    ),
    "qwen": (
        *("Qwen2Config", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
        *(None, "<|im_end|>", "<|endoftext|>", QWEN, {}),
    ),
    "qwen3": (
        *("Qwen3Config", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
        *(None, "<|im_end|>", "<|endoftext|>", QWEN3, {"enable_thinking": False}),
    ),
    "mistral": ("MistralConfig", ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"], "<s>", "</s>", None, MISTRAL, {}),
    "base": (
        *("LlamaConfig", ["<|begin_of_text|>", "<|end_of_text|>"]),
        *("<|begin_of_text|>", "<|end_of_text|>", None, None, {}),
    ),
}


def tokenizer(family: str) -> Any:
    """A byte-level tokenizer of a family: any text goes through it and back."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    _, special, bos, eos, pad, template, _ = FAMILIES[family]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        [TEXT],
        trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    if bos:
        core.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, core.token_to_id(bos))]
        )
    known: dict[str, Any] = {"bos_token": bos, "eos_token": eos, "pad_token": pad, "chat_template": template}
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        extra_special_tokens=special,
        padding_side="left",
        **{k: v for k, v in known.items() if v},
    )


def make(family: str, folder: Path, context: int = 2048) -> Path:
    """Write a tiny model of a family with random weights, as its publisher would lay it out."""
    import transformers

    spoken = tokenizer(family)
    config = getattr(transformers, FAMILIES[family][0])(
        vocab_size=len(spoken),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=context,
        initializer_range=0.1,
        tie_word_embeddings=family.startswith("qwen"),
        bos_token_id=spoken.bos_token_id,
        eos_token_id=spoken.eos_token_id,
    )
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    spoken.save_pretrained(folder)
    return folder
