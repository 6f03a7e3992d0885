"""What became of the proposals, for the pages of the claims: each test, each seed, and what held."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.claims import contrasts, proposals, summary
from stages.claims.contrasts import Results
from stages.claims.findings import SUPPORTED, Finding, findings
from stages.claims.hypotheses import CLAIMS
from stages.claims.proposals import Proposals

Row = dict[str, Any]


@dataclass(frozen=True)
class Beyond:
    """The proposals and their results; `later` are seeds that ran without being among those that were stated.

    `primary` are the tests that were stated, `beside` the same at other costs, `control` SR itself by the same rule,
    and `again` those of the paper's claims, quoted in the README, that these seeds can be held against too. p of each
    list is corrected by itself.
    """

    wanted: Proposals
    results: Results
    later: list[int]
    primary: list[Finding]
    beside: list[Finding]
    control: list[Finding]
    again: list[Finding]


def read(middle: Path) -> Beyond | None:
    """Return what became of the proposals, beside the tables of `middle`; None where none of them ran."""
    home = middle.parent / proposals.NAME
    if not summary.read_table("claims_runs", home).height:
        return None
    return found(proposals.read(), home)


def found(wanted: Proposals, home: Path) -> Beyond:
    """Return the same of a folder."""
    ran = contrasts.read_changed(home, wanted.changed)
    results = contrasts.only(ran, wanted.fresh)
    again = findings(results, [claim for claim in CLAIMS if claim.quoted])
    return Beyond(
        wanted,
        results,
        sorted(set(ran.runs["seed"]) - set(wanted.fresh)),
        findings(results, wanted.claims()),
        findings(results, wanted.beside),
        findings(results, wanted.control),
        [one for one in again if one.around is not None],
    )


def told(beyond: Beyond) -> list[Row]:
    """Return each proposal with its arm, and after which rounds it was ahead of all its rivals."""
    return [
        {
            "name": name,
            "what": proposal.what,
            "why": proposal.why,
            "arm": ", ".join(f"{key}: {_yaml(value)}" for key, value in proposal.arm.items()),
            "held": ", ".join(_held(beyond.primary, name, after) for after in proposal.after),
        }
        for name, proposal in beyond.wanted.proposals.items()
    ]


def _held(primary: list[Finding], name: str, after: int) -> str:
    """Return in words whether a proposal was ahead of all its rivals after a round."""
    here = [one for one in primary if (one.claim.ask.points[0].arm, one.claim.ask.points[0].round) == (name, after)]
    holds = bool(here) and all(one.verdict == SUPPORTED for one in here)
    return f"{'holds' if holds else 'does not hold'} after round {after}"


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
