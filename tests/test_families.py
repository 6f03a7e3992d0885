"""The whole graph on the CPU, for tiny models of the real architectures and their tokenizers and templates."""

import json
from pathlib import Path
from typing import Any

import families
import polars as pl
import pytest
import yaml
from tiny_project import Project

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


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "qwen", "qwen3", "mistral", "base"])
def test_the_whole_graph_runs_for_every_family(family: str, tmp_path: Path) -> None:
    project = Project(tmp_path)
    model = families.make(family, tmp_path / "given", context=2048)
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked()))
    project.edit_params(lambda params: params["small"]["base"].update(template_values=families.FAMILIES[family][-1]))
    project.commit()
    wanted = SMALL | {"base_model": model.name}
    given = [f"small.{key}={json.dumps(value) if isinstance(value, list) else value}" for key, value in wanted.items()]
    project.run("dvc", "exp", "run", "-S", "profile=small", *(word for one in given for word in ("-S", one)))
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
