"""AlpacaEval 2.0 through its package, with a scripted server as the annotator's model."""

import json
import random
from functools import partial
from pathlib import Path

import fake_server as fake
import polars as pl
import pytest
import yaml
from fake_server import FakeServer
from rows import generations, prompts

from stages import params, paths, tables
from stages.chat_bench import alpaca_eval
from stages.errors import TsrError

ROOT = Path(__file__).parents[1]
KEY = "sk-very-secret"
ASKED = [f"question {n:02}" for n in range(40)]


class Judge(FakeServer):
    """Prefers, by the log-probabilities of `m` and `M`, whichever output `better` gives the greater value."""

    better = staticmethod(len)

    def reply(self, body):
        text = body["messages"][-1]["content"]
        first, second = (text.partition(f'"{name}"')[2].partition('"""')[2].partition('"""')[0] for name in "mM")
        ahead = self.better(first) - self.better(second)
        likely, other = (-0.1, -3.0) if ahead > 0 else (-3.0, -0.1) if ahead < 0 else (-0.7, -0.7)
        top = [{"token": token, "logprob": value, "bytes": None} for token, value in (("m", likely), ("M", other))]
        reply = super().reply(body | {"max_completion_tokens": 9, "seed": 1})
        said = {"content": [{"token": "m", "logprob": likely, "bytes": None, "top_logprobs": top}]}
        message = {"role": "assistant", "content": "m"}
        reply["choices"][0] |= {"finish_reason": "length", "message": message, "logprobs": said}
        return reply


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with responses of `mine` and `other` to 40 prompts; those of `mine` are longer."""
    pytest.importorskip("alpaca_eval", reason="needs alpaca-eval: pip install 'tsr[alpaca-eval]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    told = yaml.safe_load((ROOT / "params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(told))
    tables.write("prompts", prompts(ASKED).with_columns(split=pl.lit("eval")), paths.prompts("eval"))
    draw = random.Random(1)
    for model, least in (("mine", 12), ("other", 4)):
        texts = ["x" * (least + draw.randrange(20)) for _ in ASKED]
        rows = [
            generations([f"{model}-{asked}"], model=model, prompt_id=asked, response=text)
            for asked, text in zip(ASKED, texts, strict=True)
        ]
        tables.write("generations", pl.concat(rows), paths.generations(model, "eval"))
    (tmp_path / "data/models/J").mkdir(parents=True)
    return tmp_path


def serve(home: Path, **about) -> Judge:
    server = Judge(models=("J",), **about)
    (home / "data/models/J/endpoint.json").write_text(json.dumps({"model": "J", "base_url": server.url}))
    return server


def gamed(home: Path) -> Path:
    """A table of the published form: two gamed baselines, made up."""
    rows = [
        {"model": f"g{side}", "index": n, "instruction_difficulty": (n % 7 - 3) / 3, "preference": (n % 5) / 4}
        | {"std_delta_len": (-1) ** side * (n % 3), "not_gamed_baseline": False}
        for side in (0, 1)
        for n in range(len(ASKED))
    ]
    pl.DataFrame(rows).write_csv(home / "gamed.csv")
    return home / "gamed.csv"


def published(home: Path) -> str:
    """The outputs of `other` as AlpacaEval publishes them, in an order of its own."""
    texts = dict(tables.read("generations", paths.generations("other", "eval"))["prompt_id", "response"].iter_rows())
    rows = [{"instruction": asked, "output": texts[asked], "generator": "other"} for asked in reversed(ASKED)]
    (home / "reference.json").write_text(json.dumps(rows))
    return str(home / "reference.json")


compare = partial(
    alpaca_eval.run, model="mine", split="eval", reference="other", judge="J", gamed=None, sample=0, limit=0
)
compare = partial(compare, annotator="weighted_alpaca_eval_gpt4_turbo")


def figures() -> dict:
    return json.loads(Path("reports/evaluation/mine/alpaca_eval.json").read_text())


def means() -> tuple[float, float]:
    """Mean preference by the table, and how often `mine` is longer."""
    rows = tables.read("benchmarks", paths.benchmark("mine", "alpaca_eval"))
    texts = [
        dict(tables.read("generations", paths.generations(model, "eval"))["prompt_id", "response"].iter_rows())
        for model in ("mine", "other")
    ]
    longer = [(len(texts[0][a]) > len(texts[1][a])) + 0.5 * (len(texts[0][a]) == len(texts[1][a])) for a in ASKED]
    return rows["value"].mean(), sum(longer) / len(longer)


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["published", "model version"])
def test_a_judge_that_likes_length_is_seen_through(home: Path, reference: str) -> None:
    how = {"reference": published(home), "gamed": gamed(home)} if reference == "published" else {}
    with serve(home):
        compare(params.load(), **how)
    told, (mean, longer) = figures(), means()
    assert told["metrics"]["win_rate"] == pytest.approx(100 * mean, abs=1e-4)
    assert mean == pytest.approx(0.052 + (0.948 - 0.052) * longer, abs=0.01)  # 1 / (1 + exp(2.9)) for the shorter one
    assert told["metrics"]["length_controlled_winrate"] < told["metrics"]["win_rate"] - 10
    assert told["length_control"] == ("published" if reference == "published" else "length alone")
    assert told["without_preference"] == 0
    for path in home.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_twice_the_same_bytes(home: Path) -> None:
    before = b""
    with serve(home):
        for _ in range(2):
            compare(params.load(), limit=10)
            now = paths.benchmark("mine", "alpaca_eval").read_bytes() + json.dumps(figures()).encode()
            assert not before or now == before
            before = now
    assert figures()["metrics"]["n_total"] == 10


BAD = {
    "no model": ({"model": "nobody"}, "generations/nobody/eval.parquet: no such file"),
    "no judge": ({"judge": "nobody"}, "data/models/nobody: no such model folder"),
    "no annotator": ({"annotator": "nobody"}, "expected an annotator of alpaca-eval"),
    "no reference": ({"reference": "no.json"}, "no.json: expected a JSON list of objects with the texts instruction"),
    "other reference": ({"reference": "short.json"}, "no response to 1 of 6 prompts of short.json"),
    "too few": ({"limit": 3}, "3 prompts; expected 5 or more"),
    "no length table": ({"reference": "whole.json", "gamed": Path("no.csv")}, "no.csv: not a readable CSV file"),
    "other length table": ({"reference": "whole.json", "gamed": Path("short.csv")}, "column 'index' is missing"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BAD)
def test_what_is_missing_is_told_before_any_work(home: Path, kind: str) -> None:
    changes, told = BAD[kind]
    whole = json.loads(Path(published(home)).read_text())
    (home / "whole.json").write_text(json.dumps(whole))
    (home / "short.json").write_text(json.dumps([*whole[:5], {"instruction": "new", "output": "x"}]))
    (home / "short.csv").write_text("model,instruction_difficulty\na,1\n")
    with serve(home) as server:
        with pytest.raises(TsrError) as refused:
            compare(params.load(), **changes)
        assert not server.asked
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_a_missing_key_and_a_refusing_server_are_told_in_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(home, always=fake.error(401, f"bad key {KEY}")), pytest.raises(TsrError) as refused:
        compare(params.load(), limit=5)
    assert "AuthenticationError" in str(refused.value)
    assert KEY not in str(refused.value)
    assert not Path("reports").exists()
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(TsrError, match=r"no API key; set the variable that backends\.openai\.api_key_env names"):
        compare(params.load(), judge="")
