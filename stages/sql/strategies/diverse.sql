-- Diverse preferences (compare arXiv 2501.18101): chosen = the best-scored response, and of several with that score the one
-- least like the prompt's other responses; rejected = the worst-scored, and of several the one most like the others.
-- A judge's scores are coarse, so many responses share the best and the worst one; among the worst the typical mistake is
-- what has most to be unlearned. The current model and, where there is one, the future model stand on both sides.
-- Grain: one row per prompt.
with usable as (
    select distinct prompt_id, generation_id, response, score
    from candidates
    where (role = 'own' or role = 'future') and finish_reason = 'stop' and score is not null
),

alike as (
    select
        a.prompt_id,
        a.generation_id,
        a.score,
        -- 1 for the same text, 0 for one with nothing in common; null, and then 0, for a response without others.
        coalesce(avg(
            1 - levenshtein(a.response, b.response)::double / greatest(length(a.response), length(b.response), 1)
        ), 0) as likeness
    from usable as a
    left join usable as b on b.prompt_id = a.prompt_id and b.generation_id <> a.generation_id
    group by a.prompt_id, a.generation_id, a.score
),

sided as (
    select
        prompt_id,
        first(generation_id order by score desc, round(likeness, 6), generation_id)     as chosen_id,
        first(generation_id order by score, round(likeness, 6) desc, generation_id)     as rejected_id
    from alike
    group by prompt_id
)

select
    p.prompt_id,
    sided.chosen_id,
    nullif(sided.rejected_id, sided.chosen_id) as rejected_id
from prompts as p
left join sided using (prompt_id)
