"""AlpacaEval's `model_outputs.json`: one response a prompt, of one model version and one split.

Its keys are those that the alpaca_eval package reads: instruction, output, generator, dataset, datasplit.
"""

import json
from pathlib import Path

import polars as pl

from stages import paths, tables
from stages.errors import TsrError
from stages.exporting.folder import made_by, new_folder, write_provenance
from stages.exporting.provenance import behind, checked_md5, import_note, read_lock
from stages.files import write_text
from stages.sqlrun import SQL, connect, run_file

FILE = "model_outputs.json"
ONE_RESPONSE = SQL / "export" / "one_response.sql"


def export(model: str, split: str, target: Path, *, sample: int, best: str, replace: bool) -> None:
    """Write `target/model_outputs.json`: sample `sample`, or the response that judge `best` scored highest.

    A prompt without such a response is left out and counted, with its reason. Raises TsrError where all are.
    """
    path = paths.generations(model, split)
    generations = tables.read("generations", path)
    scores = tables.read("scores", paths.scores(best, model, split)) if best else tables.frame("scores", [])
    prompts = tables.read("prompts", paths.prompts(split))
    rows = one_response(prompts, generations, scores, best=bool(best), sample=sample)
    out = rows.filter(pl.col("reason").is_null()).sort("prompt_id")
    left_out = dict(rows.drop_nulls("reason").group_by("reason").len().sort("reason").iter_rows())
    told = "".join(f"; {reason} {count}" for reason, count in left_out.items())
    if not out.height:
        raise TsrError(f"{path}: no response to write{told}")
    entries = [
        row | {"generator": model, "datasplit": split} for row in out["instruction", "output", "dataset"].to_dicts()
    ]
    cut = int((out["finish_reason"] == "length").sum())
    lock = read_lock()
    with new_folder(target, replace=replace) as folder:
        write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n", folder / FILE)
        provenance = {
            "made_by": made_by(),
            "format": "alpaca_eval",
            "dvc_lock_md5": lock.md5,
            "imported": import_note(),
            "model": model,
            "split": split,
            "response": f"best by {best}" if best else f"sample {sample}",
            "prompts": prompts.height,
            "written": out.height,
            "cut_off": cut,
            "left_out": left_out,
            "generations_md5": checked_md5(lock, path, path),
            "rests_on": behind(lock, paths.scores(best, model, split) if best else path),
        }
        write_provenance(provenance, folder)
    short = f", {cut} of them cut off at the length limit" if cut else ""
    print(f"export: {out.height} of {prompts.height} prompts in {target / FILE}{short}; left out{told or ': none'}")


def one_response(
    prompts: pl.DataFrame, generations: pl.DataFrame, scores: pl.DataFrame, *, best: bool, sample: int
) -> pl.DataFrame:
    """Return one row a prompt: the response that stands for the model version, or the reason why none does."""
    frames = {"prompts": prompts, "generations": generations, "scores": scores}
    with connect() as db:
        return run_file(db, ONE_RESPONSE, frames, {"best": best, "sample": sample})
