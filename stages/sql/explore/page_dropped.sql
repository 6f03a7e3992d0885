-- One page of the dropped prompts that pass the filters, with what was there to choose from.
-- Grain: one row per model version that learns and prompt, at most $rows after the first $skip.
with keys as (
    select *
    from shown_dropped
    order by prompt_id, model
    limit $rows offset $skip
),

asked as (
    select prompt_id, any_value(messages) as messages
    from prompts
    where prompt_id in (select prompt_id from keys)
    group by prompt_id
)

select
    keys.model,
    keys.arm,
    keys.round,
    keys.split,
    keys.strategy,
    keys.prompt_id,
    keys.reason,
    left(asked.messages[-1].content, $letters) as prompt
from keys
left join asked using (prompt_id)
order by keys.prompt_id, keys.model
