-- Where chosen and rejected come from: present, past or future; for imported pairs, from which model version.
-- Grain: one row per model version that learns and couple of sources.
select
    model,
    coalesce(chosen_from, chosen_model)         as chosen_from,
    coalesce(rejected_from, rejected_model)     as rejected_from,
    count(*)                                    as pairs,
    round(avg(gap), 3)                          as gap
from pairs
group by all
order by all
