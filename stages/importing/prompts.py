"""Prompt rows: one for each text, whatever the source calls it; white space alone makes no other prompt."""

import json
from typing import Any

import polars as pl

from stages.errors import TsrError
from stages.ids import prompt_id
from stages.importing.dirt import Dirt
from stages.importing.mapping import Mapping, Prompts
from stages.importing.texts import joined, readable, special_left

WHERE = "prompts"


def read_prompts(picked: pl.DataFrame, prompts: Prompts, split: str, dirt: Dirt) -> pl.DataFrame:
    """Return (key, conversation, split, reference, `meta.*`), one row a key; `conversation` is JSON messages.

    Raises TsrError for a key that names two prompts.
    """
    text = next(name for name in ("prompt", "messages", "turns") if getattr(prompts, name) is not None)
    assert prompts.key is not None
    frame = picked.with_columns(key=joined(picked, [f"{WHERE}.key.{i}" for i in range(len(prompts.key))]))
    frame = _left_out(frame, pl.col("key").is_null(), "no_key", dirt)
    system = f"{WHERE}.system" if prompts.system else None
    frame = _with_conversation(frame, f"{WHERE}.{text}", text, system, dirt)
    metas = {name: f"{WHERE}.meta.{name}" for name in prompts.meta}
    mapped_split = pl.col(f"{WHERE}.split") if prompts.split and not split else pl.lit(split or "all")
    return frame.select(
        "key",
        "conversation",
        split=mapped_split.fill_null("all"),
        reference=pl.col(f"{WHERE}.reference") if prompts.reference else pl.lit(None, dtype=pl.String),
        **{f"meta.{name}": pl.col(column) for name, column in metas.items()},
    ).unique()


def _left_out(frame: pl.DataFrame, bad: pl.Expr, kind: str, dirt: Dirt) -> pl.DataFrame:
    dirt.add(kind, WHERE, frame.filter(bad).height)
    return frame.filter(~bad)


def _with_conversation(frame: pl.DataFrame, column: str, text: str, system: str | None, dirt: Dirt) -> pl.DataFrame:
    frame = _left_out(
        frame, (pl.col(column).is_null()) | (pl.col(column).str.strip_chars() == ""), "prompt_without_text", dirt
    )
    used = [column, *([system] if system else [])]
    different = frame.select(used).unique()
    read = [_conversation(row[0], text, row[1] if system else None) for row in different.iter_rows()]
    different = different.with_columns(conversation=pl.Series(read, dtype=pl.String))
    frame = frame.join(different, on=used, how="left", nulls_equal=True)
    return _left_out(frame, pl.col("conversation").is_null(), "prompt_unreadable", dirt)


def _conversation(text: str, kind: str, system: str | None) -> str | None:
    """Return a prompt as JSON messages; null where they cannot be read, or end with an answer."""
    if kind == "prompt":
        messages = [message("user", text)]
    elif kind == "messages":
        messages = _messages(text)
    else:
        messages = [message("user", question) for question in _questions(text)]
    if not messages or messages[-1]["role"] == "assistant":
        return None
    return dumped([message("system", system), *messages] if system else messages)


def _questions(text: str) -> list[str]:
    try:
        turns = json.loads(text)
    except ValueError:
        return []
    fine = isinstance(turns, list) and all(isinstance(turn, str) and turn.strip() for turn in turns)
    return turns if fine else []


def _messages(text: str) -> list[dict[str, str]]:
    try:
        given = json.loads(text)
    except ValueError:
        return []
    read = [_message(one) for one in given] if isinstance(given, list) else []
    return [one for one in read if one] if all(read) else []


def _message(given: Any) -> dict[str, str] | None:
    if not isinstance(given, dict) or not isinstance(given.get("role"), str):
        return None
    content = given.get("content")
    if isinstance(content, list):  # OpenAI's parts; a part that is no text has no place here
        content = _joined(content)
    return message(given["role"], content) if isinstance(content, str) else None


def _joined(parts: list[Any]) -> str | None:
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    return "".join(text for text in texts if isinstance(text, str)) if all(isinstance(t, str) for t in texts) else None


def message(role: str, content: str) -> dict[str, str]:
    """Return one message."""
    return {"role": role, "content": content}


