-- The judge on responses that never change: what it gives them on average, and how often that is the truth.
-- Grain: one row per judge. Reads `judged` (judge, generation_id, score, truth).
select
    judge,
    avg(score)                                      as fixed_score,
    avg((round(score) = round(truth))::double)      as fixed_agreement
from judged
group by judge
order by judge
