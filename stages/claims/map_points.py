"""The map: settings around params.yaml under which TSR is held against Self-Rewarding (map.yaml)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.errors import TsrError
from stages.yamlfile import read_yaml

POINTS = Path(__file__).with_name("map.yaml")
NAME = "map"  # of its tables, in reports/claims


@dataclass(frozen=True)
class Point:
    """One place of the map: what it changes in params.yaml, on which axis, and what that is called."""

    axis: str
    label: str
    set: dict[str, Any]


@dataclass(frozen=True)
class Map:
    """All points; `always` is changed at each of them, the middle apart, and `tie` is how close to zero a tie lies."""

    arms: str
    seeds: int
    always: dict[str, Any]
    tie: float
    points: tuple[Point, ...]

    def changed(self, point: Point) -> dict[str, Any]:
        """Return all that differs from params.yaml at a point."""
        return self.always | point.set


def read(path: Path = POINTS) -> Map:
    """Return the map of a file. Raises TsrError where two points are one, or a key is missing or unknown."""
    said = read_yaml(path, str(path))
    try:
        points = tuple(Point(**point) for point in said.pop("points"))
        found = Map(points=points, **said)
    except (KeyError, TypeError, AttributeError) as error:
        keys = "arms, seeds, always, tie, and points of axis, label, set"
        raise TsrError(f"{path}: expected {keys}: {error}") from error
    changed = [json.dumps(found.changed(point), sort_keys=True) for point in points]
    if len(set(changed)) < len(changed):
        raise TsrError(f"{path}: two points change the same; expected each once")
    return found
