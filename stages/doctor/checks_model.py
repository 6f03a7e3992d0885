"""Checks of the base model: where it comes from, its tokenizer and chat template, its context."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from stages import given_base, models, paths
from stages.asking import load_ask
from stages.doctor.base_model import context_of
from stages.doctor.facts import Facts
from stages.doctor.finding import Finding, fails, fine, gib, note
from stages.params import GivenBase
from stages.parsing import load_rubric
from stages.plan import BASE, FIRST, SELF
from stages.rubrics.fencing import let_through
from stages.sqlrun import complaint, connect

_TURNS = [
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "Three?"},
]
_SYSTEM = [{"role": "system", "content": "Be brief."}]
_UNFENCED = {"micro"}  # rubrics that need no fence


def base_model(facts: Facts) -> Iterator[Finding]:
    """Can the base model be had, and is it one that transformers knows, as safetensors?"""
    base, where = facts.base, facts.key("base_model")
    if facts.made:
        yield fine(where, "is made here, from nothing")
        return
    for problem in base.problems:
        yield fails(where, problem.removeprefix("params.yaml: base_model: "))
    if base.answer and base.answer.problem:
        yield fails(where, f"{facts.block.base_model} {base.answer.problem}", base.answer.expected)
        return
    if base.answer and not base.answer.bytes:
        yield fails(where, f"{facts.block.base_model} has no safetensors on the hub", "weights as safetensors")
    elif base.answer:
        told = f"can be had from the hub: {gib(base.answer.bytes)} to download"
        yield fine(where, f"{told}; template and context can be checked when it is here")
    if isinstance(facts.block.base, GivenBase) and facts.block.base.trust_remote_code and "auto_map" in base.config:
        yield note(where, "code that came with the model will run here: base.trust_remote_code is true")
    if base.folder and not base.problems and base.weights:
        kind = "of its own code" if facts.block.base.trust_remote_code else "as safetensors"  # type: ignore[union-attr]
        place = base.folder if given_base.is_folder(facts.block.base_model) else "in the cache"
        yield fine(where, f"{place}: {base.weights.parameters:,} parameters, {gib(base.weights.bytes)} {kind}")


def template(facts: Facts) -> Iterator[Finding]:
    """Which chat template is it, and can it take what prompts hold?"""
    base, settings = facts.base, facts.block.base
    if base.tokenizer is None or not isinstance(settings, GivenBase):
        return
    where = facts.key("base.chat_template")
    if settings.chat_template:
        yield fine(where, f"{settings.chat_template} takes the place of the tokenizer's own")
    elif base.had_template:
        yield fine(where, "the tokenizer's own")
    else:
        plain = given_base.DEFAULT_TEMPLATE.name
        yield note(where, f"the tokenizer has none: stages/templates/{plain} is used", "a file, for another one")
    if not base.had_pad:
        pad, end = base.tokenizer.pad_token, base.tokenizer.eos_token
        same = ", which is its end token too" if pad == end else ""
        yield note(facts.key("base_model"), f"the tokenizer has no pad token: {pad} is used{same}")
    yield from _left_out(facts, settings)
    if (told := _refusal(base.tokenizer, _TURNS)) is not None:
        yield fails(where, f"refuses a second question: {told}", "a template that takes one, or prepare.turns 1")
    if (told := _refusal(base.tokenizer, _SYSTEM + _TURNS[:1])) is not None:
        what = f"refuses a system message: {told}: prompts with one stop the stage prepare"
        say = fails if getattr(facts.block.prepare, "files", []) else note
        yield say(where, what, "a template that takes one, or files without them")


def _left_out(facts: Facts, settings: GivenBase) -> Iterator[Finding]:
    """Note roles and end tokens that a template drops, and values that it does not read."""
    known: Any = facts.base.tokenizer
    where = facts.key("base.chat_template")
    asked, answered = (_text(known, [{"role": role, "content": "One?"}]) for role in ("user", "assistant"))
    if asked is not None and asked == answered:
        told = "drops roles: what a user and what an assistant says look alike"
        yield note(where, told, "a template that marks who speaks")
    whole = _text(known, _TURNS[:2])
    after = whole.rpartition(_TURNS[1]["content"])[2] if whole is not None else known.eos_token
    if not any(end in after for end in _ends(facts)):
        told = f"puts no end token ({known.eos_token}) after an answer: M0 would learn answers without an end"
        yield note(where, told, "a template that ends what the assistant says")
    text = known.chat_template.replace(given_base.values(settings), "")
    for name in settings.template_values:
        if not re.search(rf"\b{re.escape(name)}\b", text):
            yield note(facts.key(f"base.template_values.{name}"), "the chat template does not read it")


def _text(tokenizer: Any, messages: list[dict[str, str]]) -> str | None:
    """Return a conversation as a template writes it; None for one that it refuses."""
    import jinja2

    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False))
    except (jinja2.TemplateError, ValueError):
        return None


def _ends(facts: Facts) -> list[str]:
    """Return the end tokens of the base model: its tokenizer's, and those that its generation_config.json adds."""
    known: Any = facts.base.tokenizer
    file = facts.base.folder / "generation_config.json" if facts.base.folder else None
    said = models.read_json(file).get("eos_token_id") if file and file.is_file() else None
    more = said if isinstance(said, list) else [said]
    return [known.eos_token, *known.convert_ids_to_tokens([one for one in more if isinstance(one, int)])]


