-- The one response that stands for a model version where a benchmark takes one a prompt, or the reason why none does.
-- Grain: one row per prompt. Reads `prompts`, `generations`, `scores`.
-- $best: the highest score among those that ended by themselves, ties by id, as strategies choose; else sample $sample.
with offered as (
    select
        g.prompt_id,
        g.generation_id,
        g.response,
        g.finish_reason,
        s.score,
        g.finish_reason = 'stop' and s.score is not null as usable
    from generations as g
    left join scores as s using (generation_id)
    where $best or g.sample_id = $sample
),

ranked as (
    select
        *,
        row_number() over (
            partition by prompt_id
            order by case when $best then not usable end, case when $best then score end desc, generation_id
        ) as place
    from offered
),

joined as (
    select
        p.prompt_id,
        p.source                      as dataset,
        p.messages[1].content         as instruction,
        r.generation_id,
        r.response                    as output,
        r.finish_reason,
        case
            -- A benchmark's instruction is one user message; a conversation or a system prompt would be lost.
            when len(p.messages) <> 1 or p.messages[1].role <> 'user' then 'several_messages'
            when r.generation_id is null then 'no_response'
            when r.finish_reason = 'error' then 'failed'
            when $best and not r.usable then 'unscored'
        end as reason
    from prompts as p
    left join ranked as r on r.prompt_id = p.prompt_id and r.place = 1
)

select * from joined
