"""True scores of responses, from the source's verifier. For measuring only: nothing trains or pairs on them."""

import polars as pl

from stages.sources import VERIFIERS


def true_scores(prompts: pl.DataFrame, generations: pl.DataFrame) -> pl.DataFrame:
    """Return generation_id and truth (float, null where the source has no verifier), one row a generation."""
    asked = prompts.select("prompt_id", "source", text=pl.col("messages").list.last().struct.field("content"))
    joined = generations.unique("generation_id").join(asked, on="prompt_id", how="left")
    truth = [
        float(VERIFIERS[source](text, response)) if source in VERIFIERS else None
        for source, text, response in joined.select("source", "text", "response").iter_rows()
    ]
    return joined.select("generation_id", truth=pl.Series(truth, dtype=pl.Float64)).sort("generation_id")