def dumped(messages: list[dict[str, str]]) -> str:
    """Return messages as the JSON text that stands for them in frames."""
    return json.dumps(messages, ensure_ascii=False)


def first_turns(read: pl.DataFrame) -> pl.DataFrame:
    """Return the prompts with their conversations cut after the first question."""
    cut = [dumped(_up_to_question(json.loads(text), 0)) for text in read["conversation"]]
    return read.with_columns(conversation=pl.Series(cut, dtype=pl.String))


def _up_to_question(messages: list[dict[str, str]], turn: int) -> list[dict[str, str]]:
    questions = [i for i, one in enumerate(messages) if one["role"] == "user"]
    return messages[: questions[turn] + 1]


def asked_after(conversation: str, answers: list[str]) -> str | None:
    """Return the conversation up to the question after `answers`, the answers in their places; None beyond the last.

    >>> asked_after('[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]', ["x"])
    '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "x"}, {"role": "user", "content": "b"}]'
    """
    messages = json.loads(conversation)
    questions = [i for i, one in enumerate(messages) if one["role"] == "user"]
    if len(answers) >= len(questions):
        return None
    before = messages[: questions[0]]
    for place, answer in zip(questions, answers, strict=False):
        before += [messages[place], message("assistant", answer)]
    return dumped([*before, messages[questions[len(answers)]]])


def settle(read: pl.DataFrame, mapping: Mapping, dirt: Dirt) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (`prompts` rows, key -> prompt_id and split), made of one or more rows a key.

    Prompts that differ by white space alone become the first of them in order of text, unless the mapping keeps
    them. Raises TsrError for a key that names two prompts, and for a prompt in two splits.
    """
    merge = mapping.prompts.white_space == "merge"
    different = read.select("conversation").unique()
    plain = [_plain(text) for text in different["conversation"]] if merge else different["conversation"]
    read = read.join(different.with_columns(same=pl.Series(plain, dtype=pl.String)), on="conversation")
    _refuse_two(read, "key", "same", "names {} different prompts; expected one")
    _refuse_two(read, "same", "split", "stands in {} splits; expected one: set it with --split")
    dirt.add("prompt_white_space", WHERE, read["conversation"].n_unique() - read["same"].n_unique())
    several = read.drop_nulls("reference").group_by("same").agg(pl.col("reference").n_unique())
    dirt.add("reference_differs", WHERE, several.filter(pl.col("reference") > 1).height)
    order = ["same", "conversation", "reference", *(c for c in read.columns if c.startswith("meta.")), "key"]
    first = read.sort(order, nulls_last=True).unique("same", keep="first", maintain_order=True)
    special_left(first, "conversation", WHERE, dirt)
    first = first.with_columns(messages=pl.Series([json.loads(text) for text in first["conversation"]]))
    first = first.with_columns(
        prompt_id=pl.Series([prompt_id(m.to_list()) for m in first["messages"]], dtype=pl.String)
    )
    keys = read.select("key", "same", "split").unique().join(first.select("same", "prompt_id"), on="same").drop("same")
    return _rows(first, mapping), keys


def _plain(conversation: str) -> str:
    squeezed = [message(one["role"], " ".join(one["content"].split())) for one in json.loads(conversation)]
    return dumped(squeezed)


def _refuse_two(read: pl.DataFrame, of: str, what: str, told: str) -> None:
    twice = read.group_by(of).agg(pl.col(what).n_unique().alias("count"), first=pl.col("key").min())
    twice = twice.filter(pl.col("count") > 1)
    if twice.height:
        key, count = twice.sort("first").select("first", "count").row(0)
        raise TsrError(f"{WHERE}: {readable(key)!r} {told.format(count)}; {twice.height} are like that")


def _rows(first: pl.DataFrame, mapping: Mapping) -> pl.DataFrame:
    metas = [c for c in first.columns if c.startswith("meta.")]
    told = (
        [
            json.dumps(
                {n.removeprefix("meta."): v for n, v in row.items() if v is not None},
                ensure_ascii=False,
                sort_keys=True,
            )
            for row in first.select(metas).iter_rows(named=True)
        ]
        if metas
        else ["{}"] * first.height
    )
    return first.select(
        "prompt_id",
        "split",
        source=pl.lit(mapping.source),
        messages=pl.col("messages"),
        reference=pl.col("reference"),
        meta=pl.Series(told, dtype=pl.String),
    )
