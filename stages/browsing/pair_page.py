"""One pair on a page: prompt, both responses with what differs marked, every vote, and what made them."""

import math
from dataclasses import dataclass
from typing import Any

from stages.browsing.figures import NOTHING
from stages.browsing.rendering import template
from stages.reporting.figures import name_of
from stages.reporting.side_by_side import Parts, differences
from stages.reporting.verdicts import number, signed

Row = dict[str, Any]
LONGEST = 20_000  # characters shown of a text
LIKELY = 0.01  # probability of a score that is worth showing


@dataclass(frozen=True)
class Response:
    """One side of a pair, ready for the page."""

    role: str
    parts: Parts
    model: str
    side: str
    score: str
    truth: str
    facts: list[tuple[str, str]]
    judges: list[Row]


def cut(text: str) -> str:
    """Return a text short enough to show, and how much of it is left out.

    >>> cut("short")
    'short'
    """
    left = len(text) - LONGEST
    return text if left <= 0 else f"{text[:LONGEST]} […] ({left:,} more characters)"


def said(messages: list[dict[str, str]]) -> str:
    """Return the texts of messages, one below the other."""
    return "\n\n".join(message["content"] for message in messages)


def likely(digits: list[dict[str, float]] | None) -> str:
    """Return the scores that the judge held likely, most likely first.

    >>> likely([{"score": 4.0, "logprob": -2.3}, {"score": 5.0, "logprob": -0.11}, {"score": 1.0, "logprob": -9.0}])
    '5: 90 %, 4: 10 %'
    """
    known = sorted(digits or [], key=lambda digit: -digit["logprob"])
    shares = [(digit["score"], math.exp(digit["logprob"])) for digit in known]
    return ", ".join(f"{score:g}: {100 * share:.0f} %" for score, share in shares if share >= LIKELY)


def render(pair: Row, colour: str) -> str:
    """Return a pair, as `store.story` gives it, as HTML. All texts are escaped; no address in them is loaded."""
    texts = {role: cut(said(pair[role])) for role in ("chosen", "rejected")}
    parts = dict(zip(texts, differences(texts["chosen"], texts["rejected"]), strict=True))
    page: str = template("pair.html.j2").render(
        pair=pair,
        colour=colour,
        where=where(pair),
        gap=number(pair["gap"]),
        longer="" if pair["length_delta"] is None else f"{signed(pair['length_delta'], 0)} tokens",
        turns=[(turn["role"], cut(turn["content"])) for turn in pair["prompt"]],
        sides=[_response(pair, role, parts[role]) for role in texts],
    )
    return page


def where(row: Row) -> str:
    """Return arm, round and split of a row in words.

    >>> where({"arm": "sr", "round": 2, "split": "r1"}), where({"arm": "mine", "round": None, "split": "test"})
    ('SR, round 2 (r1)', 'mine, test')
    """
    split = row["split"] or "split unknown"
    return f"{name_of(row['arm'])}, " + (split if row["round"] is None else f"round {row['round']} ({split})")


def _response(pair: Row, role: str, parts: Parts) -> Response:
    generation_id = pair[f"{role}_id"]
    truth = pair[f"{role}_truth"]
    return Response(
        role=role,
        parts=parts,
        model=pair[f"{role}_model"],
        side=pair[f"{role}_from"] or "",
        score=number(pair[f"{role}_score"]),
        truth="" if truth is None else number(truth),
        facts=_facts(pair["made"].get(generation_id), said(pair[role]), generation_id),
        judges=_judges(pair["scores"][generation_id], pair["votes"][generation_id]),
    )


def _facts(made: Row | None, text: str, generation_id: str) -> list[tuple[str, str]]:
    """Return what made a response, as (name, value)."""
    if made is None:
        return [("response", generation_id), ("made by", "its row of generations is not here")]
    tokens = "" if made["response_tokens"] is None else f", {made['response_tokens']:,} tokens"
    return [
        ("response", generation_id),
        ("weights", made["model_hash"] or "not known"),
        ("seed", "not known" if made["seed"] is None else str(made["seed"])),
        ("sample", str(made["sample_id"])),
        ("length", f"{len(text):,} characters{tokens}"),
        ("log-probability", NOTHING if made["logprob_sum"] is None else number(made["logprob_sum"])),
        ("ended by", {"stop": "itself", "length": "the limit of tokens"}.get(made["finish_reason"], "an error")),
        ("engine", made["backend"]),
    ]


def _judges(scores: list[Row], votes: list[Row]) -> list[Row]:
    """Return one entry a judge: name, score, and its votes."""
    told = {row["judge"]: row for row in scores}
    names = sorted({*told, *(row["judge"] for row in votes)})
    return [_judge(name, told.get(name), [row for row in votes if row["judge"] == name]) for name in names]


def _judge(name: str, score: Row | None, votes: list[Row]) -> Row:
    return {
        "name": name,
        "weights": next((row["judge_hash"] for row in votes if row["judge_hash"]), "not known"),
        "score": NOTHING if score is None or score["score"] is None else number(score["score"]),
        "spread": _spread(score),
        "votes": [_vote(row) for row in votes],
    }


def _spread(score: Row | None) -> str:
    """Return how many votes gave the score, and how far apart they are."""
    if score is None:
        return "no score"
    votes = f"{score['n_parsed']} of {score['n_votes']} votes read" if score["n_votes"] else "no votes"
    return votes + (f", spread {number(score['score_std'])}" if score["n_parsed"] > 1 else "")


def _vote(row: Row) -> Row:
    """Return one vote: its number, its words, and what else came with it."""
    given = row.get("given_score")
    about = [
        "one token" if row["way"] == "one_token" else "",
        "" if given is None else f"score {number(given)}",
        likely(row["digit_logprobs"]),
        "" if row["status"] == "ok" else f"{row['status']}: {row['error'] or 'no reason given'}",
        "" if row["seed"] is None else f"seed {row['seed']}",
    ]
    return {"number": row["vote_id"], "raw": cut(row["raw"]), "about": " · ".join(filter(None, about))}