def _refusal(tokenizer: Any, messages: list[dict[str, str]]) -> str | None:
    """Return what a template says against a conversation, or leaves out of it; None where it takes all."""
    import jinja2

    try:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except (jinja2.TemplateError, ValueError) as error:
        return " ".join(str(error).split())[:200]
    lost = [one["role"] for one in messages if one["content"] not in text]
    return f"the {lost[0]}'s words are left out" if lost else None


def parser(facts: Facts) -> Iterator[Finding]:
    """Can replies be read? They are all there by the time the stage score says that they cannot."""
    import duckdb

    where = f"stages/rubrics/{facts.block.judge.rubric}/parse.sql"
    with connect() as db:
        load_rubric(db, facts.block.judge.rubric)
        try:
            db.sql("select parse(''), low(), high()").fetchall()
        except duckdb.Error as error:
            yield fails(where, complaint(error).removeprefix(": "), "the macros parse(raw), low() and high()")
        else:
            yield fine(where, "has what is needed to read replies")


def control_tokens(facts: Facts) -> Iterator[Finding]:
    """Would a control token in a judged response stay whole in what the judge reads?"""
    if facts.base.tokenizer is None or facts.block.judge.rubric in _UNFENCED:
        return
    known = facts.base.tokenizer
    added = {one.content for one in known.added_tokens_decoder.values() if one.special}
    special = added | set(known.all_special_tokens)
    whole = let_through(sorted(special))
    where = "stages/rubrics/fencing.py"
    if whole:
        told = ", ".join(map(repr, whole[:5])) + (f" and {len(whole) - 5} more" if len(whole) > 5 else "")
        yield note(where, f"a response could hold these control tokens unbroken: {told}", "them among its patterns")
    else:
        yield fine(where, f"breaks up all {len(special)} control tokens of the tokenizer")


def score_tokens(facts: Facts) -> Iterator[Finding]:
    """Is each score that is read from the distribution one token?"""
    judge, ask = facts.block.judge, load_ask(facts.block.judge.rubric)
    if facts.base.tokenizer is None or judge.backend == "openai" or facts.params.judge not in (SELF, FIRST):
        return
    if not ask.SCORES or not (judge.distribution or judge.way == "one_token"):
        return
    split = [score for score in ask.SCORES if len(facts.base.tokenizer.encode(score, add_special_tokens=False)) != 1]
    if split:
        told = f"score {split[0]!r} is more than one token of this tokenizer"
        yield fails(facts.key("judge.distribution"), told, "false, and judge.way votes")
    else:
        yield fine(facts.key("judge.distribution"), f"each of {len(ask.SCORES)} scores is one token")


def context(facts: Facts) -> Iterator[Finding]:
    """Do the longest prompt and its answer fit, and do they fit into a judge prompt with its reply?"""
    block = facts.block
    if facts.base.tokenizer is None:
        return
    answer, _ = lengths(facts)
    if not answer:
        told = "is 0: prompts may have any length, and those that do not fit fail"
        yield note(facts.key("prepare.max_prompt_tokens"), told)
        return
    for one in asked_rooms(facts):
        limit, own = one.limit, one.own
        if limit and own and limit > own:
            told = f"{limit}, and the model's context is {own}"
            yield fails(facts.key("backends.vllm.max_model_len"), told, "at most that")
        where, need = facts.key(f"{one.role}.max_new_tokens"), f"{one.what} take up to {one.most} tokens"
        if not one.room:
            yield note(where, f"the {one.role}'s context is not known here; {need}")
        elif one.most > one.room:
            yield fails(where, f"{need}; the context is {one.room}", f"less in {SHORTER}")
        else:
            yield fine(where, f"{need} of {one.room}")
    base_room = facts.base.context
    longest = answer if not facts.made else 0
    if 0 < block.dpo.max_tokens < longest:
        told = f"{block.dpo.max_tokens}: longer pairs, of up to {longest} tokens, are left out and counted"
        yield note(facts.key("dpo.max_tokens"), told)
    for stage, limit in (("sft", block.sft.max_tokens), ("dpo", block.dpo.max_tokens)):
        if base_room and limit > base_room:
            yield note(facts.key(f"{stage}.max_tokens"), f"{limit}: longer than the model's context of {base_room}")


