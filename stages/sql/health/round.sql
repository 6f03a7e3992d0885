-- One round's pairs, seen before anything is learned from them: yield, gap, and where the truth is known how many are wrong.
-- Grain: one row. Reads `pairs`, `dropped`, `truth` (generation_id, truth).
with told as (
    select
        count(*)                                    as pairs,
        avg(gap)                                    as gap,
        avg(length_delta)                           as length_delta,
        avg((chosen.truth < rejected.truth)::double) as upside_down
    from pairs
    left join truth as chosen on chosen.generation_id = pairs.chosen_id
    left join truth as rejected on rejected.generation_id = pairs.rejected_id
),

lost as (
    select count(*) as dropped from dropped
)

select
    pairs / nullif(pairs + dropped, 0)              as yield,
    gap,
    upside_down,
    length_delta
from told, lost
