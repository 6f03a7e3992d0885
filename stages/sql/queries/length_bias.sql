-- Does the judge pay for length? Correlation of score and length, over all responses and within prompts.
-- Length is in characters, which every response has.
-- Grain: one row per judge and model version that answered.
with sized as (
    select
        judge,
        model,
        prompt_id,
        score,
        length(response)::double as characters
    from candidates
    where score is not null
        and finish_reason = 'stop'
),

centred as (
    select
        *,
        score - avg(score) over (partition by judge, model, prompt_id)           as score_off,
        characters - avg(characters) over (partition by judge, model, prompt_id) as characters_off
    from sized
)

select
    judge,
    model,
    count(*)                                                            as responses,
    round(avg(characters), 1)                                           as characters,
    case when count(distinct characters) > 1 and count(distinct score) > 1
        then round(corr(score, characters), 3) end                      as correlation,
    case when max(abs(characters_off)) > 1e-9 and max(abs(score_off)) > 1e-9
        then round(corr(score_off, characters_off), 3) end              as within_prompts
from centred
group by judge, model
order by judge, model
