-- Every vote of every judge on the two responses of one pair.
-- Parameters: pair_id.
-- Grain: one row per side, judge, way and vote.
with sides as (
    select 'chosen' as side, chosen_id as generation_id from pairs where pair_id = $pair_id
    union all
    select 'rejected', rejected_id from pairs where pair_id = $pair_id
)

select
    s.side,
    j.generation_id,
    j.judge,
    j.way,
    j.vote_id,
    j.raw,
    j.digit_logprobs,
    j.given_score,
    j.finish_reason,
    j.status,
    j.seed,
    j.judge_hash,
    j.rubric_hash
from sides as s
join judgments as j using (generation_id)
order by s.side, j.judge, j.way, j.vote_id
