"""Long prompts lose their beginning, and are counted."""

import json
from pathlib import Path
from typing import Any

import families
import pytest
from chat_rows import settings, write_all
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from stages import models, paths, prepare, tables
from stages.given_base import take_in
from stages.params import GivenBase
from stages.reporting.funnel import funnel_rows
from stages.sources.shortening import shortened

SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = [
    {"role": "user", "content": "What is one and two?"},
    {"role": "assistant", "content": "Three, I should think."},
    {"role": "user", "content": "And what is the sum of five and seven and nine?"},
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("model")
    families.make("qwen", folder / "given")
    take_in(
        str(folder / "given"), GivenBase(trust_remote_code=False, chat_template="", template_values={}), folder / "b"
    )
    return models.load_tokenizer(folder / "b")


def tokens(tokenizer: Any, messages: Any) -> int:
    return len(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"])


def test_what_fits_stays_as_it_is(tokenizer: Any) -> None:
    whole = [SYSTEM, *ASKED]
    assert shortened(tokenizer, whole, tokens(tokenizer, whole)) == whole


def test_the_oldest_turns_go_first_and_the_system_message_stays(tokenizer: Any) -> None:
    whole = [SYSTEM, *ASKED]
    assert shortened(tokenizer, whole, tokens(tokenizer, whole) - 1) == [SYSTEM, ASKED[-1]]


def test_then_the_beginning_of_the_question_goes(tokenizer: Any) -> None:
    limit = tokens(tokenizer, [SYSTEM, ASKED[-1]]) - 5
    cut = shortened(tokenizer, [SYSTEM, *ASKED], limit)
    assert cut is not None
    assert cut[0] == SYSTEM
    assert ASKED[-1]["content"].endswith(cut[1]["content"])
    assert 0 < len(cut[1]["content"]) < len(ASKED[-1]["content"])
    assert tokens(tokenizer, cut) <= limit
    assert shortened(tokenizer, [SYSTEM, *ASKED], tokens(tokenizer, [SYSTEM])) is None


@examples(deadline=None, max_examples=60)
@given(text=st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=60), spare=st.integers(1, 40))
def test_any_text_is_cut_to_what_fits(tokenizer: Any, text: str, spare: int) -> None:
    limit = tokens(tokenizer, [{"role": "user", "content": ""}]) + spare
    cut = shortened(tokenizer, [{"role": "user", "content": text}], limit)
    assert cut is None or (tokens(tokenizer, cut) <= limit and text.endswith(cut[0]["content"]))


def test_cut_prompts_are_counted_and_have_ids_of_their_own(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_all()
    tokenizer.save_pretrained(tmp_path / "data/models/base")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "data/models/base" / name).write_text("{}")
    prepare.run(7, settings())
    lengths = [tokens(tokenizer, m) for m in tables.read("prompts", paths.prompts("r0"))["messages"].to_list()]
    limit = sorted(lengths)[len(lengths) // 2]
    prepare.run(7, settings(max_prompt_tokens=limit))
    told = [s for s in json.loads(Path("data/prompts/funnel.json").read_text())["steps"] if s["step"] == "length"]
    counts: dict[str, int] = {}
    for row in told:
        counts[row["outcome"]] = counts.get(row["outcome"], 0) + row["count"]
    assert counts["cut"] > 0
    rows = {step: [row for row in funnel_rows() if row["step"] == step] for step in ("length", "unique")}
    worded = [(count, kept) for row in rows["length"] for name, count, kept in row["went"] if "beginning" in name]
    assert sum(count for count, _ in worded) == counts["cut"]
    assert all(kept for _, kept in worded)
    assert sum(row["kept"] for row in rows["length"]) == sum(row["rows"] for row in rows["unique"])
    for split in ("r0", "eval", "ift"):
        for messages in tables.read("prompts", paths.prompts(split))["messages"].to_list():
            assert tokens(tokenizer, messages) <= limit
