-- Views over the files of a dataset, one a table; a table without files is empty. `tsr sql` opens them; without tsr:
-- `duckdb -init stages/sql/views/all.sql`. `set variable data = 'data/imported/NAME'`, and then
-- `.read stages/sql/views/all.sql`, look into another dataset, to which the plan of the project says nothing.
set variable data = coalesce(getvariable('data'), 'data');
set variable plan = (
    select if(getvariable('data') = 'data' and count(*) > 0, 'stages/plan.yaml', '/dev/null')
    from glob('stages/plan.yaml')
);
set variable found = (
    select list(distinct name)
    from (
        select 'prompts' as name from glob(getvariable('data') || '/prompts/*.parquet')
        union all
        select 'generations' as name from glob(getvariable('data') || '/generations/*/*.parquet')
        union all
        select 'judgments' as name from glob(getvariable('data') || '/judgments/*/*/*.parquet')
        union all
        select 'scores' as name from glob(getvariable('data') || '/scores/*/*/*.parquet')
        union all
        select 'pairs' as name from glob(getvariable('data') || '/pairs/*.parquet')
        union all
        select 'dropped' as name from glob(getvariable('data') || '/dropped/*.parquet')
        union all
        select 'measures' as name from glob(getvariable('data') || '/measures/*.parquet')
        union all
        select 'games' as name from glob(getvariable('data') || '/games/*/*.parquet')
        union all
        select 'benchmarks' as name from glob(getvariable('data') || '/benchmarks/*/*.parquet')
    )
);

-- What stands in the place of a table without files: the columns of its contract, and those from the files' names.
create schema if not exists nothing;
create or replace table nothing.prompts (
    prompt_id varchar, split varchar, source varchar, messages struct(role varchar, content varchar)[],
    reference varchar, meta varchar
);
create or replace table nothing.generations (
    generation_id varchar, model varchar, model_hash varchar, prompt_id varchar, sample_id bigint,
    seed bigint, response varchar, finish_reason varchar, status varchar, error varchar, prompt_tokens bigint,
    response_tokens bigint, logprob_sum double, backend varchar, split varchar
);
create or replace table nothing.judgments (
    generation_id varchar, judge varchar, judge_hash varchar, rubric_hash varchar, way varchar,
    vote_id bigint, seed bigint, raw varchar, digit_logprobs struct(score double, logprob double)[],
    given_score double, finish_reason varchar, status varchar, error varchar, prompt_tokens bigint,
    response_tokens bigint, backend varchar, model varchar, split varchar
);
create or replace table nothing.scores (
    generation_id varchar, model varchar, judge varchar, n_votes bigint, n_parsed bigint, score double,
    score_std double, parse_status varchar, split varchar
);
create or replace table nothing.pairs (
    pair_id varchar, model varchar, strategy varchar, prompt_id varchar,
    prompt struct(role varchar, content varchar)[], chosen struct(role varchar, content varchar)[],
    rejected struct(role varchar, content varchar)[], chosen_id varchar, rejected_id varchar,
    chosen_model varchar, rejected_model varchar, chosen_score double, rejected_score double, gap double,
    length_delta bigint
);
create or replace table nothing.dropped (
    prompt_id varchar, model varchar, strategy varchar, reason varchar
);
create or replace table nothing.measures (
    pair_id varchar, model varchar, chosen_truth double, rejected_truth double, cosine double,
    cosine_centred double, feature_distance double, gradient_distance double, margin double
);
create or replace table nothing.games (
    game_id varchar, prompt_id varchar, sample_id bigint, first_model varchar, second_model varchar, first_id
    varchar, second_id varchar, judge varchar, judge_hash varchar, rubric varchar, rubric_hash varchar, way
    varchar, seed bigint, raw varchar, first_score double, second_score double, verdict varchar, reason
    varchar, error varchar, prompt_tokens bigint, response_tokens bigint, split varchar
);
create or replace table nothing.benchmarks (
    model varchar, model_hash varchar, task varchar, task_version varchar, item bigint, item_hash varchar,
    prompt_hash varchar, response varchar, filter varchar, metric varchar, value double, judge varchar,
    judge_hash varchar, raw varchar, note varchar
);

create or replace view prompts as
from query(if(list_contains(getvariable('found'), 'prompts'), $$
    from read_parquet(getvariable('data') || '/prompts/*.parquet', hive_partitioning = false)
$$, 'from nothing.prompts'));

create or replace view generations as
from query(if(list_contains(getvariable('found'), 'generations'), $$
    select
        * exclude (filename),
        parse_filename(filename, true) as split
    from read_parquet(getvariable('data') || '/generations/*/*.parquet', filename = true, hive_partitioning = false)
$$, 'from nothing.generations'));

create or replace view judgments as
from query(if(list_contains(getvariable('found'), 'judgments'), $$
    select
        * exclude (filename),
        parse_path(filename)[-2]       as model,
        parse_filename(filename, true) as split
    from read_parquet(getvariable('data') || '/judgments/*/*/*.parquet', filename = true, hive_partitioning = false)
$$, 'from nothing.judgments'));

create or replace view scores as
from query(if(list_contains(getvariable('found'), 'scores'), $$
    select
        * exclude (filename),
        parse_filename(filename, true) as split
    from read_parquet(getvariable('data') || '/scores/*/*/*.parquet', filename = true, hive_partitioning = false)
$$, 'from nothing.scores'));

create or replace view made_pairs as
from query(if(list_contains(getvariable('found'), 'pairs'), $$
    from read_parquet(getvariable('data') || '/pairs/*.parquet', hive_partitioning = false)
$$, 'from nothing.pairs'));

create or replace view dropped as
from query(if(list_contains(getvariable('found'), 'dropped'), $$
    from read_parquet(getvariable('data') || '/dropped/*.parquet', hive_partitioning = false)
$$, 'from nothing.dropped'));

create or replace view measures as
from query(if(list_contains(getvariable('found'), 'measures'), $$
    from read_parquet(getvariable('data') || '/measures/*.parquet', hive_partitioning = false)
$$, 'from nothing.measures'));

-- Made beside the default run, by `tsr tournament`, `tsr benchmark` and their like.
create or replace view games as
from query(if(list_contains(getvariable('found'), 'games'), $$
    select
        * exclude (filename),
        parse_filename(filename, true) as split
    from read_parquet(getvariable('data') || '/games/*/*.parquet', filename = true, hive_partitioning = false)
$$, 'from nothing.games'));

create or replace view benchmarks as
from query(if(list_contains(getvariable('found'), 'benchmarks'), $$
    from read_parquet(getvariable('data') || '/benchmarks/*/*.parquet', hive_partitioning = false)
$$, 'from nothing.benchmarks'));

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
