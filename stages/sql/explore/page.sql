-- One page of the pairs that pass the filters, in the order $sort, with their texts cut to $letters letters.
-- Grain: one row per pair, at most $rows after the first $skip.
with ranked as (
    select
        *,
        case $sort
            when 'widest gap' then -gap
            when 'narrowest gap' then gap
            when 'chosen longer' then -length_delta
            when 'chosen shorter' then length_delta
        end as rank
    from shown
),

keys as (
    select *
    from ranked
    order by rank nulls last, prompt_id, pair_id
    limit $rows offset $skip
)

select
    keys.pair_id,
    keys.prompt_id,
    keys.model,
    keys.arm,
    keys.round,
    keys.split,
    keys.strategy,
    keys.gap,
    keys.chosen_score,
    keys.rejected_score,
    keys.chosen_from,
    keys.rejected_from,
    keys.length_delta,
    left(pairs.prompt[-1].content, $letters)    as prompt,
    left(pairs.chosen[-1].content, $letters)    as chosen,
    left(pairs.rejected[-1].content, $letters)  as rejected
from keys
join pairs on pairs.prompt_id = keys.prompt_id and pairs.pair_id = keys.pair_id
order by keys.rank nulls last, keys.prompt_id, keys.pair_id
