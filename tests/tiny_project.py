"""A copy of the repository with tiny params, and one `dvc repro` in it that the tests share."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
# What the report wants to find, a page of the docs, and the notebook of `tsr explore`.
REPORTED = ("reports/benchmarks.json", "reports/tournament/README.md", "reports/reliability.json", "reports/explore.py")
TINY = {
    "prepare": {"prompts_per_split": 24, "eval_prompts": 12, "fixed_responses": 18, "ift_examples": 300, "splits": 2}
    | {"eft_examples": 1200},
    "base": {"hidden_size": 64},
    "sft": {"steps": 120, "batch_size": 24},
    "backends": {"transformers": {"tile_rows": 32, "dtype": "float32", "device": "cpu"}},
    "generate": {"samples": 4},
    "dpo": {"batch_size": 8, "epochs": 1},
    "measure": {"gradient_pairs": 4},
    "evaluate": {"samples": 2},
}


class Project:
    """A copy of the repository with tiny params, and commands run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tracked = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split("\0")
        for name in filter(None, tracked):
            if (ROOT / name).is_file() and (not name.startswith("reports/") or name in REPORTED):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        (folder / "dvc.lock").unlink(missing_ok=True)
        self.edit_params(lambda p: p.update(arms={"sr": 1, "tsr": 1}))
        self.edit_params(lambda p: [p["micro"][block].update(keys) for block, keys in TINY.items()])
        self.run("tsr", "plan")
        self.run("git", "init", "-q", ".")
        self.commit()

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", "commit", "-qm", "state")

    def edit_params(self, change) -> None:
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        change(params)
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def run(self, *command: str, ok: bool = True) -> str:
        env = os.environ | {"PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        assert not ok or done.returncode == 0, done.stdout + done.stderr
        self.code = done.returncode
        return done.stdout + done.stderr

    def changed(self) -> set[str]:
        """Names of the stages that DVC sees as changed: the next `dvc repro` runs these."""
        return set(json.loads(self.run("dvc", "status", "--json")))
