"""What the judges are asked: in this project's own words, or by the published prompts from the user's file.

The verdicts are the published ones either way: `[[A>>B]]` to `[[B>>A]]`, and `[[N]]` from 1 to 10. Own prompts fence
what is judged; published ones are used as they are, since figures compare only then.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stages.backends import Messages
from stages.chat_bench.questions import Question
from stages.errors import TsrError
from stages.ids import content_id, file_sha256
from stages.rubrics import fencing
from stages.rubrics.fencing import FENCES, fenced

_ARENA = """\
You compare how two chat assistants, A and B, answered the same request. Work out first how you would answer it \
yourself. Then hold both answers against that: name what is wrong in either, and say which one does more of what was \
asked, more to the point. Length, order and layout earn nothing.

End with your verdict, one of these five and no other label in double brackets:
A is clearly better: [[A>>B]]
A is a little better: [[A>B]]
Both are about as good: [[A=B]]
B is a little better: [[B>A]]
B is clearly better: [[B>>A]]
"""
_MT = """\
You grade how a chat assistant answered the user's {which} message: is it right, does it do what was asked, is it as \
deep and as clear as the request calls for? Where reference answers are given, find and name what differs from them. \
Give your reasons in a few sentences, then end with the grade, a number from 1 to 10 in double brackets, such as: [[5]]
"""
_SINGLE = ("single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn")


@dataclass(frozen=True)
class Prompts:
    """The prompts of a benchmark: `published` by name, empty for this project's own; `version` is their hash."""

    version: str
    published: dict[str, tuple[str, str]]  # name -> (system prompt, template)


def own() -> Prompts:
    """Return this project's prompts."""
    return Prompts(content_id("prompts", *(file_sha256(Path(file)) for file in (__file__, fencing.__file__))), {})


def published_arena(path: Path) -> Prompts:
    """Return Arena-Hard's judge prompt from a YAML file with `system_prompt` and `prompt_template`.

    The template names {question_1}, {answer_1}, {answer_2} as in 0.1, or {QUESTION}, {ANSWER_A}, {ANSWER_B} as in 2.0.
    """
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        template = told["prompt_template"]
        text = template if isinstance(template, str) else template[0]
        system = told["system_prompt"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, IndexError, TypeError):
        raise TsrError(f"{path}: expected a YAML file with system_prompt and prompt_template") from None
    _check_named(path, "prompt_template", text, [("question_1", "QUESTION")])
    _check_named(path, "prompt_template", text, [("answer_1", "ANSWER_A"), ("answer_2", "ANSWER_B")])
    return Prompts(file_sha256(path)[:16], {"arena": (str(system), text)})


def published_mt(path: Path) -> Prompts:
    """Return MT-Bench's judge prompts from its JSONL file: those named single-..., with system_prompt and template."""
    found = {}
    try:
        for line in path.read_text(encoding="utf-8").split("\n"):
            if line.strip():
                told = json.loads(line)
                found[told["name"]] = (told["system_prompt"], told["prompt_template"])
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
        raise TsrError(f"{path}: expected JSON lines with name, system_prompt and prompt_template") from None
    for name in _SINGLE:
        if name not in found:
            raise TsrError(f"{path}: no prompt named {name}; expected {', '.join(_SINGLE)}")
        turns = (
            ("question_1", "answer_1", "question_2", "answer_2") if name.endswith("turn") else ("question", "answer")
        )
        _check_named(path, name, found[name][1], [(key,) for key in turns])
    return Prompts(file_sha256(path)[:16], {name: found[name] for name in _SINGLE})


def arena(prompts: Prompts, question: str, first: str, second: str) -> Messages:
    """Return what asks for a verdict on two answers."""
    if "arena" in prompts.published:
        system, template = prompts.published["arena"]
        names = {"question_1": question, "answer_1": first, "answer_2": second}
        return _messages(
            system, _filled(template, names | {"QUESTION": question, "ANSWER_A": first, "ANSWER_B": second})
        )
    texts = [_shown("request", question), _shown("answer A", first), _shown("answer B", second)]
    return [{"role": "user", "content": "\n".join([_ARENA, FENCES, *texts])}]


def mt(prompts: Prompts, question: Question, answers: list[str]) -> Messages:
    """Return what asks for a grade of the last of one or two answers."""
    second = len(answers) == 2
    if prompts.published:
        name = f"single-{'math-' if question.references else ''}v1{'-multi-turn' if second else ''}"
        values = {"question": question.turns[0], "answer": answers[0]}
        for number, (asked, told) in enumerate(zip(question.turns, answers, strict=False), start=1):
            values |= {f"question_{number}": asked, f"answer_{number}": told}
        for number, reference in enumerate(question.references or [], start=1):
            values[f"ref_answer_{number}"] = reference
        system, template = prompts.published[name]
        return _messages(system, _filled(template, values))
    texts = []
    for number, told in enumerate(answers):
        texts.append(_shown("user", question.turns[number]))
        if question.references:
            texts.append(_shown("reference answer", question.references[number]))
        texts.append(_shown("assistant", told))
    head = _MT.format(which="second" if second else "first")
    return [{"role": "user", "content": "\n".join([head, FENCES, *texts])}]


def _messages(system: str, text: str) -> Messages:
    told = [{"role": "system", "content": system}] if system else []
    return [*told, {"role": "user", "content": text}]


def _filled(template: str, values: dict[str, str]) -> str:
    """Return a template with its {names} replaced in one pass: what stands in an answer is not replaced again."""
    return re.sub(r"\{(\w+)\}", lambda name: values.get(name.group(1), name.group()), template)


def _check_named(path: Path, where: str, template: Any, wanted: list[tuple[str, ...]]) -> None:
    """Raise TsrError unless the template names one of each tuple's names."""
    for names in wanted:
        if not isinstance(template, str) or not any(f"{{{name}}}" in template for name in names):
            raise TsrError(f"{path}: {where}: expected {' or '.join(f'{{{name}}}' for name in names)} in the template")


def _shown(label: str, text: str) -> str:
    """Return a text between its fences, without anything that looks like a verdict."""
    return fenced(label, text.replace("[[", r"[\["))
