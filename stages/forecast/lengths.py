"""How long texts are, in tokens: measured on this run's tables where there are any, else assumed."""

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from stages import metrics, models, paths, tables
from stages.asking import load_ask
from stages.errors import TsrError
from stages.forecast.assumed import Assumed
from stages.lockfile import Ran
from stages.params import MadeBase, Profile


@dataclass
class Length:
    """A mean, and whether it was `measured` or `assumed`."""

    value: float
    origin: str


@dataclass
class Lengths:
    """Mean tokens of prompts, responses, judge's questions and replies, and of examples; pairs to a prompt.

    `question` is what a judge reads beside prompt and response: the rubric. `pair` is both sides of a pair with
    their prompts. `yields` are by strategy, where a pairs table of it was made.
    """

    prompt: Length
    response: Length
    question: Length
    reply: Length
    pair: Length
    ift: Length
    eft: Length
    yields: dict[str, float] = field(default_factory=dict)

    def told(self) -> dict[str, dict[str, float | str]]:
        """Return name -> value and origin, for the output."""
        listed = {name: one for name, one in vars(self).items() if isinstance(one, Length)}
        return {name: {"value": one.value, "origin": one.origin} for name, one in listed.items()}


def longest_prompt(profile: Profile) -> int:
    """Return the tokens that a prompt has at most; without a limit, in what is not too long to be trained on.

    Raises TsrError where nothing sets a limit.
    """
    limit = int(getattr(profile.prepare, "max_prompt_tokens", 0))
    if not limit and isinstance(profile.base, MadeBase):
        return profile.base.context
    limit = limit or max(profile.sft.max_tokens, profile.dpo.max_tokens) - profile.generate.max_new_tokens
    if limit <= 0:
        raise TsrError("params.yaml: prepare.max_prompt_tokens: is 0, and no max_tokens bounds a prompt; expected one")
    return limit


def of(profile: Profile, recorded: dict[str, Ran], assumed: Assumed) -> Lengths:
    """Return the lengths of a profile; `recorded` are the stages whose tables are of it."""
    generations = _outs(recorded, "generate")
    judgments = _outs(recorded, "judge")
    prompt = _mean(generations, "prompt_tokens") or _take(assumed, "prompt_share", longest_prompt(profile))
    response = _mean(generations, "response_tokens") or _take(
        assumed, "response_share", profile.generate.max_new_tokens
    )
    asked = _mean(judgments, "prompt_tokens")
    own = max(asked.value - prompt.value - response.value, 0.0) if asked else rubric_tokens(profile, assumed)
    question = Length(own, asked.origin if asked else "assumed")
    if profile.judge.way == "one_token":
        reply = Length(1.0, "by definition")
    else:
        reply = _mean(judgments, "response_tokens") or _take(assumed, "reply_share", profile.judge.max_new_tokens)
    pair, yields = _pairs(recorded)
    judged = question.value + prompt.value + response.value + reply.value
    return Lengths(
        prompt=prompt,
        response=response,
        question=question,
        reply=reply,
        pair=pair or Length(2 * (prompt.value + response.value), prompt.origin),
        ift=_examples(recorded, "prepare", paths.prompts("ift"), prompt)
        or Length(prompt.value + response.value, prompt.origin),
        eft=_examples(recorded, "eft", paths.eft(), prompt) or Length(judged, prompt.origin),
        yields=yields,
    )


def _outs(recorded: dict[str, Ran], stage: str) -> list[Path]:
    """Return the tables that are there, of stages of a kind that ran for this profile."""
    ran = [one for name, one in recorded.items() if name.partition("@")[0] == stage]
    return [out.path for one in ran for out in one.outs if out.path.suffix == ".parquet" and out.path.is_file()]


def _mean(files: list[Path], column: str) -> Length | None:
    if not files:
        return None
    value = pl.scan_parquet(files).filter(status="ok").select(pl.col(column).mean()).collect().item()
    return None if value is None else Length(float(value), "measured")


def _take(assumed: Assumed, name: str, of_what: int) -> Length:
    return Length(assumed[name] * of_what, "assumed")


def rubric_tokens(profile: Profile, assumed: Assumed) -> float:
    """Return the tokens of a rubric's own words."""
    ask = load_ask(profile.judge.rubric)
    asking = ask.one_token_prompt if profile.judge.way == "one_token" else ask.judge_prompt
    nothing = [{"role": "user", "content": ""}]
    return sum(len(message["content"]) for message in asking(nothing, "")) / assumed["characters_a_token"]


def _pairs(recorded: dict[str, Ran]) -> tuple[Length | None, dict[str, float]]:
    """Return the mean tokens of a pair, and the yields, from the metrics of the rounds that were measured."""
    tokens = pairs = 0.0
    kept: dict[str, list[float]] = {}
    for name, one in recorded.items():
        stage, _, key = name.partition("@")
        file = paths.measures_json(key) if stage == "measure" else None
        if file is None or not (file.is_file() and paths.pairs(key).is_file()):
            continue
        told = models.read_json(file)
        epochs = next(value for param, value in one.params.items() if param.endswith(".dpo.epochs"))
        of_pairs = told["tokens_trained"] - told.get("tokens_replayed", 0)
        tokens, pairs = tokens + of_pairs / epochs, pairs + told["pairs"]
        strategy = tables.head("pairs", paths.pairs(key), ["strategy"])["strategy"].item()
        kept.setdefault(strategy, []).append(told["yield"])
    yields = {strategy: sum(found) / len(found) for strategy, found in sorted(kept.items())}
    return (Length(tokens / pairs, "measured") if pairs else None), metrics.rounded(yields)


def _examples(recorded: dict[str, Ran], stage: str, path: Path, prompt: Length) -> Length | None:
    """Return the mean tokens of a table of examples, its first thousand read with the base model's tokenizer.

    What the chat template adds is what it added to the prompts of the first split, and one token for the end.
    """
    first = paths.prompts("r0")
    vocabulary = paths.model("base") / "tokenizer.json"
    if not {"prepare", "base", stage} <= recorded.keys() or not (path.is_file() and first.is_file()):
        return None
    rows = tables.head("prompts", path, ["messages", "reference"], 1000).drop_nulls()
    if not rows.height or not vocabulary.is_file() or prompt.origin != "measured":
        return None
    texts = ["".join(m["content"] for m in asked) + answer for asked, answer in rows.iter_rows()]
    prompts = tables.head("prompts", first, ["messages"], 1000)["messages"]
    added = prompt.value - _mean_tokens(vocabulary, ["".join(m["content"] for m in asked) for asked in prompts])
    return Length(_mean_tokens(vocabulary, texts) + added + 1, "measured")


def _mean_tokens(vocabulary: Path, texts: list[str]) -> float:
    from tokenizers import Tokenizer

    read = Tokenizer.from_file(str(vocabulary)).encode_batch(texts, add_special_tokens=False)
    return sum(len(one.ids) for one in read) / len(texts)
