"""Stage base: the model that everything starts from, with its tokenizer."""

from stages import models, paths
from stages.ids import seed32_for
from stages.params import Base
from stages.runtime import prepare_torch


def run(seed: int, settings: Base) -> None:
    """Write `data/models/base`: a randomly initialised tiny Llama."""
    prepare_torch()
    from stages.tiny_llama import build_model, build_tokenizer

    tokenizer = build_tokenizer()
    model = build_model(tokenizer, seed32_for(seed, "base"), **settings.model_dump())
    models.save(model, tokenizer, paths.model("base"))
