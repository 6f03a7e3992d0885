-- The current model's own responses of a round, as its judge sees them and as they are.
-- Grain: one row. Reads `own` (prompt_id, score, truth, response_tokens) and `high()` of the rubric.
with by_prompt as (
    select
        prompt_id,
        min(score) = max(score) as is_tied
    from own
    group by prompt_id
    having count(score) > 1
)

select
    avg(score)                                              as own_score,
    avg(truth)                                              as own_truth,
    avg((score = high())::double)                           as at_top,
    avg((score is null)::double)                            as unscored,
    avg(response_tokens)                                    as own_tokens,
    (select avg(is_tied::double) from by_prompt)            as tied
from own
