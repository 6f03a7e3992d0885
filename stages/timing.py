"""What one command cost, appended to a file outside all outputs; only `make bench` asks for it."""

import atexit
import json
import resource
import sys
import time
from pathlib import Path

from stages.progress import spent


def record_at_exit(path: Path) -> None:
    """Append one JSON line when the process ends: seconds in all, in the model, and the peak memory in MiB.

    `reused` are rows or steps that were there already, so that they took no time.
    """
    started = time.time()

    def record() -> None:
        entry = {
            "command": sys.argv[1:],
            "seconds": time.time() - started,
            "model_seconds": spent["seconds"],
            "reused": int(spent["reused"]),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        with path.open("a") as handle:
            handle.write(json.dumps(entry) + "\n")

    atexit.register(record)
