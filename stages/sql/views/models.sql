-- Model versions: their weights, what they learned from, and how much of their work is kept.
-- Grain: one row per model version that answered or learned.
create or replace view models as
with answered as (
    select
        model,
        max(model_hash)             as model_hash,
        count(*)                    as generations,
        count(distinct prompt_id)   as prompts
    from generations
    group by model
),

judged as (
    select
        judge                       as model,
        max(judge_hash)             as judge_hash,
        count(*)                    as judgments
    from judgments
    group by judge
),

learned as (
    select
        model,
        any_value(strategy)         as strategy,
        count(*)                    as pairs,
        avg(gap)                    as gap
    from made_pairs
    group by model
),

names as (
    select model from answered
    union
    select model from judged
    union
    select model from learned
)

select
    n.model,
    coalesce(a.model_hash, j.judge_hash)    as model_hash,
    l.policy,
    t.strategy,
    l.judge,
    l.split,
    t.pairs,
    t.gap,
    coalesce(a.prompts, 0)                  as prompts,
    coalesce(a.generations, 0)              as generations,
    coalesce(j.judgments, 0)                as judgments
from names as n
left join answered as a using (model)
left join judged as j using (model)
left join learned as t using (model)
left join plan_lines as l on l.name = n.model and l.policy is not null;
