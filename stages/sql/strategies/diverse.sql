-- Diverse preferences (compare arXiv 2501.18101): chosen = the best-scored response, and of several with that score the one
-- least like the prompt's other responses; rejected = the worst-scored, and of several the one most like the others.
-- A judge's scores are coarse, so many responses share the best and the worst one; among the worst the typical mistake is
-- what has most to be unlearned. The current model and, where there is one, the future model stand on both sides.
-- Likeness is that of the first 400 characters, in bytes that need no change: of long texts, the whole would take hours.
-- Grain: one row per prompt.
with usable as (
    select distinct prompt_id, generation_id, left(response, 400) as opening, score
    from candidates
    where (role = 'own' or role = 'future') and finish_reason = 'stop' and score is not null
),

compared as (
    select
        one.generation_id as one_id,
        other.generation_id as other_id,
        -- 1 for the same text, 0 for one with nothing in common.
        1 - levenshtein(one.opening, other.opening)::double
            / greatest(strlen(one.opening), strlen(other.opening), 1) as likeness
    from usable as one
    join usable as other on other.prompt_id = one.prompt_id and other.generation_id > one.generation_id
),

likened as (
    select one_id as generation_id, likeness from compared
    union all
    select other_id, likeness from compared
),

alike as (
    select
        prompt_id,
        generation_id,
        score,
        coalesce(avg(likeness), 0) as likeness  -- of a response without others: 0
    from usable
    left join likened using (generation_id)
    group by prompt_id, generation_id, score
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
