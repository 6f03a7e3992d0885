"""params.yaml as typed, checked values: a missing, unknown or ill-typed key is one clear line.

`load()` reads the file; `load().block` is the block of the profile in force.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from stages.asking import load_ask, rubrics
from stages.backends import backends, load_module
from stages.block import Block, Count, NotNegative, Positive, Share, Whole
from stages.eft import Eft
from stages.errors import USER_IN_URL, TsrError, secret_in_url
from stages.paths import LONGEST, checked
from stages.sources import chat_data, micro_prompts
from stages.strategies import found
from stages.yamlfile import read_yaml

PARAMS_FILE = Path("params.yaml")
PAIR_VALUES = ("model", "strategy", "min_gap", "n_roles")  # bound in every strategy


class OwnArm(Block):
    """An arm of the user's: his strategy in place of the paper's, over the sides that he names."""

    rounds: Count
    strategy: str  # a name in stages/sql/strategies, or a path that ends in .sql
    past: bool | Literal["previous"]  # M0 answers too, as the anchor; previous: the model version before this one
    future: bool  # a future model is trained first and answers too; the strategy makes the pairs after it
    second_judge: str = "self"  # whose scores stand beside the judge's, as `second_score`; self: none but the judge's
    policy: Literal["current", "future"] = "current"  # which of them learns from the pairs
    replay: Whole | None = None  # in place of `dpo.replay`

    @field_validator("strategy")
    @classmethod
    def _strategy_exists(cls, strategy: str) -> str:
        if strategy.endswith(".sql") and not _stays_here(strategy):
            told = "expected a file in this project, of letters, digits, dots, dashes and underscores between slashes"
            raise ValueError(f"{strategy!r}: {told}")
        try:
            found(strategy)
        except TsrError as error:
            raise ValueError(str(error)) from error
        return strategy

    @model_validator(mode="after")
    def _policy_is_there(self) -> "OwnArm":
        if self.policy == "future" and not self.future:
            raise ValueError("policy: future needs future: true, which trains it")
        return self

    @field_validator("second_judge")
    @classmethod
    def _second_is_a_name(cls, judge: str) -> str:
        return _name(judge)


_FILE = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*")


def _stays_here(file: str) -> bool:
    """Return whether a file's name can stand in a command of dvc.yaml, and leads nowhere outside the current folder."""
    short = all(len(part) <= LONGEST for part in file.split("/")) and len(file) <= 10 * LONGEST
    return short and bool(_FILE.fullmatch(file)) and Path(file).resolve().is_relative_to(Path.cwd())


def _name(text: str) -> str:
    """Return a name that can be a folder's and stand in a command of dvc.yaml. Raises ValueError for another."""
    try:
        return checked(text)
    except TsrError as error:
        raise ValueError(str(error)) from error


# Prefixes of the paper's model versions where they are not the arm's name, and names of what is no model version.
_TAKEN = {"past", "fut", "rs", "fair", "base", "world", "M0", "reference", "truth", "origin"}


class Arms(Block):
    """Rounds of each arm of the paper, and arms of the user's; an arm that is left out does not run."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, OwnArm] = Field(init=False)

    sr: Count | None = None
    tsr: Count | None = None
    past_only: Count | None = None
    future_only: Count | None = None
    sft: Literal[0] | None = None
    rejection_sampling: Count | None = None
    spin: Count | None = None
    spin_fair: Count | None = None

    @model_validator(mode="after")
    def _names_are_free(self) -> "Arms":
        taken = {name.casefold(): name for name in (*_TAKEN, *Arms.model_fields)}  # some disks know no case
        for name in self.own:
            if taken.setdefault(_name(name).casefold(), name) != name or name in _TAKEN:
                raise ValueError(f"{name!r} is taken; give the arm another name")
        return self

    @property
    def own(self) -> dict[str, OwnArm]:
        """Return the arms of the user's."""
        return self.__pydantic_extra__ or {}

    @property
    def rounds(self) -> dict[str, int]:
        """Return arm -> rounds, of the arms that run."""
        paper = {name: getattr(self, name) for name in Arms.model_fields if getattr(self, name) is not None}
        return paper | {name: arm.rounds for name, arm in self.own.items()}


