"""The plan: who answers, who judges, who learns. Written from params.yaml, looped over by dvc.yaml.

Work that two arms share is planned once: a model version that would learn from the same pairs as one
already planned is that one, and its own name stands under `also` (in round 0, where M_i is M0,
sr-1, past-1, tsr-f1 and fut-f1 are one model).
"""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stages import paths, strategies
from stages.asking import parser_hash, rubric_hash
from stages.errors import TsrError
from stages.files import write_text
from stages.params import Arms, Params
from stages.paths import ORACLES, ORIGIN, REFERENCE, ROLES, TRUTH
from stages.sources import VERIFIERS

PLAN_FILE = Path("stages/plan.yaml")
FIRST = "M0"
BASE = "base"
JUDGES = (".judge", ".second")  # columns that may name a model that the plan does not train, here or not
SELF = "self"  # as `judge` in params.yaml: every model version judges for its own next step
TABLES = ("answers", "judges", "oracles", "references", "learns", "contrasts", "imitates", "models", "lines")
_HEADER = "# Written by `tsr plan` from arms, judge, teacher and rubrics in params.yaml. Change those, not this.\n"
# arm -> (prefix of its model versions, uses the past, uses the future)
ARMS = {
    "sr": ("sr", False, False),
    "tsr": ("tsr", True, True),
    "past_only": ("past", True, False),
    "future_only": ("fut", False, True),
}
# The paper's arms that pair by no judge's past or future -> prefix of their model versions; `sft` is M0 and has none.
BASELINES = {"sft": "", "rejection_sampling": "rs", "spin": "spin", "spin_fair": "fair"}
PREVIOUS = "previous"  # as `past`: the model version before the current one
DPO, SFT = "dpo", "sft"  # how a model version is trained
AS_SET = -1  # as `replay`: what `dpo.replay` of the profile in force says


@dataclass(frozen=True)
class Learn:
    """One training: `policy` learns from pairs that `strategy` makes of its sides' responses to `split`.

    Its `trainer` is DPO, or SFT on the chosen side alone. `replay` judging examples stand beside the pairs of a step.
    """

    policy: str
    strategy: str
    judge: str
    split: str
    own: str
    anchor: str
    future: str
    sql: str  # file of the strategy
    second: str  # whose scores stand beside the judge's; the judge itself where no other is asked
    trainer: str = DPO
    replay: int = AS_SET


@dataclass
class Plan:
    """All rows of the plan. `lines` gives each arm's model versions in order, by the names they are kept under."""

    judge: str = SELF
    teacher: str = BASE
    rubrics: dict[str, dict[str, str]] = field(default_factory=dict)
    learns: dict[str, Learn] = field(default_factory=dict)
    also: dict[str, list[str]] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)

    def learn(self, name: str, row: Learn) -> str:
        """Add a training, or find the one that is the same; return the name it is kept under."""
        for known, other in self.learns.items():
            if other == row:
                self.also[known].append(name)
                return known
        self.learns[name] = row
        self.also[name] = []
        return name

    @property
    def models(self) -> list[str]:
        """Return every model version that is trained, in order."""
        return [FIRST, *self.learns]

    def judges(self) -> list[tuple[str, str, str]]:
        """Return (judge, model, split) rows, each once, in the order they are first needed: the teacher's first."""
        rows = [(self.teacher, paths.WORLD, "rated"), *self._rounds()]
        return [row for row in dict.fromkeys(rows) if row[0] not in ORACLES]

    def oracles(self) -> list[tuple[str, str, str]]:
        """Return the same of judges that know and are no models."""
        return [row for row in dict.fromkeys(self._rounds()) if row[0] in ORACLES]

    def references(self) -> list[str]:
        """Return the splits whose reference answers are responses, each once."""
        return list(dict.fromkeys(split for _, model, split in self._rounds() if model == REFERENCE))

    def _rounds(self) -> list[tuple[str, str, str]]:
        """Return (judge, model, split) of all rounds."""
        return [
            (judge, model, row.split)
            for row in self.learns.values()
            for judge in (row.judge, row.second)
            for model in (row.own, row.anchor, row.future)
        ]

    def answers(self) -> list[tuple[str, str]]:
        """Return (model, split) rows, each once, in the order they are first needed."""
        rows = dict.fromkeys((model, split) for _, model, split in self._rounds())
        return [row for row in rows if row[0] != REFERENCE]

    def trained_by(self, trainer: str) -> dict[str, dict[str, Any]]:
        """Return the model versions that one trainer makes, with what they start from.

        Not under the name `policy`: SQL tells the lines of `learns` by it (sql/views/files.sql).
        """
        rows = {name: row for name, row in self.learns.items() if row.trainer == trainer}
        return {
            name: {"start": row.policy} | ({"replay": row.replay} if trainer == DPO else {})
            for name, row in rows.items()
        }

    def judge_of(self, model: str) -> str:
        """Return who judges the fixed set for a model version: an oracle has nothing to learn there."""
        return model if self.judge in {SELF, *ORACLES} else self.judge

    def as_dict(self) -> dict[str, Any]:
        """Return what plan.yaml holds."""
        return {
            "answers": {f"{m}.{s}": {"model": m, "split": s} for m, s in self.answers()},
            "judges": {f"{j}.{m}.{s}": {"judge": j, "model": m, "split": s} for j, m, s in self.judges()},
            "oracles": {f"{j}.{m}.{s}": {"judge": j, "model": m, "split": s} for j, m, s in self.oracles()},
            "references": {split: {"split": split} for split in self.references()},
            "learns": {name: asdict(row) | {"also": self.also[name]} for name, row in self.learns.items()},
            "contrasts": self.trained_by(DPO),
            "imitates": self.trained_by(SFT),
            "models": {m: {"model": m, "judge": self.judge_of(m)} for m in self.models},
            "lines": self.lines,
            "rubrics": self.rubrics,
        }


