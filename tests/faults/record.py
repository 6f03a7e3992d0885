"""Which faults were put in, and which were survived: what `reports/reliability.json` holds."""

import json
import os
import platform
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

SEED = int(os.environ.get("TSR_FAULTS_SEED", "7"))  # decides which faults, and when
OUT = "TSR_FAULTS_OUT"  # the file to write; `make test-faults` names reports/reliability.json

COUNTS = ("injected", "survived")


class Record:
    """Counts by kind of fault and by what it struck."""

    def __init__(self) -> None:
        self.injected: Counter[tuple[str, str]] = Counter()
        self.survived: Counter[tuple[str, str]] = Counter()
        self.rows: Counter[str] = Counter()
        self.soak: dict[str, Any] = {}

    @contextmanager
    def fault(self, kind: str, struck: str) -> Iterator[None]:
        """Count a fault; it is survived if the block ends well."""
        self.injected[kind, struck] += 1
        yield
        self.survived[kind, struck] += 1

    def told(self) -> dict[str, Any]:
        """Return what the file holds."""
        faults = [
            {"fault": kind, "struck": struck, "injected": count, "survived": self.survived[kind, struck]}
            for (kind, struck), count in sorted(self.injected.items())
        ]
        kinds = dict.fromkeys(str(row["fault"]) for row in faults)
        by_fault = [
            {"fault": kind} | {what: sum(int(row[what]) for row in faults if row["fault"] == kind) for what in COUNTS}
            for kind in kinds
        ]
        return {
            "injected": self.injected.total(),
            "survived": self.survived.total(),
            "by_fault": by_fault,
            "faults": faults,
            "finished_rows": dict(sorted(self.rows.items())),
            "soak": self.soak,
            "seed": SEED,
            "measured_on": machine(),
        }

    def write(self, path: Path) -> None:
        """Write the file."""
        path.write_text(json.dumps(self.told(), indent=2, sort_keys=True) + "\n")


def machine() -> dict[str, Any]:
    """Return what the faults were survived on."""
    libraries = {name: version(name) for name in ("torch", "transformers", "trl", "dvc", "polars", "duckdb")}
    return (
        {"system": f"{platform.system()} {platform.machine()}", "cpus": os.cpu_count()}
        | {"python": platform.python_version()}
        | libraries
    )


def drawn(*what: object) -> random.Random:
    """Return the draws of one test: the suite's seed and its name decide them."""
    return random.Random("/".join(map(str, (SEED, *what))))
