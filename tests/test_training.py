"""What TRL trains on is what was sampled, paired and measured."""

from pathlib import Path

import polars as pl
import pytest
from pipeline_file import PARAMS
from small_run import Run

from stages import models, paths, tables

# TRL 1.16 uses the older name of a transformers option.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")


def test_pairs_load_unchanged_in_datasets_and_trl(run: Run, tmp_path: Path) -> None:
    from datasets import load_dataset
    from trl import DPOConfig, DPOTrainer

    file = str(paths.pairs("sr-1"))
    loaded = load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path))
    assert loaded.to_list() == tables.read("pairs", paths.pairs("sr-1")).to_dicts()
    args = DPOConfig(max_length=None, use_cpu=True, bf16=False, report_to=[], output_dir=str(tmp_path))
    policy, tokenizer = paths.model("M0"), models.load_tokenizer(paths.model("M0"))
    trainer = DPOTrainer(models.load_model(policy), args=args, train_dataset=loaded, processing_class=tokenizer)
    columns = ["prompt_ids", "chosen_ids", "rejected_ids"]
    theirs, ours = (t.train_dataset.select_columns(columns).to_list() for t in (trainer, run.dpo))
    assert theirs == ours


def test_equal_pairs_and_policy_give_equal_weights(run: Run) -> None:
    from stages.dpo import fit
    from stages.params import load

    pairs, settings = tables.read("pairs", paths.pairs("sr-1")), load().block

    def weights(name: str, data: pl.DataFrame) -> str:
        fit(PARAMS["seed"], settings, name, paths.model("M0"), data)
        return models.model_hash(paths.model(name))

    kept = models.model_hash(paths.model("sr-1"))
    assert weights("again", pairs.sample(fraction=1.0, shuffle=True, seed=1)) == kept
    assert weights("fewer", pairs.head(2)) != kept


def test_margins_agree_with_trl(run: Run) -> None:
    pairs = tables.read("pairs", paths.pairs("sr-1"))
    measured = pairs.select("pair_id").join(
        tables.read("measures", paths.measures("sr-1")), on="pair_id", maintain_order="left"
    )
    batch = run.dpo.data_collator(list(run.dpo.train_dataset))
    before = (batch["ref_chosen_logps"], batch["ref_rejected_logps"])
    after = run.dpo.compute_ref_log_probs(run.dpo.model, batch)
    margins = PARAMS["micro"]["dpo"]["beta"] * ((after[0] - before[0]) - (after[1] - before[1]))
    assert measured["margin"].to_list() == pytest.approx(margins.tolist(), abs=1e-4)
    assert measured["margin"].abs().max() > 0.01


def test_responses_have_the_log_probability_that_training_sees(run: Run) -> None:
    """Sampling with a cache and scoring whole conversations are the same model."""
    from stages.features import encode, response_logprob

    model, tokenizer = models.load_model(paths.model("M0")), models.load_tokenizer(paths.model("M0"))
    sampled = tables.read("generations", paths.generations("M0", "r0"))
    for row in tables.read("pairs", paths.pairs("sr-1")).iter_rows(named=True):
        tokens = encode(tokenizer, row["prompt"], row["chosen"])
        told = sampled.row(by_predicate=pl.col("generation_id") == row["chosen_id"], named=True)
        if tokens.ids.shape[1] - tokens.start == told["response_tokens"]:
            assert response_logprob(model, tokens).item() == pytest.approx(told["logprob_sum"], abs=1e-3)


def test_bos_stands_once_wherever_a_conversation_is_encoded(run: Run) -> None:
    """TRL adds none of its own; with two, or none, training and sampling would see other prompts."""
    from stages.backends._chat import Chat

    bos, chat = models.load_tokenizer(paths.model("M0")).bos_token_id, Chat(paths.model("M0"))
    for ids in run.sft.train_dataset["input_ids"]:
        assert (ids[0], ids.count(bos)) == (bos, 1)
    pairs = tables.read("pairs", paths.pairs("sr-1"))
    for row, pair in zip(run.dpo.train_dataset, pairs.iter_rows(named=True), strict=True):
        assert row["prompt_ids"] == chat.encode(pair["prompt"])
        assert (row["prompt_ids"][0], row["prompt_ids"].count(bos)) == (bos, 1)


def test_sft_learns_the_answer_and_its_end_only(run: Run) -> None:
    tokenizer = models.load_tokenizer(paths.model("M0"))
    for row in run.sft.train_dataset:
        learned = [label for label in row["labels"] if label != -100]
        asked = row["input_ids"][: -len(learned)]
        assert asked + learned == row["input_ids"]
        assert learned.count(tokenizer.eos_token_id) == 1
        assert learned[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(asked[-1]) == "<assistant>"
