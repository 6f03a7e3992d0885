"""The browser's page but for the open pair: what the filters offer, the counts, the lists."""

import math
from collections.abc import Sequence
from typing import Any

import duckdb

from stages import paths
from stages.browsing.figures import NOTHING, colours, mean, step, title
from stages.browsing.rendering import template
from stages.browsing.store import SAMPLE, Choices, rows, run
from stages.reporting.charts import REASON_GREYS
from stages.reporting.figures import name_of
from stages.reporting.verdicts import number, signed

Row = dict[str, Any]
ROWS = 10  # of a page
NOTCHES = 40  # of the gap's slider, at most
WIDTHS = {"prompt": 196, "chosen": 196, "rejected": 196, "gap": 60, "scores": 100, "from": 130, "learned by": 140}
PAIR = "pair"  # what a prompt ends in that was not dropped
_LENGTH_BINS = 24


def _part(name: str, *values: Any) -> str:
    """Return a macro of parts.html.j2 with what it is given escaped."""
    return str(getattr(template("parts.html.j2").module, name)(*values))


def heading(choices: Choices) -> str:
    """Return the title, and what there is in this folder."""
    pairs, dropped = (sum(row[count] for row in choices.homes) for count in ("n_pairs", "n_dropped"))
    arms = [(name_of(arm), fill) for arm, fill in colours(choices).items()]
    return _part("heading", str(paths.data()), f"{pairs:,}", f"{pairs + dropped:,}", len(choices.homes), arms)


def arm_options(choices: Choices) -> dict[str, str]:
    """Return label -> arm."""
    return {name_of(arm): arm for arm in choices.arms}


def split_options(choices: Choices) -> dict[str, str]:
    """Return label -> split, with the rounds that are known."""
    rounds = {row["split"]: row["round"] for row in choices.learners if row["split"]}
    return {split if rounds[split] is None else f"{rounds[split]} ({split})": split for split in sorted(rounds)}


def learner_options(choices: Choices) -> dict[str, str]:
    """Return label -> model version that learns; none without a plan, where arms are the same."""
    return {title(row): row["model"] for row in choices.homes if row["round"] is not None}


def gap_steps(gaps: tuple[float, float] | None) -> list[float]:
    """Return the notches of the gap's slider, which reach both ends.

    >>> gap_steps((1.0, 1.2))[:3], gap_steps(None)
    ([1.0, 1.005, 1.01], [0.0, 1.0])
    """
    low, high = gaps or (0.0, 1.0)
    size = step(low, high, NOTCHES if gaps else 1)
    first, last = math.floor(low / size + 1e-9), math.ceil(high / size - 1e-9)
    return [round(size * notch, 9) for notch in range(first, max(last, first + 1) + 1)]


