"""What a run of claims is asked for: params.yaml with changed settings, arms, a judge and a seed."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages import params, plan
from stages.changes import parsed, put
from stages.errors import TsrError
from stages.ids import content_id
from stages.params import Params

Raw = dict[str, Any]
_APART = ("following", "slots")  # blocks that no result depends on
# Rounds where `--arms` names none: what the paper compares, and as many for what stands beside Self-Rewarding.
ROUNDS = {
    "sr": 5,
    "tsr": 2,
    "past_only": 2,
    "future_only": 2,
    "sft": 0,
    "rejection_sampling": 4,
    "spin": 1,
    "spin_fair": 4,
}


@dataclass(frozen=True)
class Settings:
    """Params as they are to be for all seeds of a call, and what was changed in them by hand."""

    raw: Raw
    changed: Raw
    arms: tuple[str, ...]

    def params(self, seed: int) -> Params:
        """Return the checked params of one seed."""
        return params.parse(copy.deepcopy(self.raw) | {"seed": seed}, params.PARAMS_FILE)

    @property
    def hash(self) -> str:
        """Return the hash of all that decides results but the seed and which arms run."""
        decides = {key: self.raw[key] for key in ("profile", "judge", "teacher")}
        block = {key: value for key, value in self.raw[self.raw["profile"]].items() if key not in _APART}
        return content_id("claims", decides, block, self._own_arms())

    def _own_arms(self) -> Raw:
        """Return the user's arms: their names say nothing of what they are."""
        return {name: arm for name, arm in self.raw["arms"].items() if name in self.arms and isinstance(arm, dict)}

    def run_id(self, seed: int) -> str:
        """Return the id of one seed under these settings."""
        return content_id("claims run", self.hash, seed)


def read(arms: str, judge: str, changes: list[str]) -> Settings:
    """Return params.yaml with `KEY=VALUE` changes, as `changed` does."""
    return changed(arms, judge, parsed(changes, "claims: --set"))


def changed(arms: str, judge: str, changes: Raw) -> Settings:
    """Return params.yaml with changes by dotted key, the judge (empty: as it stands) and the arms (empty: all).

    `arms` is `sr,tsr=3,...`: NAME or NAME=ROUNDS. Every arm that there is stands in the plan whatever is asked for, so
    that a model version has one name. Raises TsrError for an unknown key or arm, naming it.
    """
    raw = params.read_raw()
    put(raw, changes, "claims: --set")
    if judge:
        raw["judge"] = judge
    given = {name: arm for name, arm in raw["arms"].items() if name not in ROUNDS}
    asked = _arms(arms, {name: int(arm["rounds"]) for name, arm in given.items()})
    rounds = ROUNDS | {name: asked[name] for name in asked if name in ROUNDS}
    rounds = {name: count for name, count in rounds.items() if name in asked or count <= _splits(raw)}
    raw["arms"] = rounds | {name: arm | {"rounds": asked.get(name, arm["rounds"])} for name, arm in given.items()}
    if not asked:
        asked = raw["arms"]
    found = Settings(raw, changes, tuple(asked))
    plan.check_judges(plan.of(found.params(0)))
    return found


def _splits(raw: Raw) -> int:
    return int(raw[raw["profile"]]["prepare"]["splits"])


def _arms(text: str, own: dict[str, int]) -> dict[str, int]:
    """Return arm -> rounds of what `--arms` asks for."""
    known, asked = ROUNDS | own, {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, count = part.partition("=")
        if name not in known:
            raise TsrError(f"claims: --arms: unknown arm {name!r}; expected {', '.join(known)}")
        if count and (not count.isdigit() or not int(count)):
            raise TsrError(f"claims: --arms: {part!r}: expected a number of rounds")
        asked[name] = int(count) if count else known[name]
    return asked


def value_of(raw: Raw, key: str) -> Any:
    """Return what stands under a dotted key."""
    found: Any = raw
    for part in key.split("."):
        found = found[part]
    return found


def absolute(strategy: str, root: Path) -> str:
    """Return a strategy as the stages find it from another folder: a path of the user's hangs on the project's."""
    return str(root / strategy) if strategy.endswith(".sql") else strategy