SOURCES: dict[str, type[Block]] = {"micro_world": micro_prompts.Settings, "chat_data": chat_data.Settings}
Prepare = Annotated[micro_prompts.Settings | chat_data.Settings, Field(discriminator="source")]


MADE = "made"  # as `base_model`: a tiny model with random weights, of the shape that the block `base` gives


class MadeBase(Block):
    """The shape of a base model that is made here."""

    hidden_size: Count
    layers: Count
    heads: Count
    context: Count
    init_std: Positive

    @model_validator(mode="after")
    def _heads_divide(self) -> "MadeBase":
        if self.hidden_size % (2 * self.heads):
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of twice the heads, {2 * self.heads}")
        return self


class GivenBase(Block):
    """How a base model that comes from a hub or a folder is taken in."""

    trust_remote_code: bool
    chat_template: str  # a file; empty: the tokenizer's own, or the default where it has none
    template_values: dict[str, Any]  # variables that the template reads, set once and for all


class Training(Block):
    """What SFT and DPO train with: hardware, precision, adapters. Equal for both."""

    device: Literal["auto", "cpu", "cuda"]
    dtype: Literal["float32", "bfloat16"]
    adapter: Literal["none", "lora", "qlora"]
    lora_rank: Count
    lora_alpha: Count
    lora_dropout: Share
    rows_at_once: Whole
    gradient_checkpointing: bool
    attention: Literal["sdpa", "eager", "flash_attention_2"]
    save_dtype: Literal["float32", "bfloat16"]
    launch: str


class Following(Block):
    """How a training can be followed and gone on with. No result depends on it, so no stage does."""

    checkpoint_every: Whole
    log_to: Literal["none", "tensorboard", "trackio", "wandb"]


class Slots(Block):
    """What `tsr run` shares among stages that are ready. No result depends on it, so no stage does."""

    cpu: Count
    gpu: Whole


class Schedule(Block):
    """Batches and learning rate of a training; the rate falls as a cosine to a share of what it was."""

    batch_size: Count
    learning_rate: Positive
    final_share: Share
    warmup_steps: Whole
    max_grad_norm: Positive
    max_tokens: Whole


class Sft(Schedule):
    """How M0 is trained."""

    steps: Whole
    ift_share: Share
    epochs: Whole
    packing: bool

    @model_validator(mode="after")
    def _has_a_length(self) -> "Sft":
        if bool(self.steps) == bool(self.epochs):
            raise ValueError("expected either steps or epochs above 0, and the other 0")
        if self.packing and not self.max_tokens:
            raise ValueError("packing: true needs max_tokens above 0: packed rows are that long")
        return self


class Sampling(Block):
    """How responses are drawn; the part of `generate` and `judge` that a backend needs."""

    temperature: NotNegative
    top_p: Annotated[float, Field(gt=0, le=1)]
    max_new_tokens: Count


class Asking(Sampling):
    """Which engine completes requests, and which share of them may fail."""

    backend: str
    max_failed_share: Share

    @field_validator("backend")
    @classmethod
    def _backend_exists(cls, name: str) -> str:
        if name not in backends():
            raise ValueError(f"no backend {name!r}; there are: {', '.join(backends())}")
        return name


class Generate(Asking):
    """How responses are sampled."""

    samples: Count


class Judge(Asking):
    """How judgments are asked for and sampled."""

    rubric: str
    way: Literal["votes", "one_token"]
    distribution: bool
    votes: Count

    @field_validator("rubric")
    @classmethod
    def _rubric_exists(cls, rubric: str) -> str:
        if rubric not in rubrics():
            raise ValueError(f"no rubric {rubric!r}; there are: {', '.join(rubrics())}")
        return rubric

    @model_validator(mode="after")
    def _votes_differ(self) -> "Judge":
        if self.votes > 1 and self.temperature == 0:
            raise ValueError("votes above 1 need a temperature above 0, or all votes are the same")
        if self.way == "one_token":
            if self.votes > 1:
                raise ValueError("way one_token reads a distribution, which has no second vote; expected votes 1")
            if not load_ask(self.rubric).SCORES:
                raise ValueError(f"rubric {self.rubric!r} names no score tokens, so way one_token cannot read it")
        return self


class Score(Block):
    """When a distribution over the scores counts as a score."""

    least_mass: Share


