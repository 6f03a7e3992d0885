-- Cross judge: of all couples of the current model's responses that two judges order alike, the one on which the more
-- doubtful judge sees the widest gap. The pair's scores are the first judge's.
-- Grain: one row per prompt.
with usable as (
    select
        prompt_id,
        generation_id,
        score,
        second_score
    from candidates
    where role = 'own'
        and finish_reason = 'stop'
        and score is not null
        and second_score is not null
),

couples as (
    select
        c.prompt_id,
        c.generation_id                                             as chosen_id,
        r.generation_id                                             as rejected_id,
        least(c.score - r.score, c.second_score - r.second_score)   as sure,
        c.score - r.score                                           as gap
    from usable as c
    join usable as r using (prompt_id)
    where c.score > r.score
        and c.second_score > r.second_score
),

widest as (
    select
        prompt_id,
        first(chosen_id order by sure desc, gap desc, chosen_id, rejected_id)   as chosen_id,
        first(rejected_id order by sure desc, gap desc, chosen_id, rejected_id) as rejected_id
    from couples
    group by prompt_id
)

select
    p.prompt_id,
    widest.chosen_id,
    widest.rejected_id
from prompts as p
left join widest using (prompt_id)
