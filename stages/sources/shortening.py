"""Prompts that are longer than the model is to read: cut from the left, so that the question itself stays."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, str]]


def shortened(tokenizer: "PreTrainedTokenizerBase", messages: Messages, limit: int) -> Messages | None:
    """Return a prompt of at most `limit` tokens, the chat template's included.

    The oldest turns go first, then the beginning of the last question; a system message stays. None if even that is
    too long.
    """
    system = [m for m in messages[:1] if m["role"] == "system"]
    turns = messages[len(system) :]
    while _tokens(tokenizer, system + turns) > limit:
        if len(turns) > 1:
            turns = _from_a_question(turns[1:])
            continue
        text = turns[0]["content"]
        over = _tokens(tokenizer, system + turns) - limit
        places = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        if over >= len(places):
            return None
        start = max(places[over][0], 1)  # several tokens may share one letter
        turns = [turns[0] | {"content": text[start:]}]
    return system + turns


def _from_a_question(turns: Messages) -> Messages:
    """Return the turns from the first of the user's on: templates want one there."""
    start = next(number for number, turn in enumerate(turns) if turn["role"] == "user")
    return turns[start:]


def _tokens(tokenizer: "PreTrainedTokenizerBase", messages: Messages) -> int:
    return len(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"])
