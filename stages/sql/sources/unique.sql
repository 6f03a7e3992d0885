-- Of prompts that differ by white space alone, one stays; `reason` is null for that one.
-- Grain: one row per source and key. Reads `asked` (source, key, messages, replies).
-- The user's own files go first, then the source with more responses to the prompt.
with squeezed as (
    select
        source,
        key,
        len(replies) as responses,
        list_position(['files', 'oasst', 'ultrafeedback'], source) as turn,
        md5(list_transform(
            messages,
            lambda one: {'role': one.role, 'content': trim(regexp_replace(one.content, '\s+', ' ', 'g'))}
        )::varchar) as text
    from asked
)

select
    source,
    key,
    case
        when row_number() over (partition by text order by turn, responses desc, key) > 1 then 'duplicate'
    end as reason
from squeezed
