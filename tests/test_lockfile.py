"""dvc.lock of somebody else's, read as data: what lies outside the project is refused."""

import json
from pathlib import Path

import pytest

from stages import lockfile
from stages.errors import TsrError


@pytest.mark.parametrize("path", ["../outside.parquet", "data/../../outside.parquet", "/tmp/outside.parquet", ".."])
def test_an_output_outside_the_project_is_refused(path: str, tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text(json.dumps({"stages": {"prepare": {"outs": [{"path": path, "md5": "0" * 32}]}}}))
    with pytest.raises(
        TsrError, match=r"^dvc\.lock: stage prepare: output '.*' lies outside the project; expected"
    ) as refused:
        list(lockfile.outputs(lock))
    assert "\n" not in str(refused.value)
    (tmp_path / "given.dvc").write_text(json.dumps({"outs": [{"path": path, "md5": "0" * 32}]}))
    with pytest.raises(TsrError, match=r"given\.dvc: output '.*' lies outside the project"):
        list(lockfile.added(tmp_path))


def test_one_inside_is_read(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text(json.dumps({"stages": {"prepare": {"outs": [{"path": "data/..prompts", "md5": "0" * 32}]}}}))
    assert [one.path for one in lockfile.outputs(lock)] == [Path("data/..prompts")]
