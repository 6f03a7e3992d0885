"""The whole graph on the CPU, for tiny models of the real architectures and their tokenizers and templates."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import families
import polars as pl
import pytest
import yaml
from fake_server import END, FakeServer, digest
from tiny_project import Project

from stages import models

# Sizes for two cores. Random weights say nothing that could be parsed: the distribution over the scores is read.
SMALL = {
    "prepare.oasst": [],
    "prepare.ultrafeedback": [],
    "prepare.files": ["asked.jsonl"],
    "prepare.eft_from": "files",
    "prepare.eft_prompts": 0,
    "prepare.fixed_responses": 4,
    "prepare.eval_prompts": 4,
    "prepare.ift_examples": 8,
    "prepare.splits": 1,
    "prepare.prompts_per_split": 10,
    "prepare.max_prompt_tokens": 160,
    "sft.epochs": 1,
    "sft.batch_size": 4,
    "training.rows_at_once": 2,
    "backends.transformers.tile_rows": 64,
    "generate.samples": 8,
    "generate.max_new_tokens": 160,
    "judge.way": "one_token",
    "judge.votes": 1,
    "judge.temperature": 0.0,
    "score.least_mass": 0.0,
    "training.save_dtype": "float32",
    "dpo.learning_rate": 1.0e-3,
    "dpo.epochs": 2,
    "dpo.batch_size": 4,
    "following.log_to": "none",
}


def asked() -> list[dict[str, Any]]:
    """Questions of one and of several turns, with system messages, one too long, some with rated responses."""
    rows: list[dict[str, Any]] = []
    for number in range(40):
        question = {
            "role": "user",
            "content": f"What is {number} and {number + 1}?" + " Tell me more." * (number == 5) * 90,
        }
        before = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Good day."}]
        system = [{"role": "system", "content": "Be brief."}]
        messages = system * (number % 4 == 1) + before * (number % 3 == 2) + [question]
        row: dict[str, Any] = {"messages": messages, "reference": f"It is {2 * number + 1}."}
        if number % 2:
            said = [{"response": f"It is {2 * number + k}.", "rating": 5 - k, "model": f"m{k}"} for k in range(1, 4)]
            row["responses"] = said
        rows.append(row)
    return rows


def run_small(project: Project, settings: dict[str, Any]) -> None:
    """Let DVC run the whole graph with the profile `small` and settings of its own."""
    texts = {key: json.dumps(value) if isinstance(value, list) else value for key, value in settings.items()}
    given = [word for key, text in texts.items() for word in ("-S", f"small.{key}={text}")]
    project.run("dvc", "exp", "run", "-S", "profile=small", *given)


def place(family: str, project: Project) -> Path:
    """Put a tiny model of a family and the questions into a project."""
    folder = project.folder
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked()))
    project.edit_params(lambda params: params["small"]["base"].update(template_values=families.FAMILIES[family][-1]))
    return families.make(family, folder / "given", context=2048)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "base"])
def test_the_whole_graph_runs_for_every_family(family: str, tmp_path: Path) -> None:
    project = Project(tmp_path)
    model = place(family, project)
    project.commit()
    run_small(project, SMALL | {"base_model": model.name})
    assert yaml.safe_load((tmp_path / "params.yaml").read_text())["profile"] == "small"

    pairs = pl.read_parquet(tmp_path / "data/pairs/tsr-1.parquet")
    dropped = pl.read_parquet(tmp_path / "data/dropped/tsr-1.parquet")
    assert pairs.height > 0
    assert pairs.height + dropped.height == 10
    assert {"M0", "base", "sr-1", "tsr-1"} == {path.name for path in (tmp_path / "data/models").iterdir()}
    steps = json.loads((tmp_path / "data/prompts/funnel.json").read_text())["steps"]
    assert [row["count"] for row in steps if (row["step"], row["outcome"]) == ("length", "cut")] == [1]
    made = json.loads((tmp_path / "data/models/tsr-1/made_by.json").read_text())
    assert made["training"]["adapter"] == "lora"
    page = (tmp_path / "reports/index.html").read_text()
    assert "questions within prepare.max_prompt_tokens" in page
    project.run("tsr", "verify")
    assert project.changed() == set()


# Judging in words, which one family does: learning to judge is learning words. A profile has one way and one engine of
# judging, and no reply of random weights has a score, so the server that teaches judges the rounds too.
IN_WORDS = SMALL | {
    "prepare.eft_prompts": 12,
    "judge.backend": "openai",
    "judge.way": "votes",
    "judge.votes": 2,
    "judge.temperature": 0.7,
    "sft.epochs": 3,
    "sft.learning_rate": 1.0e-3,
}
SERVER = {"api_key_env": "NO_SUCH_KEY", "concurrency": 8, "timeout_s": 20.0, "retries": 1}


class Teacher(FakeServer):
    """A judge in words. `points` are those of the responses it knows; others get what their text and the seed draw."""

    def __init__(self, points: dict[str, int | None]) -> None:
        super().__init__(models=("teacher-2026",))
        self._points = points

    def tokens(self, body: dict[str, Any]) -> list[str]:
        """Return reasons and a last line with the score; for some, reasons alone."""
        said = re.search(r"\[begin response to judge \w+\]\n(.*)\n\[end", body["messages"][-1]["content"], re.DOTALL)
        assert said, body
        drawn = digest(body)
        points = self._points.get(said[1], drawn[0] % 6 if drawn[1] % 3 else None)
        if body["max_completion_tokens"] == 1:
            return [str(points or 0), END]
        last = ["\n", "Score", ":", f" {points}"] if points is not None else []
        return ["It", " answers", " that", ".", *last, END]


def known_points(rows: Iterable[dict[str, Any]]) -> dict[str, int | None]:
    """Return what the teacher thinks of rated responses: as people do, but of every third prompt the other way round.

    Of every fourth, it has no score to tell.
    """
    points: dict[str, int | None] = {}
    for number, row in enumerate(row for row in rows if "responses" in row):
        for one in row["responses"]:
            agrees = one["rating"] + 1 if number % 3 else 5 - one["rating"]
            points[one["response"]] = agrees if number % 4 else None
    return points


def loss(folder: Path, learned: pl.DataFrame) -> float:
    """Return a model's mean loss on the tokens of judgments, in nats a token."""
    import torch

    model, tokenizer = models.load_model(folder), models.load_tokenizer(folder)
    sums, count = 0.0, 0
    for messages, reply in learned.select("messages", "reference").iter_rows():
        asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        said = tokenizer(reply, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([asked + said])).logits[0, len(asked) - 1 : -1]
        sums += torch.nn.functional.cross_entropy(logits, torch.tensor(said), reduction="sum").item()
        count += len(said)
    return sums / count


