-- Pairs that another judge orders the other way, or sees as equal.
-- Parameters: top (rows).
-- Grain: one row per pair and other judge.
select
    p.model,
    p.pair_id,
    p.gap,
    c.judge                             as other_judge,
    round(c.score, 3)                   as other_chosen_score,
    round(r.score, 3)                   as other_rejected_score,
    round(c.score - r.score, 3)         as other_gap
from pairs as p
join scores as c on c.generation_id = p.chosen_id
join scores as r on r.generation_id = p.rejected_id and r.judge = c.judge
where c.score <= r.score
order by c.score - r.score, p.gap desc, p.pair_id, c.judge
limit $top
