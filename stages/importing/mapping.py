"""A mapping: which file plays which part, and where in it prompt, model, response, judge and score stand.

It is a small YAML; `mappings/` holds the ready-made ones. `load()` checks it and fills in what it leaves out.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from stages.asking import rubrics
from stages.block import Block
from stages.errors import TsrError
from stages.yamlfile import read_yaml

READY_MADE = Path(__file__).parent / "mappings"
ONLY_PART = "rows"  # the name of the part of a mapping that names none


def _text(value: Any) -> Any:
    """Return a YAML scalar as the text that a cell holding it becomes; null stays."""
    return value if value is None or isinstance(value, str | dict | list) else json.dumps(value)


def _field(value: Any) -> Any:
    return value if isinstance(value, dict | Block) else {"column": value}


def _fields(value: Any) -> Any:
    return [_field(one) for one in value] if isinstance(value, list) else [_field(value)]


def _sections(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _named(value: Any) -> Any:
    return {name: name for name in value} if isinstance(value, list) else value


def _texts(value: Any) -> Any:
    return {_text(k): _text(v) for k, v in value.items()} if isinstance(value, dict) else value


class Cell(Block):
    """Where one value of a row comes from: a column, a constant or the file's name; and how it is read."""

    column: str | None = None
    first_of: list[str] | None = None
    value: Annotated[str | None, BeforeValidator(_text)] = None
    file: Literal["stem"] | None = None
    inside: str | None = None
    otherwise: Literal["null", "text"] = "null"
    extract: str | None = None
    values: Annotated[dict[str, str | None], BeforeValidator(_texts)] = Field(default_factory=dict)
    optional: bool = False

    @model_validator(mode="after")
    def _one_origin(self) -> "Cell":
        given = [n for n in ("column", "first_of", "value", "file", "by") if getattr(self, n, None) is not None]
        if len(given) != 1:
            by = ", by" if "by" in type(self).model_fields else ""
            raise ValueError(f"expected one of column, first_of, value, file{by}; got {' and '.join(given) or 'none'}")
        return self

    @field_validator("extract")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        try:
            if pattern is not None and re.compile(pattern).groups != 1:
                raise ValueError(f"expected a pattern with one group, got {pattern!r}")
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return pattern

    def paths(self) -> list[str]:
        """Return the columns it looks into, in turn."""
        return [self.column] if self.column is not None else self.first_of or []


class ScoreCell(Cell):
    """A score: null outside low .. high, then `times * score + plus`."""

    low: float | None = None
    high: float | None = None
    times: float = 1.0
    plus: float = 0.0


class FinishCell(Cell):
    """Why a text ended: `stop` or `length`; or `by: end_marks`, stop where a mark was taken off, else length."""

    by: Literal["end_marks"] | None = None


OneCell = Annotated[Cell, BeforeValidator(_field)]
OneScore = Annotated[ScoreCell, BeforeValidator(_field)]
OneFinish = Annotated[FinishCell, BeforeValidator(_field)]
Cells = Annotated[list[Cell], BeforeValidator(_fields), Field(min_length=1)]
Meta = Annotated[dict[str, OneCell], BeforeValidator(_named)]


class Where(Block):
    """Rows to take: those with one of these values in a column."""

    column: str
    one_of: Annotated[list[str], BeforeValidator(lambda v: [_text(x) for x in v] if isinstance(v, list) else v)]


class Part(Block):
    """Files of one shape: the end of their paths, as in `model_answer/*.jsonl`, and what in them is a row."""

    files: str | None = None
    rows: str = ""
    where: list[Where] = Field(default_factory=list)


