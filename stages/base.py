"""Stage base: the model that everything starts from, with its tokenizer: made here, or taken in from elsewhere."""

from stages import models, paths
from stages.ids import seed32_for
from stages.params import MadeBase, Profile
from stages.runtime import prepare_torch


def run(seed: int, settings: Profile) -> None:
    """Write `data/models/base`: a randomly initialised tiny Llama, or a copy of what `base_model` names."""
    if not isinstance(settings.base, MadeBase):
        from stages.given_base import take_in

        take_in(settings.base_model, settings.base, paths.model("base"))
        return
    prepare_torch()
    from stages.tiny_llama import build_model, build_tokenizer

    tokenizer = build_tokenizer()
    model = build_model(tokenizer, seed32_for(seed, "base"), **settings.base.model_dump())
    models.save(model, tokenizer, paths.model("base"))
