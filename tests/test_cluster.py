"""Jobs on other machines: scripts that their own tools take, and that meet at a DVC remote."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from tiny_project import ROOT, Project

SLURM = ROOT / "stages/cluster/slurm.sh"
SKY = ROOT / "stages/cluster/sky.yaml"
# As `sbatch --help` has them.
OPTIONS = {
    "job-name": r"\w+",
    "nodes": r"\d+",
    "ntasks": r"\d+",
    "cpus-per-task": r"\d+",
    "mem": r"\d+[KMGT]?",
    "gres": r"gpu:\d+",
    "time": r"\d+:\d\d:\d\d",
    "signal": r"B:[A-Z0-9]+@\d+",
    "output": r"[\w%.-]+",
    "open-mode": r"append|truncate",
}
SLURM_CONF = """ClusterName=none
SlurmctldHost=localhost
AuthType=auth/none
CredType=cred/none
NodeName=localhost
PartitionName=none Nodes=localhost Default=YES
"""


def test_scripts_are_bash() -> None:
    task = yaml.safe_load(SKY.read_text())
    for text in (SLURM.read_text(), task["setup"], task["run"]):
        checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
    assert f"bash {SLURM.relative_to(ROOT)} $STAGES" in task["run"]
    assert set(re.findall(r"\$(\w+)", task["setup"] + task["run"])) == set(task["envs"])


def test_options_stand_where_slurm_reads_them() -> None:
    """Before the first command; what follows is not read, and no quoting is undone."""
    lines = SLURM.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    asked = [line for line in lines if line.startswith("#SBATCH")]
    assert asked == [line for line in lines[:first] if line.startswith("#SBATCH")]
    for line in asked:
        name, _, value = line.removeprefix("#SBATCH --").partition("=")
        assert re.fullmatch(OPTIONS[name], value), line
    assert len(asked) == len(OPTIONS)


def test_shellcheck_finds_nothing() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("needs ShellCheck: it comes with the extra `dev`")
    checked = subprocess.run(["shellcheck", str(SLURM)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_slurm_takes_the_options(tmp_path: Path) -> None:
    """`sbatch` reads them before it looks for a controller; one that is wrong ends it there."""
    if not shutil.which("sbatch"):
        pytest.skip("needs Slurm's sbatch")
    (tmp_path / "slurm.conf").write_text(SLURM_CONF)
    env = {"SLURM_CONF": str(tmp_path / "slurm.conf")} | os.environ
    wrong = tmp_path / "wrong.sh"
    wrong.write_text(SLURM.read_text().replace("--time=", "--time=x"))
    told = []
    for script in (SLURM, wrong):
        done = subprocess.run(
            ["sbatch", "--test-only", str(script)], env=env, capture_output=True, text=True, check=False, timeout=120
        )
        told.append(done.stdout + done.stderr)
    assert not re.search("unrecognized|[Ii]nvalid", told[0]), told[0]
    assert "Invalid --time specification" in told[1]


def test_skypilot_takes_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where it notes things
    sky = pytest.importorskip("sky", reason="needs SkyPilot: pip install skypilot")
    task = sky.Task.from_yaml(str(SKY))
    assert set(task.envs) == {"STAGES", "EXTRAS"}
    assert len(task.resources) == 1
    (tmp_path / "wrong.yaml").write_text(SKY.read_text().replace("accelerators:", "acelerators:"))
    with pytest.raises(ValueError, match="acelerators"):
        sky.Task.from_yaml(str(tmp_path / "wrong.yaml"))


# --- the script for real, as plain bash ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A commit without results: of a finished run, whose results and run cache lie in a remote."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(project.folder, folder / "tsr", symlinks=True)
    made = Project.__new__(Project)
    made.folder = folder / "tsr"
    made.run("dvc", "remote", "add", "-q", "--default", "store", str(folder / "store"))
    made.run("dvc", "push", "-q", "--run-cache")
    forget(made)
    made.run("git", "rm", "-q", "dvc.lock")
    made.commit()
    return made


def forget(made: Project) -> None:
    """Leave a checkout as one where nothing ever ran."""
    for path in [*(made.folder / "data").iterdir(), made.folder / ".dvc/cache", made.folder / ".dvc/tmp"]:
        if path.is_dir() and path.name != "imported":
            shutil.rmtree(path)
    (made.folder / "dvc.lock").unlink(missing_ok=True)


def job(made: Project, tmp_path: Path, *stages: str) -> str:
    """Run the script to its end, which must be a good one; nothing may stay in the node's own folder."""
    (tmp_path / "node").mkdir(exist_ok=True)
    told = made.run("env", f"TMPDIR={tmp_path / 'node'}", "bash", str(SLURM.relative_to(ROOT)), *stages)
    assert not list((tmp_path / "node").glob("tsr.*"))
    return told