class Prompts(Block):
    """Where prompts come from: `prompt` (with `system`), `messages`, or the `turns` of a conversation."""

    part: str | None = None
    key: Cells | None = None
    prompt: OneCell | None = None
    system: OneCell | None = None
    messages: OneCell | None = None
    turns: OneCell | None = None
    reference: OneCell | None = None
    split: OneCell | None = None
    meta: Meta = Field(default_factory=dict)
    white_space: Literal["merge", "keep"] = "merge"
    without_text: Literal["leave_out", "name_by_key"] = "leave_out"

    @model_validator(mode="after")
    def _one_text(self) -> "Prompts":
        given = [name for name in ("prompt", "messages", "turns") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of prompt, messages, turns; got {' and '.join(given) or 'none'}")
        if self.system is not None and self.messages is not None:
            raise ValueError("expected system inside messages, got both")
        return self

    @property
    def text(self) -> Cell:
        """Return the cell with the prompt's text, messages or turns."""
        cell = self.prompt or self.messages or self.turns
        assert cell is not None
        return cell


class Responses(Block):
    """Where responses come from: `response`, or the `turns` of a conversation."""

    part: str | None = None
    key: Cells | None = None
    model: OneCell
    response: OneCell | None = None
    turns: OneCell | None = None
    sample: Cells | None = None
    finish_reason: OneFinish
    prompt_tokens: OneCell | None = None
    response_tokens: OneCell | None = None
    duplicates: Literal["error", "number"] = "error"

    @model_validator(mode="after")
    def _one_text(self) -> "Responses":
        if (self.response is None) == (self.turns is None):
            raise ValueError("expected one of response, turns")
        return self


class Judgments(Block):
    """Where judgments come from, and by what they name the response they are of."""

    part: str | None = None
    key: Cells | None = None
    model: OneCell | None = None
    sample: Cells | None = None
    response: OneCell | None = None
    turn: OneCell | None = None
    opponent: OneCell | None = None
    judge: OneCell
    vote: Cells | None = None
    score: OneScore | None = None
    raw: OneCell | None = None
    finish_reason: OneFinish | None = None
    rubric: str | None = None
    duplicates: Literal["error", "number", "keep"] = "error"
    orphans: Literal["leave_out", "error"] = "leave_out"

    @model_validator(mode="after")
    def _readable(self) -> "Judgments":
        if self.score is None:
            for name in ("raw", "rubric", "finish_reason"):
                if getattr(self, name) is None:
                    raise ValueError(f"without a score it is read from the reply, so {name} is needed")
        elif self.rubric is not None:
            raise ValueError("rubric is for replies without a score; expected score or rubric, got both")
        return self

    @field_validator("rubric")
    @classmethod
    def _rubric_exists(cls, rubric: str | None) -> str | None:
        if rubric is not None and rubric not in rubrics():
            raise ValueError(f"no rubric {rubric!r}; there are: {', '.join(rubrics())}")
        return rubric


class Mapping(Block):
    """The whole file."""

    about: str = ""
    source: str = ""
    parts: Annotated[dict[str, Part], Field(min_length=1)] = Field(default_factory=lambda: {ONLY_PART: Part()})
    end_marks: list[str] = Field(default_factory=list)
    prompts: Prompts
    responses: Annotated[list[Responses], BeforeValidator(_sections), Field(min_length=1)]
    judgments: Annotated[list[Judgments], BeforeValidator(_sections)] = Field(default_factory=list)

    @field_validator("end_marks")
    @classmethod
    def _not_empty(cls, marks: list[str]) -> list[str]:
        if any(not mark.strip() for mark in marks):
            raise ValueError("expected marks of at least one character that is no white space")
        return marks


def ready_made() -> dict[str, str]:
    """Return the names of the ready-made mappings, each with what it is for."""
    found = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in READY_MADE.glob("*.yaml")}
    return {name: found[name]["about"] for name in sorted(found)}


def load(mapping: str) -> tuple[Mapping, str]:
    """Return a mapping, complete and checked, and what to call it in messages.

    `mapping` is a file, or the name of a ready-made one. Raises TsrError naming file, key and what was expected.
    """
    path = Path(mapping)
    if path.suffix not in (".yaml", ".yml"):
        path = READY_MADE / f"{mapping}.yaml"
        if mapping not in ready_made():
            raise TsrError(f"no mapping {mapping!r}; expected a .yaml file or one of: {', '.join(ready_made())}")
    where = mapping
    raw = read_yaml(path, where)
    if not isinstance(raw, dict):
        raise TsrError(f"{where}: expected the keys {', '.join(Mapping.model_fields)}")
    try:
        loaded = Mapping(**raw)
    except ValidationError as error:
        raise TsrError(f"{where}: {_first(error)}") from error
    except TypeError as error:
        raise TsrError(f"{where}: expected the keys {', '.join(Mapping.model_fields)}") from error
    return _completed(loaded.model_copy(update={"source": loaded.source or path.stem}), where), where


