-- What became of the prompts: pairs, and drops by reason.
-- Grain: one row per model version and outcome.
with ended as (
    select model, 'pair' as outcome from pairs
    union all
    select model, reason as outcome from dropped
)

select
    model,
    outcome,
    count(*)                                                            as prompts,
    round(count(*) / sum(count(*)) over (partition by model), 3)::double as share
from ended
group by model, outcome
order by model, outcome <> 'pair', prompts desc, outcome
