-- Is the judge at its end? The share of responses at the top and at the bottom of the scores it gave, and the share of
-- prompts whose responses it could not tell apart.
-- Grain: one row per judge, split and model version that answered.
with ends as (
    select judge, max(score) as top, min(score) as bottom from candidates group by judge
),

by_prompt as (
    select
        judge,
        split,
        model,
        prompt_id,
        count(score)                            as scored,
        count(distinct score)                   as different,
        count(*)                                as responses,
        sum(score)                              as score,
        count(*) filter (score = ends.top)      as at_top,
        count(*) filter (score = ends.bottom)   as at_bottom
    from candidates
    join ends using (judge)
    group by judge, split, model, prompt_id
)

select
    judge,
    split,
    model,
    sum(responses)::bigint                                                      as responses,
    round(1 - sum(scored) / sum(responses), 3)                                  as unscored,
    round(sum(score) / sum(scored), 3)                                          as score,
    round(sum(at_top) / sum(scored), 3)                                         as at_top,
    round(sum(at_bottom) / sum(scored), 3)                                      as at_bottom,
    round(count(*) filter (different = 1 and scored > 1)
        / nullif(count(*) filter (scored > 1), 0), 3)                           as tied_prompts
from by_prompt
group by judge, split, model
order by judge, split, model