def _completed(mapping: Mapping, where: str) -> Mapping:
    """Fill in parts and keys that follow from others, and check what no single section can."""
    prompts = _with_part(mapping.prompts, mapping, f"{where}: prompts")
    prompts = prompts.model_copy(update={"key": prompts.key or [prompts.text]})
    responses = [_with_part(r, mapping, f"{where}: responses") for r in mapping.responses]
    for i, section in enumerate(responses):
        if (section.turns is None) != (prompts.turns is None):
            raise TsrError(f"{where}: responses: turns: expected in prompts and in responses, or in neither")
        responses[i] = _with_key(section, prompts, f"{where}: responses")
        _marks_given(section.finish_reason, mapping, f"{where}: responses")
    for sections, name in ((responses, "responses"), (mapping.judgments, "judgments")):
        if len({section.duplicates for section in sections}) > 1:
            raise TsrError(f"{where}: {name}: duplicates: expected the same in all sections")
    judgments = [_with_part(j, mapping, f"{where}: judgments") for j in mapping.judgments]
    for i, section in enumerate(judgments):
        same = [r for r in responses if r.part == section.part]
        # In a table of judged responses, a judgment is of the response in its row.
        names = ("key", "model", "sample", "response") if len(same) == 1 else ()
        taken = {name: getattr(same[0], name) for name in names if getattr(section, name) is None}
        judgments[i] = _with_key(section.model_copy(update=taken), prompts, f"{where}: judgments")
        if judgments[i].model is None:
            raise TsrError(f"{where}: judgments: model: key is missing")
        if section.turn is None and prompts.turns is not None:
            raise TsrError(f"{where}: judgments: turn: key is missing; the responses have turns")
        _marks_given(section.finish_reason, mapping, f"{where}: judgments")
    return mapping.model_copy(update={"prompts": prompts, "responses": responses, "judgments": judgments})


def _marks_given(finish: FinishCell | None, mapping: Mapping, where: str) -> None:
    if finish is not None and finish.by and not mapping.end_marks:
        raise TsrError(f"{where}.finish_reason: by: end_marks needs marks in end_marks")


def _with_part(section: Any, mapping: Mapping, where: str) -> Any:
    if section.part is None and len(mapping.parts) == 1:
        return section.model_copy(update={"part": next(iter(mapping.parts))})
    if section.part not in mapping.parts:
        wrong = f"no part {section.part!r}" if section.part else "key is missing"
        raise TsrError(f"{where}: part: {wrong}; there are: {', '.join(mapping.parts)}")
    return section


def _with_key(section: Any, prompts: Prompts, where: str) -> Any:
    if section.key is None and section.part == prompts.part:
        section = section.model_copy(update={"key": prompts.key})
    assert prompts.key is not None
    if section.key is None or len(section.key) != len(prompts.key):
        raise TsrError(f"{where}: key: expected {len(prompts.key)} columns that name a prompt, as prompts.key does")
    return section


def _first(error: ValidationError) -> str:
    """Return the first complaint as `key: what is wrong`, an unknown key before all others."""
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    key = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if first["type"] == "missing":
        return f"{key}: key is missing{more}"
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key; expected {', '.join(_keys_at(first['loc'][:-1]))}{more}"
    if first["type"] == "value_error":
        return f"{key}: {first['msg'].removeprefix('Value error, ')}{more}"
    return f"{key}: {first['msg']}, got {first['input']!r}{more}"


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the block that stands at a place of the mapping."""
    block: type[Block] = Mapping
    for part in location:
        if isinstance(part, str) and part in block.model_fields:
            inner = _block_in(block.model_fields[part].annotation)
            block = inner or block
    return list(block.model_fields)


def _block_in(annotation: Any) -> type[Block] | None:
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _block_in(arg))), None)