@pytest.mark.slow
def test_the_whole_graph_runs_with_a_teacher_behind_an_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chat model learns to judge from a server's judgments, and that server judges its rounds."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    project = Project(tmp_path)
    model = place("qwen", project)
    points = known_points(asked())
    with Teacher(points) as server:
        api = tmp_path / "data/models/api"
        api.mkdir(parents=True)
        (api / "endpoint.json").write_text(json.dumps({"model": "teacher-2026", "base_url": server.url}))
        settings = SERVER | {"base_url": server.url, "budget_tokens": 0, "logprobs": True}
        project.edit_params(lambda params: params.update(judge="api", teacher="api"))
        project.edit_params(lambda params: params["small"]["backends"].update(openai=settings))
        project.run("tsr", "plan")
        project.commit()
        run_small(project, IN_WORDS | {"base_model": model.name})
    data = tmp_path / "data"

    rated = pl.read_parquet(data / "generations/world/rated.parquet")
    human = pl.read_parquet(data / "scores/human/world/rated.parquet").select("generation_id", human="score")
    told = rated.join(human, on="generation_id").with_columns(
        points=pl.col("response").replace_strict(points, return_dtype=pl.Int64)
    )
    assert told.height == 3 * 12
    agrees = pl.col("points") == pl.col("human") + 1
    expected = Counter(
        told.select(
            pl.when(pl.col("points").is_null())
            .then(pl.lit("unscored"))
            .when(agrees.all().over("prompt_id"))
            .then(pl.format("score {}.0", "points"))
            .otherwise(pl.lit("other_order"))
        ).to_series()
    )
    steps = json.loads((data / "eft/funnel.json").read_text())["steps"]
    assert {row["outcome"]: row["count"] for row in steps} == expected
    assert {"score 3.0", "score 4.0", "score 5.0", "unscored", "other_order"} == set(expected)

    learned = pl.read_parquet(data / "eft/eft.parquet")
    said = [json.loads(meta) for meta in learned["meta"]]
    assert learned.height == sum(count for outcome, count in expected.items() if outcome.startswith("score "))
    assert {one["judge"] for one in said} == {"api"}
    assert learned["reference"].to_list() == [f"It answers that.\nScore: {one['score']:.0f}" for one in said]
    made = json.loads((data / "models/M0/made_by.json").read_text())
    assert (made["examples"], made["left_out"]) == (8 + learned.height, 0)
    before, after = (loss(data / "models" / name, learned) for name in ("base", "M0"))
    assert after < 0.9 * before

    scores = pl.concat([pl.read_parquet(path) for path in (data / "scores/api").glob("*/r0.parquet")])
    assert set(scores["judge"]) == {"api"}
    assert set(scores["parse_status"]) == {"ok", "partial", "unparsed"}
    pairs = pl.read_parquet(data / "pairs/tsr-1.parquet")
    dropped = pl.read_parquet(data / "dropped/tsr-1.parquet")
    assert pairs.height > 0
    assert pairs.height + dropped.height == 10
    page = (tmp_path / "reports/index.html").read_text()
    assert "judgments of rated responses, to learn from" in page
    assert "<code>api</code> judges every round" in page
    project.run("tsr", "verify")
    assert project.changed() == set()