class Pair(Block):
    """When two responses make a pair, and the values that strategies name as $NAME."""

    min_gap: NotNegative
    parameters: dict[str, Any]

    @field_validator("parameters")
    @classmethod
    def _values_of_free_names(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        for name, value in parameters.items():
            if not isinstance(value, bool | int | float | str):
                raise ValueError(f"{name} is {value!r}; expected a number, a text, true or false")
            if name in PAIR_VALUES or not name.isidentifier():
                raise ValueError(
                    f"{name!r} is no free name; expected one of your own other than {', '.join(PAIR_VALUES)}"
                )
        return parameters


class Dpo(Schedule):
    """How a model version learns from pairs, and from how many judging examples beside those of a step."""

    beta: Positive
    epochs: Count
    replay: Whole


class Tune(Schedule):
    """How a model version learns from the chosen side alone, in the arm rejection_sampling."""

    epochs: Count


class Measure(Block):
    """How much of a round is measured."""

    gradient_pairs: Whole


class Evaluate(Block):
    """How much a model version answers on held-out prompts."""

    samples: Count


class Profile(Block):
    """All settings of one profile, one block a stage."""

    base_model: str
    prepare: Prepare
    eft: Eft
    base: MadeBase | GivenBase
    training: Training
    following: Following
    slots: Slots
    sft: Sft
    backends: dict[str, Any]
    generate: Generate
    judge: Judge
    score: Score
    pair: Pair
    dpo: Dpo
    tune: Tune
    measure: Measure
    evaluate: Evaluate

    @field_validator("base", mode="before")
    @classmethod
    def _base_of_its_kind(cls, block: Any, info: ValidationInfo) -> Block:
        """Check the block by what `base_model` says."""
        kind = MadeBase if info.data.get("base_model") == MADE else GivenBase
        return _checked(kind, block, "base")

    @field_validator("backends")
    @classmethod
    def _settings(cls, blocks: dict[str, Any]) -> dict[str, Block]:
        """Check each block by its backend's own `Settings`."""
        if unknown := sorted(set(blocks) - set(backends())):
            raise ValueError(f"no backend {unknown[0]!r}; there are: {', '.join(backends())}")
        for name, values in blocks.items():
            _check_no_secret(name, values)
        made = {name: _checked(load_module(name).Settings, values, name) for name, values in blocks.items()}
        return {name: block.beside(made) if hasattr(block, "beside") else block for name, block in made.items()}

    @model_validator(mode="after")
    def _backends_have_settings(self) -> "Profile":
        for role, name in (("generate", self.generate.backend), ("judge", self.judge.backend)):
            if name not in self.backends:
                raise ValueError(f"{role}.backend is {name!r}, but backends has no block {name!r}")
            if (engine := self.engine_name(name)) not in self.backends:
                told = f"{role}.backend is {name!r} with the engine {engine!r}"
                raise ValueError(f"{told}, but backends has no block {engine!r}")
        return self

    def engine_name(self, backend: str) -> str:
        """Return what completes a backend's requests: the engine that the workers of `ray` hold, else itself."""
        return str(getattr(self.backends.get(backend), "engine", backend))


def _checked(kind: type[Block], values: Any, name: str) -> Block:
    """Return a block that is of `kind` for a reason that pydantic cannot know."""
    try:
        return kind(**values)
    except ValidationError as error:
        raise ValueError(f"{name}.{_first(error, list(kind.model_fields))}") from error
    except TypeError as error:
        raise ValueError(f"{name}: expected a block of settings") from error


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|")


def _check_no_secret(name: str, values: Any) -> None:
    """Raise ValueError, without showing it, for a secret in an engine's settings: DVC copies these to dvc.lock."""
    for key, value in values.items() if isinstance(values, dict) else ():
        is_url = isinstance(value, str) and (USER_IN_URL.match(value) or str(key).endswith("_url"))
        if is_url and (told := secret_in_url(value)):
            raise ValueError(f"{name}.{key}: {told}; expected the URL alone")
        if isinstance(value, str) and str(key).endswith("_env") and not _VARIABLE.fullmatch(value):
            raise ValueError(f"{name}.{key}: is no name of a variable; expected one, which holds the key")


class Params(Block):
    """The whole file. Profiles are the top-level keys beside `seed`, `profile`, `judge`, `teacher` and `arms`."""

    seed: Annotated[int, Field(ge=0)]
    profile: str
    judge: str
    teacher: str
    arms: Arms
    profiles: dict[str, Profile]

    @field_validator("judge", "teacher", "profile")
    @classmethod
    def _is_a_name(cls, judge: str) -> str:
        return _name(judge)

    @field_validator("profiles")
    @classmethod
    def _have_names(cls, profiles: dict[str, Profile]) -> dict[str, Profile]:
        for name in profiles:
            _name(name)
        return profiles

    @property
    def block(self) -> Profile:
        """Return the block of the profile in force."""
        return self.profiles[self.profile]


def load(path: Path = PARAMS_FILE, profile: str = "") -> Params:
    """Read and check params.yaml; `profile` takes the place of the one in force there.

    Raises TsrError naming the file, the key and what was expected.
    """
    raw = read_raw(path)
    return parse(raw | {"profile": profile} if profile else raw, path)


def read_raw(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Return what params.yaml says, unchecked. Raises TsrError for a file that is not there or says nothing."""
    if not path.is_file():
        raise TsrError(f"{path}: no such file; run tsr in the folder that holds params.yaml")
    raw = read_yaml(path, str(path))
    if not isinstance(raw, dict):
        raise TsrError(f"{path}: expected keys seed, profile, judge, teacher, arms and a block for each profile")
    return raw


def parse(raw: dict[str, Any], path: Path) -> Params:
    """Return checked params of what a file at `path` says. Raises TsrError as `load` does."""
    fixed = {key: raw[key] for key in ("seed", "profile", "judge", "teacher", "arms") if key in raw}
    profiles = {key: value for key, value in raw.items() if key not in fixed}
    try:
        params = Params(**fixed, profiles=profiles)
    except ValidationError as error:
        raise TsrError(f"{path}: {_first(error)}") from error
    if params.profile not in params.profiles:
        raise TsrError(f"{path}: profile: no block {params.profile!r}; there are: {', '.join(params.profiles)}")
    splits = params.block.prepare.splits
    for arm, rounds in params.arms.rounds.items():
        if rounds > splits and arm != "spin":
            needed = f"{rounds} rounds need the prompt splits r0 .. r{rounds - 1}"
            raise TsrError(f"{path}: arms.{arm}: {needed}; {params.profile}.prepare.splits is {splits}")
    return params


def _first(error: ValidationError, known: list[str] | None = None) -> str:
    """Return the first complaint as `key: what is wrong`; `known` are the keys that may stand there."""
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])  # a typo makes a missing key too
    key = ".".join(str(part) for part in _named(first["loc"]))
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return f"{key}.source: expected {' or '.join(SOURCES)}, got {first['input'].get('source')!r}{more}"
    if first["type"] == "missing":
        return f"{key}: key is missing{more}"
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key; expected {', '.join(known or _known_keys(first['loc']))}{more}"
    if first["type"] == "model_type" and first["loc"][:1] == ("arms",):
        own = ", ".join(OwnArm.model_fields)
        return (
            f"{key}: unknown arm; expected {', '.join(Arms.model_fields)}, or one of your own as a block of {own}{more}"
        )
    if first["type"] == "value_error":
        return f"{key}: {first['msg'].removeprefix('Value error, ')}{more}"
    return f"{key}: {first['msg']}, got {first['input']!r}{more}"


def _named(location: tuple[int | str, ...]) -> list[int | str]:
    """Return the keys of a place in the file: pydantic also names which source's settings it held against it."""
    return [
        part
        for before, part in zip((None, *location), location, strict=False)
        if part != "profiles" and not (before == "prepare" and part in SOURCES)
    ]


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that may stand where an unknown one does: arms.X, arms.OWN.X, PROFILE.X or PROFILE.BLOCK.X."""
    where = [part for part in location[:-1] if isinstance(part, str)]
    if where[:1] == ["arms"]:
        return list(Arms.model_fields if len(where) == 1 else OwnArm.model_fields)
    known = Profile.model_fields
    if where and where[-1] in SOURCES:
        return list(SOURCES[where[-1]].model_fields)
    if where and where[-1] in Profile.model_fields:
        known = getattr(Profile.model_fields[where[-1]].annotation, "model_fields", known)
    return list(known)
