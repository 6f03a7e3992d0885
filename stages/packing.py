"""Packed examples stand in one row and must not read each other: tried on the model at hand before the first step."""

from pathlib import Path
from typing import Any

from stages.errors import TsrError

TOKENS = 8  # of each of two made-up examples


def check(model: Any, folder: Path) -> None:
    """Raise TsrError if an example that follows another in a row is not read as it is alone.

    Flash attention is told where examples end and cannot be tried here: it runs on a GPU alone, and the model is not
    there yet.
    """
    import torch
    from transformers.integrations import is_deepspeed_zero3_enabled
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    if is_deepspeed_zero3_enabled():
        raise TsrError("params.yaml: sft.packing cannot be tried under ZeRO-3; expected packing: false, or fsdp.yaml")
    if model.config._attn_implementation == "flash_attention_2" or _is_elsewhere(model):
        return
    ids = [[(place * step) % model.config.vocab_size for place in range(1, TOKENS + 1)] for step in (3, 5)]
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)

    def read(*examples: list[int]) -> Any:
        """Return what the model makes of the last tokens of a row, as TRL gives it the row."""
        row = collate([{"input_ids": example} for example in examples])
        return model(**row | {"labels": None}, use_cache=False).logits[0, -TOKENS:].float()

    model.eval()
    with torch.no_grad():
        alone, packed, joined = read(ids[1]), read(*ids), read(ids[0] + ids[1])
    model.train()
    if 2 * (packed - alone).norm() > (joined - alone).norm():
        raise TsrError(f"{folder}: its attention reads over the ends of packed examples; expected sft.packing: false")


def _is_elsewhere(model: Any) -> bool:
    """Return whether another process holds the weights and tries them."""
    return any(weight.is_meta for weight in model.parameters())
