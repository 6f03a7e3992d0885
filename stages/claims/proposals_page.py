"""What became of the proposals, for the pages of the claims: each test, each seed, and what held."""

from pathlib import Path
from typing import Any

from stages.claims import contrasts, proposals, summary
from stages.claims.contrasts import Results
from stages.claims.findings import SUPPORTED, Finding, findings
from stages.claims.proposals import Proposals

Row = dict[str, Any]


def read(middle: Path) -> tuple[Proposals, Results] | None:
    """Return the proposals with their results, beside the tables of `middle`; None where none of them ran."""
    home = middle.parent / proposals.NAME
    if not summary.read_table("claims_runs", home).height:
        return None
    wanted = proposals.read()
    return wanted, contrasts.read_changed(home, wanted.changed)


def found(wanted: Proposals, results: Results) -> tuple[list[Finding], list[Finding]]:
    """Return the tests that were stated, and the same at other costs; each list is corrected by itself."""
    return findings(results, wanted.claims()), findings(results, wanted.beside)


def told(wanted: Proposals, primary: list[Finding]) -> list[Row]:
    """Return each proposal with its arm, and whether it passed all its tests."""
    rows = []
    for name, proposal in wanted.proposals.items():
        held = [after for after in proposal.after if _held(primary, name, after)]
        rows.append(
            {
                "name": name,
                "what": proposal.what,
                "why": proposal.why,
                "arm": ", ".join(f"{key}: {_yaml(value)}" for key, value in proposal.arm.items()),
                "held": _rounds(proposal.after, held),
            }
        )
    return rows


def _held(primary: list[Finding], name: str, after: int) -> bool:
    """Return whether a proposal was ahead of all its rivals after a round."""
    here = [one for one in primary if (one.claim.ask.points[0].arm, one.claim.ask.points[0].round) == (name, after)]
    return bool(here) and all(one.verdict == SUPPORTED for one in here)


def _rounds(asked: list[int], held: list[int]) -> str:
    """Return in words where a proposal held, and where it did not."""
    told = [f"{'holds' if after in held else 'does not hold'} after round {after}" for after in asked]
    return ", ".join(told)


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
