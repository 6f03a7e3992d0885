"""Where a strategy's SQL lies: in stages/sql/strategies by its name, or in the project as a file of a user's."""

from pathlib import Path

from stages import paths
from stages.errors import TsrError
from stages.sqlrun import SQL

OWN = Path("stages/sql/strategies")  # as dvc.yaml names it


def file_of(strategy: str) -> str:
    """Return the path that dvc.yaml depends on: `strategy` is a name, or a path that ends in .sql."""
    return strategy if strategy.endswith(".sql") else f"{OWN}/{paths.checked(strategy)}.sql"


def name_of(strategy: str) -> str:
    """Return what stands in the tables as the strategy: the file's name without .sql."""
    return paths.checked(Path(strategy).stem if strategy.endswith(".sql") else strategy)


def found(strategy: str) -> Path:
    """Return the SQL file of a strategy. Raises TsrError where there is none, with the names that there are."""
    path = Path(strategy) if strategy.endswith(".sql") else SQL / "strategies" / f"{paths.checked(strategy)}.sql"
    if path.is_file():
        return path
    known = ", ".join(sorted(p.stem for p in (SQL / "strategies").glob("*.sql")))
    raise TsrError(f"{path}: no such strategy; expected a file that ends in .sql, or one of {known}")
