-- How wide the gaps are, of the pairs that pass the filters. A bin holds its lower end, not its upper one.
-- Grain: one row per model version that learns and bin; bins of $width, one of which starts at $start.
select
    model,
    $start + floor(round((gap - $start) / $width, 6)) * $width as low,
    count(*) as n_pairs
from shown
group by model, low
order by model, low
