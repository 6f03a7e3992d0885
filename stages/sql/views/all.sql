-- For the duckdb command alone, started in the project's folder: `duckdb -init stages/sql/views/all.sql`.
.read stages/sql/views/files.sql
.read stages/sql/views/rounds.sql
.read stages/sql/views/candidates.sql
.read stages/sql/views/pairs.sql
.read stages/sql/views/models.sql
