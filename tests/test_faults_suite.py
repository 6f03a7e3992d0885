"""`make test` does not run the faults; this holds what they are put in with against the code of today."""

import json
import subprocess
import sys
from pathlib import Path

FAULTS = Path(__file__).parent / "faults"
WORK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import breaking
breaking.put_in(json.loads(sys.argv[2]))
from stages.progress import progress
with progress("work", 5) as advance:
    for done in range(3):
        advance()
    advance(2, failed=1)
breaking.counted()
"""


def worked(fault: dict[str, object], place: Path) -> int:
    command = [sys.executable, "-c", WORK, str(FAULTS), json.dumps(fault)]
    return subprocess.run(command, cwd=place, check=False, timeout=60).returncode


def test_moments_are_counted_and_a_kill_is_at_its_own(tmp_path: Path) -> None:
    note = tmp_path / "moments.json"
    assert worked({"count": str(note)}, tmp_path) == 0
    assert json.loads(note.read_text())["row"] == 4
    assert worked({"at": ["row", 4]}, tmp_path) == -9
    assert worked({"at": ["row", 5]}, tmp_path) == 0


def test_the_suite_can_be_collected() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "faults", str(FAULTS)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert found.returncode == 0, found.stdout
    assert all(path.name in found.stdout for path in FAULTS.glob("test_*.py"))
