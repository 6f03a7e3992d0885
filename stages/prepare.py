"""Stage prepare: prompts, supervised examples and the fixed set, from the source that the profile names.

A source is a module in `stages/sources` with its `Settings`, the block `prepare` of a profile, and `run`. What it
writes: `data/prompts/{ift,eval,fixed,r0,r1,...}.parquet`, with `eft` or `rated` as what judging is learned from;
`data/generations/world/`, responses that no model of the run made; `data/scores/human/`, ratings that came with them.
"""

from typing import cast

from stages.block import Block
from stages.sources import chat_data, micro_prompts


def run(seed: int, settings: Block) -> None:
    """Write the tables of the source whose settings these are."""
    if isinstance(settings, chat_data.Settings):
        chat_data.run(seed, settings)
    else:
        micro_prompts.run(seed, cast(micro_prompts.Settings, settings))
