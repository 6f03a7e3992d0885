"""Where prompts come from: one module a source. A source may know the truth about a response."""

from collections.abc import Callable

from stages.sources import micro_world

# source -> (prompt text, response) -> true score; a source that is not listed has no ground truth
VERIFIERS: dict[str, Callable[[str, str], int]] = {"micro_world": micro_world.verify}
