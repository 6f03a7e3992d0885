"""An engine for the workers of the backend `ray`, in place of an embedded one: quick, and it can be made to die."""

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from stages.backends import Completion, Request
from stages.block import Block
from stages.errors import TsrError
from stages.ids import content_id


class Settings(Block):
    """Text that kills the process which completes it, how often (one file a death in `deaths`), and what else fails.

    Replies are filled up to so many `characters`.
    """

    deadly: str = ""
    times: int = 0
    deaths: str = ""
    wrong: str = ""
    characters: int = 0


class Engine:
    """Answers with a hash of what was asked."""

    name, model_hash, template_hash, version = "faulty", "m", "t", "v"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        how = self._settings
        for request in requests:
            text = request.messages[-1]["content"]
            if how.deadly and how.deadly in text and len(list(Path(how.deaths).iterdir())) < how.times:
                (Path(how.deaths) / str(os.getpid())).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if how.wrong and how.wrong in text:
                raise TsrError("this cannot be")
            if text == "broken":
                raise ZeroDivisionError("of the code")
            yield Completion(
                request.request_id,
                content_id("said", text, request.seed).ljust(how.characters, "."),
                "stop",
                1,
                1,
                -0.1 - request.seed,
            )

    def close(self) -> None:
        pass


def open_backend(folder: Path, settings: Settings) -> Engine:
    return Engine(settings)
