"""Bad input: `tsr doctor` finds it, and so does the stage at its start, in one line, before any work is lost."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import families
import pytest
import rows
import yaml
from fake_server import FakeServer, error
from test_families import SMALL, asked

from stages import cli, params, paths, plan, tables

ROOT = Path(__file__).parents[1]
CANARY = "sk-canary-0123456789"
HUB = "Qwen/Qwen2.5-0.5B@" + 40 * "0"
DATA = "openbmb/UltraFeedback@" + 40 * "0"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model of two families, as published."""
    folder = tmp_path_factory.mktemp("published")
    for family in ("qwen", "base"):
        families.make(family, folder / family)
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose profile `small` names a tiny model and a file of prompts."""
    for name in ("TSR_DATA", "TSR_STORE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HF_TOKEN", "SOME_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(published / "qwen", "given")
    Path("asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked()))
    said = yaml.safe_load((ROOT / "params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(said | {"profile": "small", "arms": {"sr": 1}}))
    engine = said["paper"]["backends"]["openai"] | {"api_key_env": "SOME_KEY", "retries": 0}
    change(**SMALL, base_model="given", backends__openai=engine)
    for folder in (".dvc", "stages"):
        Path(folder).mkdir()
    plan.write(plan.of(params.load()))
    return tmp_path


def change(**keys: Any) -> None:
    """Set keys of the profile, written a.b.c or a__b__c."""
    said = yaml.safe_load(Path("params.yaml").read_text())
    for key, value in keys.items():
        *path, last = key.replace("__", ".").split(".")
        block = said["small"]
        for part in path:
            block = block[part]
        block[last] = value
    Path("params.yaml").write_text(yaml.safe_dump(said))


def judge_named(name: str) -> None:
    """Let a folder in data/models judge."""
    said = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(said | {"judge": name}))
    plan.write(plan.of(params.load()))


def served(url: str, name: str = "gpt") -> None:
    """Let a server judge, asked with the key in SOME_KEY."""
    paths.model("api").mkdir(parents=True)
    (paths.model("api") / "endpoint.json").write_text(json.dumps({"model": name, "base_url": url}))
    change(**{"judge.backend": "openai"})
    judge_named("api")


def answered() -> None:
    """Put prompts and responses where the stage judge reads them."""
    tables.write("prompts", rows.prompts(["p"]), paths.prompts("r0"))
    tables.write("generations", rows.generations(["g"]), paths.generations("M0", "r0"))


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run a command; return exit code, what it printed and what it said on stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["tsr", *words])
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
    told = capsys.readouterr()
    return code, told.out, told.err


def no_template() -> None:
    """Put a model whose tokenizer has neither chat template nor pad token in the place of the given one."""
    config = json.loads(Path("given/tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    config["pad_token"] = None
    Path("given/tokenizer_config.json").write_text(json.dumps(config))
    Path("given/chat_template.jinja").unlink(missing_ok=True)


def template(text: str) -> Callable[[], None]:
    """Make a chat template of one's own."""

    def put() -> None:
        Path("own.jinja").write_text(text)
        change(base__chat_template="own.jinja")

    return put


def no_end() -> None:
    """Take the end token away."""
    config = json.loads(Path("given/tokenizer_config.json").read_text())
    Path("given/tokenizer_config.json").write_text(json.dumps(config | {"eos_token": None}))


def judge_without_template() -> None:
    no_template()
    shutil.copytree("given", paths.model("other"))
    judge_named("other")
    answered()


def short_context() -> None:
    """Give the model a context that a judge prompt does not fit into."""
    config = json.loads(Path("given/config.json").read_text()) | {"max_position_embeddings": 640}
    Path("given/config.json").write_text(json.dumps(config))
    shutil.copytree("given", paths.model("M0"))
    answered()


def given_config(**keys: Any) -> None:
    """Change the given model's configuration."""
    Path("given/config.json").write_text(json.dumps(json.loads(Path("given/config.json").read_text()) | keys))


def given_weights(change: Callable[[dict[str, Any]], object]) -> None:
    """Change the given model's weights."""
    from safetensors.torch import load_file, save_file

    held = load_file("given/model.safetensors")
    change(held)
    save_file(held, "given/model.safetensors", metadata={"format": "pt"})


def refusing_system_messages() -> None:
    refuse = "{%- if messages[0]['role'] == 'system' %}{{- raise_exception('no system role') }}{%- endif %}"
    template(refuse + families.QWEN)()
    shutil.copytree("given", paths.model("base"))
    tokenizer = families.tokenizer("qwen")
    tokenizer.chat_template = refuse + families.QWEN
    tokenizer.save_pretrained(paths.model("base"))


