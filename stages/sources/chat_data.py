"""The source `chat_data`: conversations that people wrote or rated, from the hub or from files (docs/data-sources.md).

OpenAssistant's trees, UltraFeedback's rated responses and the user's own files become prompt splits, supervised
examples, rated responses to learn judging from, and the fixed set. SQL decides which row goes where, and every row
that goes nowhere is counted with its reason.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.block import Block, Count, Whole

Source = Literal["oasst", "ultrafeedback", "files"]
Number = Annotated[int, Field(ge=0)]


class Settings(Block):
    """The block `prepare` of a profile whose source is `chat_data`."""

    source: Literal["chat_data"]
    oasst: list[str]
    ultrafeedback: list[str]
    files: list[str]
    language: str
    turns: Count
    max_prompt_tokens: Whole
    rating: Literal["overall_score", "fine-grained_score"]
    files_rating: Annotated[list[float], Field(min_length=2, max_length=2)]
    eft_from: Source
    eft_prompts: Number
    fixed_responses: Count
    best_prompts: Number
    eval_prompts: Count
    ift_examples: Count
    splits: Count
    prompts_per_split: Count

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if not (self.oasst or self.ultrafeedback or self.files):
            raise ValueError("oasst, ultrafeedback and files are all empty; expected at least one file or data set")
        if self.eft_prompts and not getattr(self, self.eft_from):
            raise ValueError(f"eft_from is {self.eft_from!r}, but {self.eft_from} is empty")
        if self.files_rating[0] >= self.files_rating[1]:
            raise ValueError(f"files_rating is {self.files_rating}; expected the lowest rating, then the highest")
        return self

    @property
    def given(self) -> dict[Source, list[str]]:
        """Return source -> its data sets, of the sources that have any."""
        every: dict[Source, list[str]] = {"oasst": self.oasst, "ultrafeedback": self.ultrafeedback, "files": self.files}
        return {source: data for source, data in every.items() if data}

    @property
    def scales(self) -> dict[Source, tuple[float, float]]:
        """Return source -> lowest and highest rating. Ranks of the trees count down from 0."""
        known = {"overall_score": (1.0, 10.0), "fine-grained_score": (1.0, 5.0)}
        low, high = self.files_rating
        return {"oasst": (-1000.0, 0.0), "ultrafeedback": known[self.rating], "files": (low, high)}

    @property
    def sizes(self) -> dict[str, int]:
        """Return split -> its prompts."""
        sizes = {"rated": self.eft_prompts, "fixed": self.fixed_responses, "eval": self.eval_prompts}
        return sizes | {"ift": self.ift_examples} | {f"r{i}": self.prompts_per_split for i in range(self.splits)}


def run(seed: int, settings: Settings) -> None:
    """Write all prompt splits, rated responses, their human scores, the fixed set, and the funnel.

    Raises TsrError, before anything is written, for a source that cannot be read or gives too few prompts.
    """
    from stages.sources.selecting import prepare

    prepare(seed, settings)
