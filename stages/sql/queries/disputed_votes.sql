-- Responses on which a judge's votes disagree, the most disputed first.
-- Parameters: least_std (population standard deviation of the votes, at least), top (rows).
-- Grain: one row per generation and judge.
select
    judge,
    model,
    generation_id,
    n_votes,
    n_parsed,
    round(score, 3)      as score,
    round(score_std, 3)  as score_std
from candidates
where n_parsed > 1
    and score_std > 0
    and score_std >= $least_std
order by candidates.score_std desc, judge, generation_id
limit $top
