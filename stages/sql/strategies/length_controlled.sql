-- Length controlled: of all couples of the current model's responses that are of similar length and differ in score,
-- the one with the widest gap after a penalty on length. Judges like long answers; this does not pay for them.
-- Parameters: max_length_ratio (longer to shorter side, in characters), length_penalty (score points for each 100
-- characters, taken off before the gap is measured; the gap of the pair itself is that of the plain scores).
-- Grain: one row per prompt.
with usable as (
    -- Characters, not tokens: imported responses have no token counts.
    select
        prompt_id,
        generation_id,
        score,
        greatest(length(response), 1)                         as characters,
        score - $length_penalty * length(response) / 100.0    as worth
    from candidates
    where role = 'own'
        and finish_reason = 'stop'
        and score is not null
),

couples as (
    select
        c.prompt_id,
        first(c.generation_id order by c.worth - r.worth desc, c.generation_id, r.generation_id) as chosen_id,
        first(r.generation_id order by c.worth - r.worth desc, c.generation_id, r.generation_id) as rejected_id
    from usable as c
    join usable as r using (prompt_id)
    where c.score > r.score
        and c.worth > r.worth
        and greatest(c.characters, r.characters) <= $max_length_ratio * least(c.characters, r.characters)
    group by c.prompt_id
)

select
    p.prompt_id,
    couples.chosen_id,
    couples.rejected_id
from prompts as p
left join couples using (prompt_id)
