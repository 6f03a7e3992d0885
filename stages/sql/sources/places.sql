-- Which split each prompt goes to, or the reason why to none. The rules are those of docs/data-sources.md, in turn.
-- Grain: one row per prompt. Reads `pool`. A draw is the order of a hash of seed and prompt_id, never a position.
with drawn as (
    select
        *,
        md5($draw || prompt_id) as draw
    from pool
),

-- 1. Judging is learned from prompts on whose responses the ratings differ most.
by_spread as (
    select
        *,
        row_number() over (partition by source = $eft_from and spread > 0 order by spread desc, draw) as place
    from drawn
),

rated as (
    select prompt_id from by_spread where source = $eft_from and spread > 0 and place <= $eft_prompts
),

-- 2. The fixed set: one response a prompt, balanced over the ratings, those without one last.
by_turn as (
    select
        *,
        row_number() over (partition by drawn_rating order by draw) as turn
    from drawn
    where drawn_response is not null and prompt_id not in (from rated)
),

fixed as (
    select prompt_id
    from by_turn
    order by drawn_rating is null, turn, draw
    limit $fixed_responses
),

-- 3. Of UltraFeedback the best-scored stay: by the best response, then by the mean of all.
by_score as (
    select
        *,
        row_number() over (partition by source order by best desc nulls last, mean desc nulls last, draw) as place
    from drawn
    where prompt_id not in (from rated) and prompt_id not in (from fixed)
),

judged as (
    select
        *,
        case
            when source <> 'ultrafeedback' then null
            when n_rated = 0 then 'no_rating'
            when place > $best_prompts then 'below_best'
        end as reason
    from by_score
),

-- 4. The rest is drawn: held-out prompts, then those with an answer to learn from, then the rounds.
held_out as (
    select prompt_id from judged where reason is null order by draw limit $eval_prompts
),

ift as (
    select prompt_id
    from judged
    where reason is null and reference is not null and prompt_id not in (from held_out)
    order by draw
    limit $ift_examples
),

rounds as (
    select
        prompt_id,
        (row_number() over (order by draw) - 1) // $prompts_per_split as round
    from judged
    where reason is null and prompt_id not in (from held_out) and prompt_id not in (from ift)
)

select
    d.prompt_id,
    d.source,
    case
        when d.prompt_id in (from rated) then 'rated'
        when d.prompt_id in (from fixed) then 'fixed'
        when d.prompt_id in (from held_out) then 'eval'
        when d.prompt_id in (from ift) then 'ift'
        when r.round < $splits then 'r' || r.round
    end as split,
    coalesce(j.reason, case when r.round >= $splits then 'spare' end) as reason
from drawn as d
left join judged as j using (prompt_id)
left join rounds as r using (prompt_id)
