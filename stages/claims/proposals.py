"""Beyond the paper: arms proposed from what the tables show, and the test that each must pass (proposals.yaml).

The file is written, and committed, before its seeds run; nothing here looks at a result.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.claims.contrasts import COSTS
from stages.claims.hypotheses import BESIDE, Claim, Equal, Point
from stages.claims.settings import ROUNDS
from stages.errors import TsrError
from stages.reporting.figures import name_of
from stages.yamlfile import read_yaml

PROPOSALS = Path(__file__).with_name("proposals.yaml")
NAME = "beyond"  # of their tables, in reports/claims
SECTION = "Beyond the paper"
PRIMARY = "tokens"  # the cost at which a proposal is held against its rivals; at the other costs beside it
_WORDS = {"tokens": "tokens", "updates": "updates", "cpu_seconds": "seconds"}


@dataclass(frozen=True)
class Proposal:
    """An arm as params.yaml would have it, what it is, why it may do better, and after which rounds it is tested."""

    what: str
    why: str
    arm: dict[str, Any]
    after: list[int]


@dataclass(frozen=True)
class Proposals:
    """All proposals by their names, whom they are held against (arm -> rounds), and the fresh seeds."""

    first: int
    seeds: int
    against: dict[str, int]
    always: dict[str, Any]
    proposals: dict[str, Proposal]

    @property
    def arms(self) -> str:
        """Return all arms as `tsr claims --arms` takes them."""
        return ",".join([*(f"{arm}={rounds}" for arm, rounds in self.against.items()), *self.proposals])

    @property
    def changed(self) -> dict[str, Any]:
        """Return what differs from params.yaml: the proposals are its arms too."""
        return self.always | {f"arms.{name}": proposal.arm for name, proposal in self.proposals.items()}

    def claims(self, cost: str = PRIMARY) -> list[Claim]:
        """Return what is tested at a cost: each proposal, after each of its rounds, against each rival."""
        return [
            Claim(
                f"{name}_{after}_{rival}_{cost}",
                SECTION,
                f"{name} is ahead of {name_of(rival)} after round {after}, at equal {_WORDS[cost]}",
                BESIDE,
                Equal(cost, Point(name, after), Point(rival, rounds)),
                above=True,
                quoted=cost == PRIMARY,
            )
            for name, proposal in self.proposals.items()
            for after in proposal.after
            for rival, rounds in self.against.items()
        ]

    @property
    def fresh(self) -> list[int]:
        """Return the seeds that count."""
        return list(range(self.first, self.first + self.seeds))

    @property
    def control(self) -> list[Claim]:
        """Return what SR itself, which proposes nothing, does against TSR by the same rule. Thought of afterwards."""
        return [
            Claim(
                f"control_{after}",
                SECTION,
                f"Control: {name_of('sr')} itself is ahead of {name_of('tsr')} after round {after}, at equal {PRIMARY}",
                BESIDE,
                Equal(PRIMARY, Point("sr", after), Point("tsr", self.against["tsr"])),
                above=True,
            )
            for after in range(1, self.against["sr"] + 1)
        ]

    @property
    def beside(self) -> list[Claim]:
        """Return the same at the other costs."""
        return [claim for cost in COSTS if cost != PRIMARY for claim in self.claims(cost)]


def read(path: Path = PROPOSALS) -> Proposals:
    """Return what a file proposes. Raises TsrError for a missing or unknown key, and for a rival that is no arm."""
    said = read_yaml(path, str(path))
    try:
        proposals = {name: Proposal(**one) for name, one in said.pop("proposals").items()}
        found = Proposals(proposals=proposals, **said)
    except (KeyError, TypeError, AttributeError) as error:
        raise TsrError(
            f"{path}: expected first, seeds, against, always, and proposals of what, why, arm, after: {error}"
        ) from error
    for name, one in proposals.items():
        if not set(one.after) <= set(range(1, int(one.arm["rounds"]) + 1)):
            raise TsrError(f"{path}: {name}: after {one.after}: expected rounds from 1 to {one.arm['rounds']}")
    if unknown := sorted(set(found.against) - set(ROUNDS)):
        raise TsrError(f"{path}: against: unknown arm {unknown[0]!r}; expected {', '.join(ROUNDS)}")
    return found
