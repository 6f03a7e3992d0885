"""The micro world's base model: a tiny Llama and a character tokenizer, made from nothing.

Operation names are one token each, all else is one token a character: spelled out, the names kept the
model at chance for 400 steps. Both parts are saved in the ordinary Hugging Face form, so every later
stage treats them as any other model.
"""

import string
from typing import TYPE_CHECKING

from stages.sources.micro_world import OPERATIONS

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

PAD, BOS, EOS, USER, ASSISTANT, UNKNOWN = "<pad>", "<s>", "</s>", "<user>", "<assistant>", "<unk>"
CHARACTERS = string.ascii_lowercase + string.digits + " +-=_"
WORDS = ("judge", *OPERATIONS)

# BOS stands in the template itself: TRL tokenizes conversations with the template and adds none of its own.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}" + USER + "{{ message['content'] }}"
    "{% else %}" + ASSISTANT + "{% generation %}{{ message['content'] }}{{ eos_token }}{% endgeneration %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}" + ASSISTANT + "{% endif %}"
)


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """Return a fast tokenizer with one token a character and a chat template."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from tokenizers import decoders as tokenizer_decoders
    from transformers import PreTrainedTokenizerFast

    vocab = {token: i for i, token in enumerate([PAD, BOS, EOS, USER, ASSISTANT, UNKNOWN, *WORDS, *CHARACTERS])}
    core = Tokenizer(models.WordLevel(vocab, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(rf"\b(?:{'|'.join(WORDS)})\b|."), behavior="isolated")
    core.decoder = tokenizer_decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_model(
    tokenizer: "PreTrainedTokenizerFast",
    seed: int,
    hidden_size: int,
    layers: int,
    heads: int,
    context: int,
    init_std: float,
) -> "LlamaForCausalLM":
    """Return a randomly initialised Llama in fp32; `seed` decides the weights.

    `init_std` counts: with the usual 0.02 and tied embeddings a model this narrow starts so flat that
    it learns nothing in 400 steps; 0.06 works.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden_size,
            intermediate_size=2 * hidden_size,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=context,
            initializer_range=init_std,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
