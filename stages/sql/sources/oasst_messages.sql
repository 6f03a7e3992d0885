-- The verdict on every message of the OpenAssistant trees: usable, or the reason why not.
-- Grain: one row per message and copy of it. Reads `messages`; `place` says in which of the sources it stands.
with numbered as (
    -- OASST2 holds trees of OASST1 again: the copy from the source that is named first counts.
    select
        *,
        row_number() over (
            partition by message_id
            order by place, text, role, lang, rank, parent_id, message_tree_id, deleted, review_result
        ) as nth
    from messages
)

select
    'oasst' as source,
    message_id,
    nth,
    parent_id,
    message_tree_id,
    role,
    text,
    rank,
    case
        when nth > 1 then 'twice'
        when message_id is null or message_tree_id is null then 'no_id'
        when lang is distinct from $language then 'other_language'
        when deleted then 'deleted'
        when review_result is distinct from true then 'not_reviewed'
        when coalesce(trim(text), '') = '' then 'no_text'
        when role not in ('prompter', 'assistant') or role is null then 'unknown_role'
        when role = 'assistant' and rank is null then 'no_rank'
    end as reason
from numbered