SHORTER = "prepare.max_prompt_tokens, generate.max_new_tokens or judge.max_new_tokens"


@dataclass(frozen=True)
class Room:
    """Tokens that a row of `generate` or `judge` takes, at least and at most, and the positions that it has.

    `limit` is that of the engine, `own` that of the model; 0 where there is none, or it is not known.
    """

    role: str
    what: str
    least: int
    most: int
    limit: int
    own: int

    @property
    def room(self) -> int:
        """Return the positions; 0 where they are not known."""
        return min(filter(None, (self.limit, self.own)), default=0)


def asked_rooms(facts: Facts) -> list[Room]:
    """Return what answers and judgments take, and have."""
    block = facts.block
    (answer, judged), (least_answer, least_judged) = lengths(facts), least_lengths(facts)
    judge_room = facts.base.context if facts.params.judge in (SELF, FIRST) else _judges_context(facts)
    found = []
    for role, what, least, most, own in (
        ("generate", "prompt and answer", least_answer, answer, facts.base.context),
        ("judge", "rubric, prompt, response and reply", least_judged, judged, judge_room),
    ):
        backend = block.engine_name(getattr(block, role).backend)
        limit = block.backends["vllm"].max_model_len if backend == "vllm" else 0
        found.append(Room(role, what, least, most, limit, own))
    return found


def least_lengths(facts: Facts) -> tuple[int, int]:
    """Return the tokens of an empty prompt with its answer, and of a judge prompt on nothing with its reply."""
    block, tokenizer = facts.block, facts.base.tokenizer
    empty = [{"role": "user", "content": ""}]
    asking, reply = _judging(facts)
    return _tokens(tokenizer, empty) + block.generate.max_new_tokens, _tokens(tokenizer, asking(empty, "")) + reply


def _judging(facts: Facts) -> tuple[Callable[[Any, str], Any], int]:
    """Return how a judge is asked, and the tokens of its reply."""
    ask, judge = load_ask(facts.block.judge.rubric), facts.block.judge
    return (ask.one_token_prompt, 1) if judge.way == "one_token" else (ask.judge_prompt, judge.max_new_tokens)


def lengths(facts: Facts) -> tuple[int, int]:
    """Return the tokens that an answer with its prompt, and a judge prompt with its reply, take at most.

    0 where prompts have no limit. A text's tokens in a judge prompt are taken to be as many as alone.
    """
    block, tokenizer = facts.block, facts.base.tokenizer
    new = block.generate.max_new_tokens
    asking, reply = _judging(facts)
    if block.prepare.source == "micro_world":
        from stages.sources.micro_world import OPERATIONS, WORD_LENGTH

        said = [{"role": "user", "content": f"{next(iter(OPERATIONS))} {'a' * WORD_LENGTH}"}]
        return _tokens(tokenizer, said) + new, _tokens(tokenizer, asking(said, "a" * new)) + reply
    limit = block.prepare.max_prompt_tokens
    return (limit + new, least_lengths(facts)[1] + limit + new) if limit else (0, 0)


def _tokens(tokenizer: Any, messages: list[dict[str, str]]) -> int:
    goes_on = messages[-1]["role"] == "assistant"
    how = {"add_generation_prompt": not goes_on, "continue_final_message": goes_on}
    return len(tokenizer.apply_chat_template(messages, return_dict=True, **how)["input_ids"])


def _judges_context(facts: Facts) -> int:
    """Return the context of a judge in data/models; 0 where it runs elsewhere."""
    folder = paths.model(facts.params.judge)
    if models.endpoint(folder) or not (folder / "config.json").is_file():
        return 0
    return context_of(models.read_json(folder / "config.json"))


def judges(facts: Facts) -> Iterator[Finding]:
    """Are judge and teacher, where they are folders of the user's, models that the engine can ask?"""
    asked = {"judge": facts.params.judge, "teacher": facts.params.teacher}
    if not getattr(facts.block.prepare, "eft_prompts", 0):
        asked.pop("teacher")
    for role, name in asked.items():
        folder = paths.model(name) if name not in (SELF, FIRST, BASE) else None
        if folder is None or not folder.is_dir():  # the plan's check says so
            continue
        said = models.endpoint(folder)
        if said and facts.block.judge.backend != "openai":
            told = f"{folder} has no weights, only {models.ENDPOINT}, and judge.backend is {facts.block.judge.backend}"
            yield fails(f"params.yaml: {role}", told, "judge.backend openai")
            continue
        if not said:
            models.template_hash(folder)
        yield fine(f"params.yaml: {role}", f"{folder} {'runs elsewhere' if said else 'is a model folder'}")
