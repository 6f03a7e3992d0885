"""Two runs at once: the same stage twice, over the same outputs."""

import pytest
from broken_project import Broken
from pipeline_file import STAGES
from record import Record, drawn

ASKS = ("generate", "judge", "evaluate")


@pytest.mark.parametrize("kind", STAGES)
def test_the_same_stage_twice_at_once_makes_the_same_bytes(broken: Broken, record: Record, kind: str) -> None:
    """Both end well, or the later one says in one line what was in its way; no row is made twice."""
    step, draw = broken.step(kind), drawn("two", kind)
    for apart in (0.0, draw.random() * step.seconds):
        broken.forget()
        broken.remove(step)
        with record.fault("two runs at once", kind):
            first = broken.start(step)
            first.ended_within(apart)
            second = broken.start(step)
            for run in (first, second):
                code, told = run.ended()
                assert code == 0, told
            broken.check(step)
            if kind in ASKS:
                shards = (broken.folder / ".tsr/rows").rglob("*.rows")
                keys = [line[9:41] for shard in shards for line in shard.read_bytes().splitlines()]
                assert len(keys) == len(set(keys))
            assert not list((broken.folder / "data").rglob(".*.tmp"))
