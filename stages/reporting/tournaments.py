"""Rankings that `tsr tournament` has left, of those that are of this run's responses."""

import json
from pathlib import Path

from stages import paths
from stages.errors import TsrError
from stages.ids import file_sha256
from stages.reporting.chart_ranking import picture
from stages.reporting.charts import Row

FOLDER = paths.REPORTS / "tournament"
_KEYS = ("anchor", "as_true_scores", "fit", "judge", "players", "ranking", "samples", "split", "verdicts")


def read_tournaments() -> list[Row]:
    """Return each ranking as its JSON has it, with its `file`, by name.

    Those of other responses than the run's are left out, and told of. Raises TsrError for a file that is no ranking.
    """
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        told = _read(path)
        if others := [m for m, one in told["players"].items() if not _same(m, told["split"], one)]:
            print(f"report: {path} is of other responses of {others[0]} than there are; run `tsr tournament` again")
        else:
            found.append(told | {"file": path.name})
    return found


def _read(path: Path) -> Row:
    try:
        told: Row = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise TsrError(f"{path}: not valid JSON: {error}") from error
    if missing := [key for key in _KEYS if key not in told]:
        raise TsrError(f"{path}: key {missing[0]!r} is missing; run `tsr tournament` again")
    return told


def _same(model: str, split: str, player: Row) -> bool:
    responses = paths.generations(model, split)
    return responses.is_file() and file_sha256(responses) == player["generations_sha256"]


def drawn(told: Row) -> Row:
    """Return a ranking for the page: title, svg, caption, and the file with all figures."""
    samples, true = told["samples"], told["as_true_scores"]
    each = "the first response" if samples == 1 else f"{samples} responses"
    caption = f"Played on {each} to each prompt of {told['split']}: {sum(told['verdicts'].values()):,} games, of which "
    caption += f"{told['verdicts'].get('same_text', 0):,} tie unasked, being equal texts. "
    caption += f"Strengths alone explain who beats whom: {told['fit']['word']}."
    if true:
        caption += f" Of {true['pairs']} pairs of models, {true['same_order']} stand in the order of their true scores."
    return {
        "title": f"Ranking by the judge {told['judge']['model']}",
        "svg": picture(told["ranking"], told["anchor"]),
        "caption": caption,
        "file": f"{FOLDER.name}/{told['file']}",
    }
