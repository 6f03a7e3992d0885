-- The pairs with the narrowest gaps; `tsr show PAIR_ID` tells one pair's story.
-- Parameters: model (a model version; empty: all), top (rows).
-- Grain: one row per pair.
select
    model,
    pair_id,
    round(gap, 3)                   as gap,
    round(chosen_score, 3)          as chosen_score,
    round(rejected_score, 3)        as rejected_score,
    chosen_model,
    rejected_model,
    length(chosen[-1].content)      as chosen_characters,
    length(rejected[-1].content)    as rejected_characters
from pairs
where $model = '' or model = $model
order by pairs.gap asc, pair_id
limit $top