def of(params: Params) -> Plan:
    """Return the plan that params.yaml asks for. Raises TsrError as `build` does."""
    rubrics = {name: block.judge.rubric for name, block in params.profiles.items()}
    if params.judge == TRUTH and (source := params.block.prepare.source) not in VERIFIERS:
        raise TsrError(f"params.yaml: judge: nobody knows the truth of {source!r}; expected {', '.join(VERIFIERS)}")
    return build(params.arms, params.judge, params.teacher, rubrics)


def build(arms: Arms, judge: str = SELF, teacher: str = BASE, rubrics: dict[str, str] | None = None) -> Plan:
    """Return the plan of the arms; each arm starts from M0.

    `judge` is `self` or one model version that judges throughout, `teacher` the one whose judgments of rated responses
    M0 learns from. Raises TsrError for one that the plan would train.
    `rubrics` are those of the profiles. Their files' hashes stand in the plan, for dvc.yaml: it cannot tell which files
    a profile's rubric has, but it can look up what stands under a profile's name.
    """
    hashes = {name: {"ask": rubric_hash(one), "parse": parser_hash(one)} for name, one in (rubrics or {}).items()}
    plan = Plan(judge, teacher, hashes)
    for arm, rounds in arms.rounds.items():
        line = [FIRST]
        for _ in range(rounds):
            line.append(_round(plan, arms, arm, line))
        plan.lines[arm] = line
    if not plan.lines:
        raise TsrError(f"params.yaml: arms: none is set; expected at least one of {', '.join(ARMS)}")
    if judge in {BASE, paths.WORLD, ORIGIN}:
        raise TsrError(f"params.yaml: judge: {judge!r} cannot judge; expected {SELF}, {FIRST} or another")
    if judge in {*plan.learns, *(name for names in plan.also.values() for name in names)}:
        raise TsrError(
            f"params.yaml: judge: {judge!r} learns from its own judgments; expected {SELF}, {FIRST} or another"
        )
    if teacher in {FIRST, paths.WORLD, *plan.learns, *(name for names in plan.also.values() for name in names)}:
        raise TsrError(f"params.yaml: teacher: {teacher!r} learns from its judgments; expected {BASE} or another")
    return plan


@dataclass(frozen=True)
class _Arm:
    """How an arm's rounds go; `strategy` is None where the paper's rule holds."""

    prefix: str
    past: bool | str
    future: bool
    strategy: str | None = None
    second: str = SELF
    policy: str = "current"
    replay: int = AS_SET

    def anchor(self, line: list[str]) -> str:
        """Return who answers as the past in the round after those of `line`."""
        if self.past == PREVIOUS:
            return line[max(len(line) - 2, 0)]
        return FIRST if self.past else line[-1]


def _arm(arms: Arms, name: str) -> _Arm:
    if name in ARMS:
        return _Arm(*ARMS[name])
    own = arms.own[name]
    replay = AS_SET if own.replay is None else own.replay
    return _Arm(name, own.past, own.future, own.strategy, own.second_judge, own.policy, replay)


def _round(plan: Plan, arms: Arms, arm: str, line: list[str]) -> str:
    """Add the round after those of `line` to an arm; return the model version it ends in (docs/method.md)."""
    number = len(line) - 1
    if arm in BASELINES:
        return plan.learn(f"{BASELINES[arm]}-{number + 1}", _baseline(plan, arm, number, line[-1]))
    return _temporal(plan, _arm(arms, arm), number, line)


def _baseline(plan: Plan, arm: str, number: int, policy: str) -> Learn:
    """Return one round of an arm whose pairs are no judge's, or train otherwise."""
    if arm == "rejection_sampling":
        judge = policy if plan.judge == SELF else plan.judge
        split, strategy, other, trainer = f"r{number}", arm, policy, SFT
    else:
        # As in its paper SPIN plays on the prompts of SFT, the same ones every round; in the fair one on each round's.
        split, strategy, judge = "ift" if arm == "spin" else f"r{number}", "spin", ORIGIN
        other, trainer = REFERENCE, DPO
    return Learn(policy, strategy, judge, split, policy, policy, other, strategies.file_of(strategy), judge, trainer)