def gap_filter(wanted: Sequence[float], gaps: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return the range to keep, or None where it holds all gaps anyway.

    >>> gap_filter([1.0, 3.0], (1.0, 5.0)), gap_filter([1.0, 5.0], (1.0, 5.0))
    ((1.0, 3.0), None)
    """
    if gaps is None or (wanted[0] <= gaps[0] and wanted[1] >= gaps[1]):
        return None
    return float(wanted[0]), float(wanted[1])


def panel(elements: Sequence[Any]) -> str:
    """Return the filters side by side; one that offers nothing is left out."""
    return _part("panel", [element.text for element in elements if getattr(element, "options", True)])


def strip(summary: Row) -> str:
    """Return the counts of what passes the filters."""
    prompts = summary["pairs"] + summary["dropped"]
    kept = "" if not prompts else f"{100 * summary['pairs'] / prompts:.0f} % of the prompts shown"
    longer = NOTHING if summary["length_delta"] is None else signed(summary["length_delta"], 1)
    return _part(
        "strip",
        [
            ("pairs", f"{summary['pairs']:,}", kept),
            ("dropped prompts", f"{summary['dropped']:,}", ""),
            ("mean gap", mean(summary["gap"]), ""),
            ("mean score", f"{mean(summary['chosen_score'])} / {mean(summary['rejected_score'])}", "chosen / rejected"),
            ("length", longer, "tokens, chosen less rejected, mean"),
        ],
    )


def pages(total: int) -> int:
    """Return how many pages a list has, at least one."""
    return max(1, math.ceil(total / ROWS))


def pager(element: Any, total: int, what: str = "pairs", sort: Any = None) -> str:
    """Return which rows are shown, their order if there is a choice, and the page number."""
    first = (element.value - 1) * ROWS + 1
    shown = f"{first:,}\N{EN DASH}{min(first + ROWS - 1, total):,} of {total:,} {what}"
    return _part("pager", shown, "" if sort is None else sort.text, element.text, f"of {pages(total):,}")


def pair_rows(listed: Sequence[Row]) -> list[Row]:
    """Return the rows of the list of pairs, as the table shows them."""
    return [
        {
            "pair_id": row["pair_id"],
            "prompt": row["prompt"],
            "chosen": row["chosen"],
            "rejected": row["rejected"],
            "gap": number(row["gap"]),
            "scores": f"{number(row['chosen_score'])} / {number(row['rejected_score'])}",
            "from": f"{row['chosen_from']} / {row['rejected_from']}",
            "learned by": title(row),
        }
        for row in listed
    ]


def nothing(text: str) -> str:
    """Return a line for an empty list."""
    return _part("nothing", text)


def section(heading: str, note: str, content: str) -> str:
    """Return a heading with what stands below it."""
    return _part("section", heading, note, content)


def panels(found: Sequence[Row]) -> str:
    """Return figures side by side."""
    return _part("panels", found)


def source_table(sources: Sequence[Row]) -> str:
    """Return where chosen and rejected come from, the most frequent first."""
    total = sum(row["pairs"] for row in sources)
    told = [
        (row["chosen_from"], row["rejected_from"], f"{row['pairs']:,}", row["pairs"] / total, mean(row["gap"]))
        for row in sources
    ]
    return _part("sources", told)


def lengths(db: duckdb.DuckDBPyConnection) -> list[Row]:
    """Return sql/explore/lengths.sql, in bins that suit the longest of its texts."""
    exact = run(db, "lengths", width=1, rows=SAMPLE)
    longest = exact.aggregate("max(greatest(chosen, rejected))").fetchall()[0][0]
    width = int(max(1, step(0, longest, _LENGTH_BINS))) if longest > 2 * _LENGTH_BINS else 1
    return rows(exact) if width == 1 else rows(run(db, "lengths", width=width, rows=SAMPLE))


def length_note(total: int) -> str:
    """Return what the points of the length panels are."""
    sampled = f" A sample of {SAMPLE:,}, by prompt." if total > SAMPLE else ""
    return f"Above the line, chosen is the longer one. Larger points are more pairs.{sampled}"


def fate_bars(fates: Sequence[Row], choices: Choices) -> str:
    """Return one bar a model version that learns: its pairs in the arm's colour, each drop reason in a grey."""
    reasons = [reason for reason in choices.reasons if any(row["reason"] == reason for row in fates)]
    greys = {reason: REASON_GREYS[i % len(REASON_GREYS)] for i, reason in enumerate(choices.reasons)}
    counts = {(row["model"], row["reason"]): row["prompts"] for row in fates}
    told, arms = [], colours(choices)
    for home in choices.homes:
        parts = [(reason, counts.get((home["model"], reason), 0)) for reason in [PAIR, *reasons]]
        total = sum(count for _, count in parts)
        if not total:
            continue
        fills = {PAIR: arms[home["arm"]]} | greys
        bars = [(reason, f"{count:,}", 100 * count / total, fills[reason]) for reason, count in parts if count]
        told.append((title(home), f"{total:,}", bars))
    return _part("fates", [(reason, greys[reason]) for reason in reasons], told)


def dropped_table(listed: Sequence[Row]) -> str:
    """Return one page of dropped prompts."""
    told = [(row["reason"], title(row), row["strategy"], row["prompt"], row["prompt_id"]) for row in listed]
    return _part("dropped", told)
