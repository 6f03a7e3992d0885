"""The examples that M0 learns from: how many of each kind, and none without an answer."""

from pathlib import Path

import polars as pl
import pytest
from pipeline_file import PARAMS
from rows import prompts

from stages.errors import TsrError
from stages.params import Sft
from stages.sft import mix

SETTINGS = Sft(**PARAMS["micro"]["sft"] | {"steps": 10, "batch_size": 20, "ift_share": 0.3})
IFT = prompts([f"i{n}" for n in range(20)]).with_columns(split=pl.lit("ift"))
EFT = prompts([f"e{n}" for n in range(500)]).with_columns(split=pl.lit("eft"))


def test_the_share_of_each_kind_is_kept_and_a_short_one_repeated_evenly() -> None:
    mixed = mix(7, IFT, EFT, SETTINGS)
    assert dict(mixed.group_by("split").len().iter_rows()) == {"ift": 60, "eft": 140}
    assert set(mixed.filter(split="ift").group_by("prompt_id").len()["len"]) == {3}
    assert mixed.filter(split="eft")["prompt_id"].is_unique().all()


def test_the_kinds_are_mixed_throughout() -> None:
    kinds = mix(7, IFT, EFT, SETTINGS)["split"].to_list()
    assert all(4 < kinds[start : start + 50].count("ift") < 26 for start in range(0, 200, 50))


def test_epochs_take_every_example_once() -> None:
    passes = SETTINGS.model_copy(update={"steps": 0, "epochs": 2})
    assert mix(7, IFT, EFT, passes)["prompt_id"].to_list() == sorted([*IFT["prompt_id"], *EFT["prompt_id"]])


def test_the_seed_decides_the_order() -> None:
    assert mix(7, IFT, EFT, SETTINGS).equals(mix(7, IFT, EFT, SETTINGS))
    assert not mix(7, IFT, EFT, SETTINGS).equals(mix(8, IFT, EFT, SETTINGS))


def test_one_kind_alone() -> None:
    only = SETTINGS.model_copy(update={"ift_share": 0.0})
    assert set(mix(7, IFT.clear(), EFT, only)["split"]) == {"eft"}


def test_examples_without_an_answer_are_refused() -> None:
    from stages.sft import check_examples

    good = pl.DataFrame({"prompt_id": ["p", "q"], "reference": ["a", "b"]})
    check_examples(good, Path("ift"))
    with pytest.raises(TsrError, match="ift: no rows"):
        check_examples(good.clear(), Path("ift"))
    with pytest.raises(TsrError, match="ift: column 'reference' is null in 1 rows, first prompt_id=q"):
        check_examples(good.with_columns(reference=pl.Series(["a", None])), Path("ift"))
