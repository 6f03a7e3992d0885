"""Stage refer: the reference answers of a prompt split as responses, so that a strategy can choose among them."""

import polars as pl

from stages import models, paths, tables
from stages.errors import TsrError
from stages.ids import content_id


def run(split: str) -> None:
    """Write `data/generations/reference/<split>.parquet`."""
    asked = paths.prompts(split)
    known = tables.read("prompts", asked).drop_nulls("reference")
    if not known.height:
        raise TsrError(f"{asked}: column 'reference' is null in every row; expected answers to learn from")
    tables.write("generations", responses(known), paths.generations(paths.REFERENCE, split))


def responses(prompts: pl.DataFrame) -> pl.DataFrame:
    """Return `generations` rows, one a prompt with a reference answer. Tokens are the base model's."""
    tokenizer = models.load_tokenizer(paths.model("base"))
    rows = []
    for pid, messages, answer in prompts.select("prompt_id", "messages", "reference").iter_rows():
        whole = [*messages, {"role": "assistant", "content": answer}]
        asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        both = tokenizer.apply_chat_template(whole, return_dict=True)["input_ids"]
        rows.append(
            {
                "generation_id": content_id("generation", paths.REFERENCE, pid, answer),
                "model": paths.REFERENCE,
                "prompt_id": pid,
                "sample_id": 0,
                "response": answer,
                "finish_reason": "stop",
                "status": "ok",
                "prompt_tokens": len(asked),
                "response_tokens": len(both) - len(asked),
                "backend": "none",
            }
        )
    return tables.frame("generations", rows)
