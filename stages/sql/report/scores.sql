-- Score histogram of each round, by the side that answered. Means of several votes go to the nearest whole score.
-- Grain: one row per arm, round, side and score ('none': no vote could be read).
-- Reads `roles` (arm, round, side, judge, model, split) and `scored` (judge, model, split, score).
with counted as (
    select
        arm,
        round,
        side,
        judge,
        model,
        round(score)::bigint  as whole,
        count(*)              as responses
    from roles
    join scored using (judge, model, split)
    group by all
)

select
    arm,
    round,
    side,
    judge,
    model,
    coalesce(whole::varchar, 'none')                                as score,
    responses,
    responses / sum(responses) over (partition by arm, round, side) as share
from counted
order by arm, round, side, whole nulls last
