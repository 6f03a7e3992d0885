-- Where the words $words stand: in a prompt or a response, in any case of letters, or as an id of the row.
-- Grain: one row per model version that learns and prompt, whether it gave a pair or none.
with texts as (
    select
        model,
        prompt_id,
        [pair_id, prompt_id, chosen_id, rejected_id]    as ids,
        list_concat(prompt, chosen, rejected)           as messages
    from pairs
    union all
    select dropped.model, prompt_id, [prompt_id] as ids, asked.messages
    from dropped
    join (select prompt_id, any_value(messages) as messages from prompts group by prompt_id) as asked using (prompt_id)
)

select model, prompt_id
from texts
where list_contains(ids, $words)
    or len(list_filter(messages, lambda message: contains(lower(message.content), lower($words)))) > 0
