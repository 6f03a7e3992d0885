"""What a forecast takes for granted where nothing was measured; every value can be given instead (`--assume`)."""

from stages.errors import TsrError

# name -> (value, what it is and where it comes from)
DEFAULTS: dict[str, tuple[float, str]] = {
    "prompt_share": (0.25, "mean length of a prompt, of the longest that is allowed"),
    "response_share": (0.4, "mean length of a response, of generate.max_new_tokens"),
    "reply_share": (0.5, "mean length of a judge's reply, of judge.max_new_tokens"),
    "characters_a_token": (4.0, "of the judge's question, in English"),
    "rated_responses": (4.0, "responses to a rated prompt, as in UltraFeedback"),
    "eft_kept": (0.234, "judgments of rated responses that are learned from: 1,871 of 8,000 in arXiv 2508.06026"),
    "yield": (0.7, "pairs to a prompt"),
    "training_share": (0.4, "of a GPU's peak FLOPs that training reaches, recomputed ones counted"),
    "reading_share": (0.5, "of the peak FLOPs that reading prompts and a step of writing reach"),
    "bandwidth_share": (0.75, "of the memory bandwidth that writing tokens reaches"),
    "eager_ms": (0.8, "milliseconds a layer that a step takes at least without CUDA graphs"),
    "start_seconds": (60.0, "a stage takes before its model works: imports, weights, graphs"),
    "overhead_gib": (1.0, "on each GPU for its driver and libraries"),
    "bytes_a_token": (2.0, "of text in a compressed table"),
    "bytes_a_row": (100.0, "of ids, seeds and counts in a compressed table"),
    "bytes_a_stored_token": (4.5, "of text in the store of finished rows, which is not compressed"),
    "bytes_a_stored_row": (110.0, "of key, checksum and counts there"),
}


class Assumed:
    """The values in force; remembers which of them a forecast has used."""

    def __init__(self, given: dict[str, float] | None = None) -> None:
        self.given = given or {}
        self.used: dict[str, float] = {}

    def __getitem__(self, name: str) -> float:
        self.used[name] = self.given.get(name, DEFAULTS[name][0])
        return self.used[name]


SHARES = {name for name in DEFAULTS if name.endswith("_share")} | {"yield", "eft_kept"}


def numbers(words: list[str], option: str, known: list[str]) -> dict[str, float]:
    """Return `NAME=NUMBER` words as a mapping.

    Raises TsrError for another form, name, a number that is not above 0, or a share above 1.

    >>> numbers(["yield=0.9"], "--assume", ["yield"])
    {'yield': 0.9}
    """
    found = {}
    for word in words:
        name, _, text = word.partition("=")
        if name not in known:
            raise TsrError(f"{option} {word}: no {name!r}; there are: {', '.join(known)}")
        try:
            value = float(text)
        except ValueError:
            raise TsrError(f"{option} {word}: expected {name}=NUMBER") from None
        if not 0 < value < float("inf"):
            raise TsrError(f"{option} {word}: expected a number above 0")
        if name in SHARES and value > 1:
            raise TsrError(f"{option} {word}: expected a share, at most 1")
        found[name] = value
    return found