def _temporal(plan: Plan, arm: _Arm, number: int, line: list[str]) -> str:
    """Add one round of an arm that pairs by a judge, a past and a future."""
    current, anchor = line[-1], arm.anchor(line)
    split, name = f"r{number}", f"{arm.prefix}-{number + 1}"
    judge = current if plan.judge == SELF else plan.judge

    def row(policy: str, strategy: str, future: str, second: str = SELF) -> Learn:
        beside, sql = judge if second == SELF else second, strategies.file_of(strategy)
        return Learn(policy, strategy, judge, split, current, anchor, future, sql, beside, DPO, arm.replay)

    # Where the anchor is the current model itself it adds nothing: the rule is Self-Rewarding's.
    first = "self_rewarding" if anchor == current else "anchored_rejection"
    if not arm.future:
        return plan.learn(name, row(current, arm.strategy or first, current, arm.second))
    ahead = plan.learn(f"{arm.prefix}-f{number + 1}", row(current, first, current))
    policy = ahead if arm.policy == "future" else current
    return plan.learn(name, row(policy, arm.strategy or "future_guided", ahead, arm.second))


def check_judges(plan: Plan) -> None:
    """Raise TsrError for a judge that is neither of the plan's nor a model folder.

    Whoever writes the plan needs it; one who only has the tables does not.
    """
    asked = {plan.teacher, *(name for row in plan.learns.values() for name in (row.judge, row.second))}
    for judge in asked - {BASE, FIRST, *plan.learns, *ORACLES}:
        if not paths.model(judge).is_dir():
            raise TsrError(
                f"params.yaml: judge: no folder {paths.model(judge)}; put a model there, or its endpoint.json"
            )


def dumps(plan: Plan) -> str:
    """Return the text of plan.yaml, one line a row."""
    lines = [_HEADER]
    for table, rows in plan.as_dict().items():
        lines.append(f"{table}:\n" if rows else f"{table}: {{}}\n")
        for key, row in rows.items():
            text = yaml.safe_dump(row, default_flow_style=True, sort_keys=False, width=10_000).strip()
            lines.append(f"  {key}: {text}\n")
    return "".join(lines)


def write(plan: Plan, path: Path = PLAN_FILE) -> None:
    """Write plan.yaml. Raises TsrError outside a project."""
    if not path.parent.is_dir():
        raise TsrError(f"{path.parent}: no such folder; run tsr in the folder that holds params.yaml and stages")
    write_text(dumps(plan), path)


def read(path: Path = PLAN_FILE) -> dict[str, Any]:
    """Read plan.yaml and check that every model it refers to is trained by it."""
    if not path.is_file():
        raise TsrError(f"{path}: no such file; run `tsr plan`")
    try:
        plan: dict[str, Any] = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TsrError(f"{path}: not valid YAML: {' '.join(str(error).split())}; run `tsr plan`") from error
    for table in TABLES:
        if not isinstance(plan, dict) or not isinstance(plan.get(table), dict):
            raise TsrError(f"{path}: table {table!r} is missing; run `tsr plan`")
    for where, model in _mentioned(plan):
        if model in {FIRST, *plan["learns"]} or (model, where.split(".")[0]) == (paths.WORLD, "judges"):
            continue
        if model == REFERENCE and (where.endswith(".future") or where.startswith("oracles.")):
            continue
        if not (where.endswith(JUDGES) and isinstance(model, str)):
            known = ", ".join([FIRST, *plan["learns"]])
            raise TsrError(f"{path}: {where}: nobody trains {model!r}; there are: {known}")
    return plan


def check_no_model(name: str) -> None:
    """Raise TsrError where the plan has a model version of that name: pairs from elsewhere would write over it."""
    if name in ("base", *read()["models"]):
        raise TsrError(f"{paths.model(name)}: is a model version of the plan; give the pairs another name")


def _mentioned(plan: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Yield every place in the plan that names a model version, with the name."""
    columns = {"answers": ["model"], "judges": ["judge", "model"], "learns": ["policy", "judge", "second", *ROLES]}
    columns["oracles"] = columns["judges"]
    for table, names in columns.items():
        for key, row in plan[table].items():
            for column in names:
                yield f"{table}.{key}.{column}", row.get(column) if isinstance(row, dict) else None


def check_agrees(params: Params, path: Path = PLAN_FILE) -> dict[str, Any]:
    """Return the plan on disk if it is the one that params.yaml and the rubrics' files give, else raise TsrError."""
    plan = read(path)
    if path.read_text() != dumps(of(params)):
        raise TsrError(f"{path}: does not match arms, judge and rubrics in params.yaml; run `tsr plan`")
    return plan


def check_free(name: str) -> None:
    """Raise TsrError for a name whose pairs are the plan's, unless DVC runs the stage that makes them."""
    own = paths.of_the_plan() and PLAN_FILE.is_file()
    if own and "DVC_STAGE" not in os.environ and name in (read().get("learns") or {}):
        raise TsrError(
            f"pair {name}: `dvc repro` makes the pairs of that name, as the plan says; expected another name"
        )
