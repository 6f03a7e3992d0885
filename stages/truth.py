"""True scores of responses, from the source's verifier. For measuring only: nothing trains or pairs on them."""

import polars as pl

from stages.sources import VERIFIERS


def true_scores(prompts: pl.DataFrame, generations: pl.DataFrame) -> pl.DataFrame:
    """Return generation_id and truth (float), one row a generation.

    Null where the source has no verifier, and for a request that failed: it is no answer, and not a wrong one.
    """
    asked = prompts.select("prompt_id", "source", text=pl.col("messages").list.last().struct.field("content"))
    joined = generations.unique("generation_id").join(asked, on="prompt_id", how="left")
    truth = [
        float(VERIFIERS[source](text, response)) if source in VERIFIERS and finish_reason != "error" else None
        for source, text, response, finish_reason in joined.select(
            "source", "text", "response", "finish_reason"
        ).iter_rows()
    ]
    return joined.select("generation_id", truth=pl.Series(truth, dtype=pl.Float64)).sort("generation_id")
