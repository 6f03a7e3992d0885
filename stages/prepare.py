"""Stage prepare: prompts, supervised examples and the fixed set, from the source that the profile names.

A source is a module in `stages/sources` with its `Settings`, the block `prepare` of a profile, and `run`. What it
writes: `data/prompts/{ift,eval,fixed,r0,r1,...}.parquet`, with `eft` or `rated` as what judging is learned from;
`data/generations/world/`, responses that no model of the run made; `data/scores/human/`, ratings that came with them.
"""

from stages.params import Prepare
from stages.sources import chat_data, micro_prompts


def run(seed: int, settings: Prepare) -> None:
    """Write the tables of the source that the settings name."""
    if settings.source == "chat_data":
        chat_data.run(seed, settings)
    else:
        micro_prompts.run(seed, settings)
