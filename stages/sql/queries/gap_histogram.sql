-- How wide the gaps are: pairs by gap, in steps of $width.
-- Parameters: model (a model version; empty: all), width (score points).
-- Grain: one row per model version and step.
select
    model,
    round(floor(gap / $width) * $width, 6)      as gap_from,
    count(*)                                    as pairs,
    bar(count(*), 0, max(count(*)) over (), 30) as bar
from pairs
where $model = '' or model = $model
group by model, gap_from
order by model, gap_from
