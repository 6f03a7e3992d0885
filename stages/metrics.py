"""Small JSON files of metrics: sorted keys, six digits, so that a diff shows what changed and no more."""

import json
import math
from pathlib import Path
from typing import Any

from stages.files import write_text


def rounded(value: Any) -> Any:
    """Return `value` with every float cut to six digits after the point, and NaN as None."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value


def write_json(metrics: dict[str, Any], path: Path) -> None:
    """Write metrics atomically."""
    write_text(json.dumps(rounded(metrics), indent=2, sort_keys=True) + "\n", path)
