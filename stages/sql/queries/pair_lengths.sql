-- Are chosen responses longer than rejected ones? In characters, which every response has.
-- Grain: one row per model version that learns.
with sized as (
    select
        model,
        length(chosen[-1].content)      as chosen,
        length(rejected[-1].content)    as rejected
    from pairs
)

select
    model,
    count(*)                                    as pairs,
    round(avg(chosen), 1)                       as chosen_characters,
    round(avg(rejected), 1)                     as rejected_characters,
    round(avg((chosen > rejected)::int), 3)     as chosen_longer,
    round(avg((chosen < rejected)::int), 3)     as rejected_longer
from sized
group by model
order by model