@dataclass(frozen=True)
class Bad:
    """What is wrong, what doctor says of it, which stage stumbles over it and what that says, as parts of a line."""

    spoil: Callable[[], object]
    found: str
    stage: tuple[str, ...]
    told: str


SPOILT = {
    "a missing folder": Bad(
        lambda: change(base_model="gone"),
        "'gone' is no folder, and no hub id",
        ("base",),
        "'gone' is no folder, and no",
    ),
    "weights that are not safetensors": Bad(
        lambda: Path("given/model.safetensors").rename("given/pytorch_model.bin"),
        "expected weights as safetensors; it has pytorch_model.bin, which is not read",
        ("base",),
        "expected weights as safetensors; it has pytorch_model.bin, which is not read",
    ),
    "a tokenizer without an end token": Bad(no_end, "has no end token", ("base",), "has no end token"),
    "a template that is broken": Bad(
        template("{% for m in messages %}"),
        "template refuses a conversation",
        ("base",),
        "template refuses a conversation",
    ),
    "a template with BOS twice": Bad(
        lambda: (
            shutil.rmtree("given"),
            families.make("mistral", Path("given")),
            template("{{ bos_token }}" + families.MISTRAL)(),
        ),
        "gives 2 BOS tokens; expected one",
        ("base",),
        "gives 2 BOS tokens; expected one",
    ),
    "a judge without a chat template": Bad(
        judge_without_template,
        "other: the tokenizer has no chat template",
        ("judge", "other", "M0", "r0"),
        "no chat template",
    ),
    "a template that refuses system messages": Bad(
        refusing_system_messages,
        "refuses a system message: no system role",
        ("prepare",),
        "template refuses a prompt: ",
    ),
    "a context shorter than the judge prompt": Bad(
        short_context,
        "rubric, prompt, response and reply take up to ",
        ("judge", "M0", "M0", "r0"),
        "do not fit into the context of 640",
    ),
    "columns that differ": Bad(
        lambda: Path("asked.jsonl").write_text('{"question": "One?"}\n'),
        "column 'prompt' or 'messages' is missing, or null in all of 1 rows; expected prompt or messages",
        ("prepare",),
        "column 'prompt' or 'messages' is missing, or null in all of 1 rows; expected prompt or messages",
    ),
    "a file that is not there": Bad(
        lambda: change(**{"prepare.files": ["gone.jsonl"]}),
        "gone.jsonl: no such file or folder; expected one",
        ("prepare",),
        "gone.jsonl: no such file or folder; expected one",
    ),
    "a launch configuration that is not there": Bad(
        lambda: change(**{"training.launch": "gone.yaml"}),
        "small.training.launch: gone.yaml: no such file",
        ("sft",),
        "training.launch: no file gone.yaml; expected one for accelerate",
    ),
    "a launch configuration that is none": Bad(
        lambda: (
            Path("own.yaml").write_text("learning_rate: 1\n"),
            change(**{"training.launch": "own.yaml"}),
        ),
        "small.training.launch: own.yaml: cannot be read by accelerate: A `distributed_type` must be specified",
        ("sft",),
        "training.launch: own.yaml: cannot be read by accelerate: A `distributed_type` must be specified",
    ),
    "a launch configuration without keys": Bad(
        lambda: (Path("own.yaml").write_text("just words\n"), change(**{"training.launch": "own.yaml"})),
        "small.training.launch: own.yaml: has no keys such as distributed_type",
        ("sft",),
        "training.launch: own.yaml: has no keys such as distributed_type; expected a configuration of accelerate",
    ),
    "a launch configuration of no processes": Bad(
        lambda: (
            Path("own.yaml").write_text("distributed_type: MULTI_GPU\n"),
            change(**{"training.launch": "own.yaml"}),
        ),
        "small.training.launch: own.yaml: num_processes is missing or below 1",
        ("sft",),
        "training.launch: own.yaml: num_processes is missing or below 1",
    ),
    "an architecture that nobody knows": Bad(
        lambda: given_config(model_type="qwen99"),
        "model_type 'qwen99' is no language model that the installed transformers knows",
        ("base",),
        "model_type 'qwen99' is no language model that the installed transformers knows",
    ),
    "a weight that is not there": Bad(
        lambda: given_weights(lambda held: held.pop("model.norm.weight")),
        "given/model.safetensors: lacks model.norm.weight; expected the weights that given/config.json asks for",
        ("base",),
        "given/model.safetensors: lacks model.norm.weight; expected the weights that given/config.json asks for",
    ),
    "weights of another shape": Bad(
        lambda: given_config(intermediate_size=48),
        "has another shape of model.layers.0.mlp.down_proj.weight (32 x 64, not 32 x 48), ",
        ("base",),
        "has another shape of model.layers.0.mlp.down_proj.weight (32 x 64, not 32 x 48), ",
    ),
    "a password in an endpoint": Bad(
        lambda: (served(f"http://me:{CANARY}@127.0.0.1:9/v1"), answered()),
        "endpoint.json: base_url holds a user or password; expected the URL alone",
        ("judge", "api", "M0", "r0"),
        "endpoint.json: base_url holds a user or password; expected the URL alone",
    ),
    "a key in an endpoint": Bad(
        lambda: (served(f"http://127.0.0.1:9/v1?key={CANARY}"), answered()),
        "endpoint.json: base_url holds more than a path, which may be a key; expected the URL alone",
        ("judge", "api", "M0", "r0"),
        "endpoint.json: base_url holds more than a path, which may be a key; expected the URL alone",
    ),
    "a context shorter than an empty judge prompt": Bad(
        lambda: (short_context(), shutil.copytree("given", paths.model("base"))),
        "rubric, prompt, response and reply take up to ",
        ("prepare",),
        "tokens even where prompt and response are empty; the context is 640",
    ),
    "a GPU that is not there": Bad(
        lambda: (
            change(**{"backends.transformers.device": "cuda"}),
            shutil.copytree("given", paths.model("M0")),
            answered(),
        ),
        "asks for a GPU, and torch finds none",
        ("judge", "M0", "M0", "r0"),
        "device: cuda, but torch finds no GPU; expected one, or cpu, or auto",
    ),
    "a judge without weights for an engine of weights": Bad(
        lambda: (served("http://127.0.0.1:9/v1"), change(**{"judge.backend": "transformers"}), answered()),
        "has no weights, only endpoint.json",
        ("judge", "api", "M0", "r0"),
        "only the backend openai can ask it",
    ),
    "a server that is not there": Bad(
        lambda: (served("http://127.0.0.1:9/v1"), answered()),
        "http://127.0.0.1:9/v1: the server cannot be reached",
        ("judge", "api", "M0", "r0"),
        "http://127.0.0.1:9/v1: the server cannot be reached",
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_doctor_and_the_stage_say_it_in_one_line(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    bad = SPOILT[kind]
    code, told, _ = command(capsys, "doctor")
    assert [line for line in told.splitlines() if line.startswith("would fail")] == []
    assert code == 0
    bad.spoil()
    before = set(Path("data").rglob("*"))

    code, told, said = command(capsys, "doctor")
    problems = [line for line in told.splitlines() if line.startswith("would fail")]
    assert code == 2
    assert any(bad.found in line for line in problems), problems
    assert (len(problems), said) == (1, ""), problems

    code, _, said = command(capsys, *bad.stage)
    assert code == 2
    assert said.splitlines()[-1].startswith("tsr: ") and bad.told in said.splitlines()[-1], said
    assert "Traceback" not in said
    assert CANARY not in told + said
    assert set(Path("data").rglob("*")) <= before | {Path("data")}, "a stage that stops at once leaves nothing behind"


def test_a_base_model_without_template_and_pad_is_taken_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    no_template()
    code, told, _ = command(capsys, "doctor")
    assert code == 0
    assert "the tokenizer has none: stages/templates/plain.jinja is used" in told
    assert "the tokenizer has no pad token: <|endoftext|> is used\n" in told
    assert command(capsys, "base")[0] == 0


class Hub(BaseHTTPRequestHandler):
    """A hub that answers everything with `status`, and with the error code that hubs put in a header."""

    status, reason = 500, ""

    def do_GET(self) -> None:
        self.send_response(self.status)
        if self.reason:
            self.send_header("X-Error-Code", self.reason)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def hub_at(url: str) -> Iterator[None]:
    """Let the hub's clients ask `url`; they read where the hub is when they are imported."""
    import datasets
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", lambda seconds: None)  # between their tries
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "ENDPOINT", url)
        patch.setattr(datasets.config, "HF_ENDPOINT", url)
        patch.setattr(constants, "HF_HUB_CACHE", str(Path("hub").absolute()))
        yield


@pytest.mark.parametrize("kind", ["offline", "refused"])
def test_an_unreachable_hub(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    change(**{"base_model": HUB, "prepare.ultrafeedback": [DATA], "prepare.files": []})
    shutil.copytree("given", paths.model("base"))
    with hub_at(f"http://me:{CANARY}@127.0.0.1:9") if kind == "refused" else nullcontext():
        code, told, _ = command(capsys, "doctor")
        assert code == 2
        why = "HF_HUB_OFFLINE forbids to ask the hub" if kind == "offline" else "the hub cannot be asked: ConnectError"
        for name in (HUB, DATA):
            assert f"{name} is not in the local cache, and {why}" in told
        for stage, name in (("base", HUB), ("prepare", DATA)):
            code, _, said = command(capsys, stage)
            assert code == 2
            assert name in said.splitlines()[-1] and "cannot be had from the hub" in said.splitlines()[-1], said
            assert CANARY not in told + said
            assert "Traceback" not in said


@pytest.mark.parametrize(
    ("status", "reason", "told"),
    [
        (403, "GatedRepo", "is gated; expected a token in HF_TOKEN whose owner was given access to it"),
        (404, "RepoNotFound", "is not on the hub, or private; expected a token in HF_TOKEN that may read it"),
        (404, "RevisionNotFound", f"has no commit {40 * '0'} on the hub"),
        (500, "", "is not in the local cache, and the hub cannot be asked: HfHubHTTPError"),
    ],
)
def test_what_the_hub_refuses(
    status: int, reason: str, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change(base_model=HUB)
    monkeypatch.setattr(Hub, "status", status)
    monkeypatch.setattr(Hub, "reason", reason)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    with hub_at(f"http://127.0.0.1:{server.server_port}"):
        code, said, _ = command(capsys, "doctor")
    server.shutdown()
    server.server_close()
    assert code == 2
    assert f"{HUB} {told}" in said
    assert CANARY not in said


def test_a_missing_key(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY")
    with FakeServer(models=("gpt",), listing=error(401, f"No key: {CANARY}")) as server:
        served(server.url)
        answered()
        code, told, _ = command(capsys, "doctor")
        assert code == 2
        assert f"{server.url}: the server refuses the key, HTTP status 401; expected its key in SOME_KEY" in told
        assert "SOME_KEY is not set; a local server may want no key" in told
        code, _, said = command(capsys, "judge", "api", "M0", "r0")
        assert code == 2
        assert said == f"tsr: {server.url}: the server answered with HTTP status 401; check the key in SOME_KEY\n"
        assert server.asked == []


def test_a_remote_server_is_not_asked_without_a_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOME_KEY")
    served("https://api.example.com/v1")
    code, told, _ = command(capsys, "doctor")
    assert code == 2
    assert "SOME_KEY is not set, and api.example.com is no local server; expected the key in that variable" in told


def test_a_server_that_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer(models=("gpt",)) as server:
        served(server.url)
        code, told, _ = command(capsys, "doctor")
        assert (code, server.asked) == (0, [])
        assert f"{server.url}: is there\n" in told
    with FakeServer(models=("other",)) as server:
        (paths.model("api") / "endpoint.json").write_text(json.dumps({"model": "gpt", "base_url": server.url}))
        code, told, _ = command(capsys, "doctor")
        assert code == 2
        assert "the server has no model 'gpt'; it lists: other" in told


def everything_written(folder: Path) -> dict[Path, str]:
    """Return the text of all files in a folder."""
    return {path: path.read_bytes().decode(errors="replace") for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
def test_no_key_is_told_or_written(status: int, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a server answers, its words with the key in them included."""
    fault = error(status, f"Bearer {CANARY} is refused", code=CANARY, param=CANARY) if status != 200 else None
    with FakeServer(models=("gpt",), **({"always": fault} if fault else {})) as server:
        served(server.url)
        answered()
        told = command(capsys, "doctor"), command(capsys, "doctor", "--format", "json")
        judged = command(capsys, "judge", "api", "M0", "r0")
        assert server.keys == [f"Bearer {CANARY}"] * len(server.asked)
        assert len(server.asked) == 1
    assert judged[0] == (0 if status == 200 else 2)
    assert CANARY not in str(told) + str(judged)
    assert [path for path, text in everything_written(here).items() if CANARY in text] == []


PASTED = {
    "a password in the URL": ({"backends.openai.base_url": f"https://me:{CANARY}@host/v1"}, "holds a user or password"),
    "the same without a scheme": ({"backends.openai.base_url": f"me:{CANARY}@host/v1"}, "holds a user or password"),
    "one with a slash in it": (
        {"backends.openai.base_url": f"https://me:a/{CANARY}@host/v1"},
        "holds a user or passwo",
    ),
    "in a URL that is none": ({"backends.openai.base_url": f"https:/me:{CANARY}@host/v1"}, "holds a user or password"),
    "a key in the URL": (
        {"backends.openai.base_url": f"https://host/v1?key={CANARY}"},
        "holds more than a path, which",
    ),
    "the key for its variable": ({"backends.openai.api_key_env": CANARY}, "is no name of a variable; expected one"),
}


@pytest.mark.parametrize("kind", PASTED)
def test_a_secret_in_params_is_refused_and_not_repeated(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """DVC would copy it to dvc.lock."""
    changed, why = PASTED[kind]
    change(**changed)
    for words in (["doctor"], ["base"], ["plan", "--check"]):
        code, told, said = command(capsys, *words)
        assert code == 2
        assert why in told + said
        assert CANARY not in told + said


def test_a_context_that_the_longest_rows_do_not_fit_into_is_noted_by_prepare(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An empty prompt fits, the longest does not: rows may fail, and the run may still come to its end."""
    given_config(max_position_embeddings=1400)
    assert command(capsys, "base")[0] == 0
    code, _, said = command(capsys, "prepare")
    assert code == 0
    [line] = [line for line in said.splitlines() if line.startswith("note: ")]
    assert "small.judge.max_new_tokens: rubric, prompt, response and reply take up to " in line
    assert "the context is 1400: rows that do not fit fail, and judge stops above max_failed_share" in line
    code, told, _ = command(capsys, "doctor")
    assert code == 2
    assert "tokens; the context is 1400; expected less in prepare.max_prompt_tokens" in told


@pytest.mark.parametrize("stage", ["base", "prepare"])
def test_an_unreachable_hub_is_told_without_waiting(
    stage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clients' own tries wait half a minute between them."""
    change(**{"base_model": HUB, "prepare.ultrafeedback": [DATA], "prepare.files": []})
    shutil.copytree("given", paths.model("base"))
    with hub_at("http://127.0.0.1:9"):
        waited: list[float] = []
        monkeypatch.setattr("time.sleep", waited.append)
        code, _, said = command(capsys, stage)
    assert code == 2
    assert "cannot be had from the hub: http://127.0.0.1:9 cannot be reached: ConnectError" in said
    assert waited == []


def test_a_hub_that_answers_badly_is_still_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it answers to the short question, it is there: the client's own question counts."""
    change(base_model=HUB)
    monkeypatch.setattr(Hub, "status", 404)
    monkeypatch.setattr(Hub, "reason", "RevisionNotFound")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    with hub_at(f"http://127.0.0.1:{server.server_port}"):
        code, _, said = command(capsys, "base")
    server.shutdown()
    server.server_close()
    assert code == 2
    assert "cannot be had from the hub: 404" in said and "cannot be reached" not in said


def test_what_a_library_logs_and_what_nobody_caught_holds_no_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import logging

    logs = logging.StreamHandler(sys.stderr)
    logging.getLogger("some.library").addHandler(logs)

    def fault(*_: object) -> None:
        logs.setStream(sys.stderr)
        logging.getLogger("some.library").warning("Retrying %s", f"https://me:{CANARY}x@host/v1")
        raise RuntimeError(f"refused: Bearer {CANARY} at https://me:hidden@host/v1?token=hidden")

    monkeypatch.setattr("stages.base.run", fault)
    made = logging.getLogRecordFactory()
    try:
        code, told, said = command(capsys, "base")
    finally:
        logging.setLogRecordFactory(made)
        logging.getLogger("some.library").removeHandler(logs)
    assert code == 1
    assert "Traceback (most recent call last)" in said
    assert said.splitlines()[-1] == "RuntimeError: refused: Bearer *** at https://***@host/v1?token=***"
    assert "Retrying https://***@host/v1" in said
    assert CANARY not in told + said and "hidden@" not in said


def test_a_connection_that_nobody_caught_is_told_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients' errors are OSErrors without a number: not of our output."""

    def fault(*_: object) -> None:
        raise OSError(f"no connection with {CANARY}")

    monkeypatch.setattr("stages.base.run", fault)
    code, _, said = command(capsys, "base")
    assert code == 1
    assert said.splitlines()[-1] == "OSError: no connection with ***"
