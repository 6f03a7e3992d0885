-- Characters of chosen and rejected, of at most $rows pairs that pass the filters: the first by prompt, whose ids are hashes.
-- Grain: one row per arm, length of chosen and length of rejected; both in bins of $width.
with keys as (
    select pair_id, prompt_id, arm
    from shown
    order by prompt_id, pair_id
    limit $rows
),

sized as (
    select
        keys.arm,
        list_sum(list_transform(pairs.chosen, lambda message: length(message.content)))     as chosen,
        list_sum(list_transform(pairs.rejected, lambda message: length(message.content)))   as rejected
    from keys
    join pairs on pairs.prompt_id = keys.prompt_id and pairs.pair_id = keys.pair_id
)

select
    arm,
    (sized.chosen // $width) * $width                               as chosen,
    (sized.rejected // $width) * $width                             as rejected,
    count(*)                                                        as n_pairs,
    count(*) filter (sized.chosen > sized.rejected)                 as n_longer,
    count(*) filter (sized.chosen < sized.rejected)                 as n_shorter
from sized
group by 1, 2, 3
order by 1, 2, 3
