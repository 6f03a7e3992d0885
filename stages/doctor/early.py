"""What the stage prepare says beforehand: a context that is too short, before hours are spent on what comes first."""

import sys

from stages import models, paths
from stages.doctor.base_model import Base
from stages.doctor.checks_model import SHORTER, asked_rooms
from stages.doctor.facts import Facts
from stages.errors import TsrError
from stages.params import GivenBase, Params


def check_context(params: Params) -> None:
    """Raise TsrError where no answer or judgment can fit into the context; print a line where the longest may not.

    The base model is here by now, as the stage base left it; one that is made is the micro world's, and fits.
    """
    folder = paths.model("base")
    if not isinstance(params.block.base, GivenBase) or not folder.is_dir():
        return
    base = Base(folder, config=models.read_json(folder / "config.json"), tokenizer=models.load_tokenizer(folder))
    facts = Facts(params, base=base)
    for one in asked_rooms(facts):
        where, asking = facts.key(f"{one.role}.max_new_tokens"), getattr(params.block, one.role)
        if one.room and one.least > one.room:
            told = f"{one.what} take {one.least} tokens even where prompt and response are empty"
            raise TsrError(f"{where}: {told}; the context is {one.room}; expected less, or another model")
        if one.room and one.most > one.room:
            told = f"{one.what} take up to {one.most} tokens; the context is {one.room}"
            stops = (
                f"rows that do not fit fail, and {one.role} stops above max_failed_share {asking.max_failed_share:g}"
            )
            print(f"note: {where}: {told}: {stops}; less in {SHORTER} helps", file=sys.stderr)
