"""What is wrong with a source, counted by kind: nothing is mended or left out without being told."""

from collections import Counter
from typing import Any

# kind -> what it is, and what is done with it
KINDS: dict[str, tuple[str, str]] = {
    "left_out_by_where": ("rows that `where` leaves out", "left out"),
    "blank_lines": ("blank lines", "skipped"),
    "broken_utf8": ("lines that are not UTF-8", "broken bytes became U+FFFD"),
    "surrogates": ("texts with half a surrogate pair", "the half became U+FFFD"),
    "nul": ("texts with NUL", "NUL became U+FFFD"),
    "not_text": ("cells that hold no text", "kept as JSON text"),
    "not_inside": ("cells without the JSON that `inside` names", "null"),
    "not_inside_kept": ("cells without the JSON that `inside` names", "kept as they are, as the mapping says"),
    "pattern_missed": ("cells that `extract` does not fit", "null"),
    "no_key": ("rows without a prompt key", "left out"),
    "no_model": ("rows without a model", "left out"),
    "named_by_hash": ("names that make no folder name", "given one of their hash; source_name in import.json"),
    "no_judge": ("rows without a judge", "left out"),
    "prompt_without_text": ("prompts without text", "left out"),
    "prompt_unreadable": ("prompts whose messages cannot be read", "left out"),
    "prompt_twice": ("prompt rows given twice", "made one"),
    "prompt_white_space": ("prompts that differ from another by white space", "made one, the first in order of JSON"),
    "reference_differs": ("prompts with several references", "first in order of text kept"),
    "prompt_missing": ("prompts that responses name and no row gives", "not made up; first ones listed in import.json"),
    "prompt_named_by_key": ("prompts that responses name and no row gives", "kept, their key for a text"),
    "response_without_prompt": ("responses to prompts that are not there", "left out"),
    "no_response": ("rows without a response", "left out"),
    "beyond_last_turn": ("answers beyond the last question", "left out"),
    "empty": ("responses with nothing but white space", "kept"),
    "end_marks": ("texts that end in an end mark", "mark taken off"),
    "special_left": ("texts with special tokens inside", "left as they are"),
    "bad_tokens": ("token counts that are no whole number", "null"),
    "identical": ("rows equal to another", "made one"),
    "renumbered": ("rows that share their number with another that differs", "given new numbers"),
    "no_raw": ("judgments without the judge's words", "kept, the words empty"),
    "score_as_text": ("scores given as text", "read as numbers"),
    "no_score": ("judgments without a score", "kept, score null"),
    "score_no_number": ("scores that are no number", "kept, score null"),
    "score_not_finite": ("scores that are not finite", "kept, score null"),
    "score_out_of_range": ("scores below `low` or above `high`", "kept, score null"),
    "judged_nothing": ("judgments of responses that are not there", "left out, first ones listed in import.json"),
    "several_opponents": ("preferences over more than one opponent", "left out: they are on no common scale"),
    "nobody_answered": ("prompts that no model answers", "kept"),
    "unanswered": ("responses that a model lacks and another has", "counted for each model in import.json"),
}


class Dirt:
    """Counts of dirt by kind and place."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, kind: str, where: str, count: int = 1) -> None:
        """Count `count` more of a kind at a place: a part, or a field of the mapping."""
        if count:
            self.counts[kind, where] += count

    def show(self, kind: str, examples: list[str]) -> None:
        """Keep the first ten, in order, of what can be named of a kind."""
        self.examples[kind] = sorted({*self.examples.get(kind, []), *examples})[:10]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each kind and place, in the order of KINDS."""
        order = list(KINDS)
        told = sorted(self.counts.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
        return [
            {"kind": kind, "where": where, "count": count, "what": KINDS[kind][0], "done": KINDS[kind][1]}
            | ({"examples": self.examples[kind]} if kind in self.examples else {})
            for (kind, where), count in told
        ]
