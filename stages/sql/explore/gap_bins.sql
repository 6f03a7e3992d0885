-- How wide the gaps are, of the pairs that pass the filters. A bin holds its lower end, not its upper one.
-- Grain: one row per model version that learns and bin of $width.
select
    model,
    floor(round(gap / $width, 6)) * $width  as low,
    count(*)                                as n_pairs
from shown
group by model, low
order by model, low
