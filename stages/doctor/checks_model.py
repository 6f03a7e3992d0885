"""Checks of the base model: where it comes from, its tokenizer and chat template, its context."""

from collections.abc import Iterator
from typing import Any

from stages import given_base, models, paths
from stages.asking import load_ask
from stages.doctor.base_model import context_of
from stages.doctor.facts import Facts
from stages.doctor.finding import Finding, fails, fine, gib, note
from stages.params import GivenBase
from stages.plan import BASE, FIRST, SELF
from stages.rubrics.fencing import let_through

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
    if base.config:
        yield from _architecture(where, base.config, facts.block.base)
    if base.folder and not base.problems and base.weights:
        kind = "of its own code" if facts.block.base.trust_remote_code else "as safetensors"  # type: ignore[union-attr]
        place = base.folder if given_base.is_folder(facts.block.base_model) else "in the cache"
        yield fine(where, f"{place}: {base.weights.parameters:,} parameters, {gib(base.weights.bytes)} {kind}")


def _architecture(where: str, config: dict[str, Any], settings: Any) -> Iterator[Finding]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    own_code = isinstance(settings, GivenBase) and settings.trust_remote_code and "auto_map" in config
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not own_code:
        told = f"config.json: model_type {kind!r} is no language model that the installed transformers knows"
        yield fails(where, told, "another model, or a newer transformers")
    if own_code:
        yield note(where, "code that came with the model will run here: base.trust_remote_code is true")


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
    if (told := _refusal(base.tokenizer, _TURNS)) is not None:
        yield fails(where, f"refuses a second question: {told}", "a template that takes one, or prepare.turns 1")
    if (told := _refusal(base.tokenizer, _SYSTEM + _TURNS[:1])) is not None:
        what = f"refuses a system message: {told}: prompts with one stop the stage prepare"
        say = fails if getattr(facts.block.prepare, "files", []) else note
        yield say(where, what, "a template that takes one, or files without them")


def _refusal(tokenizer: Any, messages: list[dict[str, str]]) -> str | None:
    """Return what a template says against a conversation, or leaves out of it; None where it takes all."""
    import jinja2

    try:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except (jinja2.TemplateError, ValueError) as error:
        return " ".join(str(error).split())[:200]
    lost = [one["role"] for one in messages if one["content"] not in text]
    return f"the {lost[0]}'s words are left out" if lost else None


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
    tokenizer, block = facts.base.tokenizer, facts.block
    if tokenizer is None:
        return
    answer, judged = lengths(facts)
    if not answer:
        told = "is 0: prompts may have any length, and those that do not fit fail"
        yield note(facts.key("prepare.max_prompt_tokens"), told)
        return
    base_room = facts.base.context
    rooms = [("generate", answer, base_room, "prompt and answer")]
    judge_room = base_room if facts.params.judge in (SELF, FIRST) else _judges_context(facts)
    rooms.append(("judge", judged, judge_room, "rubric, prompt, response and reply"))
    for role, need, own, what in rooms:
        backend = block.engine_name(getattr(block, role).backend)
        limit = block.backends["vllm"].max_model_len if backend == "vllm" else 0
        if limit and own and limit > own:
            told = f"{limit}, and the model's context is {own}"
            yield fails(facts.key("backends.vllm.max_model_len"), told, "at most that")
        room = min(filter(None, (limit, own)), default=0)
        where = facts.key(f"{role}.max_new_tokens")
        if not room:
            yield note(where, f"the {role}'s context is not known here; {what} take up to {need} tokens")
        elif need > room:
            keys = "prepare.max_prompt_tokens, generate.max_new_tokens or judge.max_new_tokens"
            yield fails(where, f"{what} take up to {need} tokens; the context is {room}", f"less in {keys}")
        else:
            yield fine(where, f"{what} take up to {need} tokens of {room}")
    longest = answer if not facts.made else 0
    if 0 < block.dpo.max_tokens < longest:
        told = f"{block.dpo.max_tokens}: longer pairs, of up to {longest} tokens, are left out and counted"
        yield note(facts.key("dpo.max_tokens"), told)
    for stage, limit in (("sft", block.sft.max_tokens), ("dpo", block.dpo.max_tokens)):
        if base_room and limit > base_room:
            yield note(facts.key(f"{stage}.max_tokens"), f"{limit}: longer than the model's context of {base_room}")


def lengths(facts: Facts) -> tuple[int, int]:
    """Return the tokens that an answer with its prompt, and a judge prompt with its reply, take at most.

    0 where prompts have no limit. A text's tokens in a judge prompt are taken to be as many as alone.
    """
    block, tokenizer = facts.block, facts.base.tokenizer
    ask, new = load_ask(block.judge.rubric), block.generate.max_new_tokens
    asking = ask.one_token_prompt if block.judge.way == "one_token" else ask.judge_prompt
    reply = 1 if block.judge.way == "one_token" else block.judge.max_new_tokens
    if block.prepare.source == "micro_world":
        from stages.sources.micro_world import OPERATIONS, WORD_LENGTH

        said = [{"role": "user", "content": f"{next(iter(OPERATIONS))} {'a' * WORD_LENGTH}"}]
        return _tokens(tokenizer, said) + new, _tokens(tokenizer, asking(said, "a" * new)) + reply
    limit = block.prepare.max_prompt_tokens
    if not limit:
        return 0, 0
    empty = [{"role": "user", "content": ""}]
    return limit + new, _tokens(tokenizer, asking(empty, "")) + limit + new + reply


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
