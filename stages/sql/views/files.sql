-- Views over the files of a dataset, one a table. `tsr sql` opens them; without tsr: `duckdb -init stages/sql/views/all.sql`.
-- `set variable data = 'data/imported/NAME'` before that looks into another dataset.
set variable data = coalesce(getvariable('data'), 'data');
set variable plan = coalesce(getvariable('plan'), 'stages/plan.yaml');

create or replace view prompts as
select * from read_parquet(getvariable('data') || '/prompts/*.parquet');

create or replace view generations as
select
    * exclude (filename),
    parse_filename(filename, true) as split
from read_parquet(getvariable('data') || '/generations/*/*.parquet', filename = true);

create or replace view judgments as
select
    * exclude (filename),
    parse_path(filename)[-2]       as model,
    parse_filename(filename, true) as split
from read_parquet(getvariable('data') || '/judgments/*/*/*.parquet', filename = true);

create or replace view scores as
select
    * exclude (filename),
    parse_filename(filename, true) as split
from read_parquet(getvariable('data') || '/scores/*/*/*.parquet', filename = true);

create or replace view made_pairs as
select * from read_parquet(getvariable('data') || '/pairs/*.parquet');

create or replace view dropped as
select * from read_parquet(getvariable('data') || '/dropped/*.parquet');

create or replace view measures as
select * from read_parquet(getvariable('data') || '/measures/*.parquet');

-- The plan is YAML with one row a line, so that SQL can read it too.
create or replace view plan_lines as
select
    regexp_extract(line, '^  ([^:]+): ', 1)                          as name,
    nullif(regexp_extract(line, '[{ ]policy: ([^,}]+)', 1), '')      as policy,
    nullif(regexp_extract(line, '[{ ]own: ([^,}]+)', 1), '')         as own,
    nullif(regexp_extract(line, '[{ ]anchor: ([^,}]+)', 1), '')      as anchor,
    nullif(regexp_extract(line, '[{ ]future: ([^,}]+)', 1), '')      as future,
    nullif(regexp_extract(line, '[{ ]judge: ([^,}]+)', 1), '')       as judge,
    nullif(regexp_extract(line, '[{ ]split: ([^,}]+)', 1), '')       as split,
    nullif(string_split(regexp_extract(line, '^  [^:]+: \[(.*)\]$', 1), ', '), ['']) as models
from (
    select unnest(string_split(content, chr(10))) as line
    from read_text(getvariable('plan'))
)
where line like '  %: {policy: %' or line like '  %: [%';