@pytest.mark.slow
def test_a_job_from_nothing_leaves_its_results_in_the_remote(tmp_path: Path) -> None:
    """One stage and the three that it rests on; at home they come from the run cache, for no dvc.lock came back."""
    (tmp_path / "tsr").mkdir()
    made = Project(tmp_path / "tsr")
    made.run("dvc", "remote", "add", "-q", "--default", "store", str(tmp_path / "store"))
    made.commit()
    assert "run: 4 stages, 4 ran, 0 taken from the run cache" in job(made, tmp_path, "score@base.world.rated")
    assert not (made.folder / "dvc.lock").exists()
    told = made.run("tsr", "run", "--pull", "score@base.world.rated")
    assert "run: 4 stages, 0 ran, 4 taken from the run cache" in told


@pytest.mark.slow
def test_jobs_meet_at_the_remote(home: Project, project: Project, tmp_path: Path) -> None:
    """The whole graph, all of it made elsewhere; then one stage that changed; then both at home, where nothing runs."""
    known = len(project.run("dvc", "stage", "list", "--name-only").split())
    told = job(home, tmp_path)
    ran = f"run: {known} stages, 1 ran, {known - 1} taken from the run cache"
    assert ran in told, told  # the report is kept in git
    assert not (home.folder / "dvc.lock").exists()
    assert f"{known - 1} taken from the run cache" in home.run("tsr", "run", "--pull")
    assert (home.folder / "dvc.lock").read_bytes() == (project.folder / "dvc.lock").read_bytes()

    home.edit_params(lambda p: p["micro"]["pair"].update(min_gap=0.5))
    home.run("git", "commit", "-qam", "changed", "--author", "t <t@example.invalid>")
    assert "1 ran" in job(home, tmp_path, "pair@sr-1")
    told = home.run("tsr", "run", "--pull", "pair@sr-1")
    assert "0 ran, 1 taken from the run cache" in told


@pytest.fixture
def started(home: Project, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A job from nothing, under another seed, that has finished its first stage."""
    forget(home)
    home.edit_params(lambda p: p.update(seed=8))
    home.run("git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", "commit", "-qam", "seed")
    env = os.environ | {"PYTHONPATH": str(home.folder), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    log = tmp_path / "job.log"
    with log.open("w") as output:
        process = subprocess.Popen(["bash", str(SLURM)], cwd=home.folder, env=env, stdout=output, stderr=output)
    until = time.monotonic() + 300
    while "1/" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until
        time.sleep(0.1)
    yield process
    for one in [*psutil.Process(process.pid).children(recursive=True), process] if process.poll() is None else ():
        one.kill()


@pytest.mark.slow
def test_a_job_whose_time_is_up_pushes_what_is_finished(
    started: "subprocess.Popen[str]", home: Project, tmp_path: Path
) -> None:
    below = psutil.Process(started.pid).children(recursive=True)
    started.send_signal(signal.SIGTERM)
    assert started.wait(timeout=300) == 128 + signal.SIGTERM, (tmp_path / "job.log").read_text()
    assert not [one for one in below if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert not list(tmp_path.glob("tsr.*"))
    assert "1 stages, 0 ran, 1 taken from the run cache" in home.run("tsr", "run", "--pull", "base")
