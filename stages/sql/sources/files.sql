-- Prompts of the user's files with their references and responses, and the verdict: asked, or the reason why not.
-- Grain: one row per row of the source, by its content and copy. Reads `rows`; `messages` and `responses` are JSON.
with read as (
    select
        nullif(trim(system), '') as system,
        nullif(trim(reference), '') as reference,
        case
            when messages is null then [{'role': 'user', 'content': prompt}]
            else coalesce(from_json(messages, '[{"role": "VARCHAR", "content": "VARCHAR"}]'), [])
        end as given,
        coalesce(
            from_json(responses, '[{"model": "VARCHAR", "response": "VARCHAR", "rating": "VARCHAR"}]'), []
        ) as replies,
        md5(json_array(prompt, messages, system, reference, responses)::varchar) as key
    from rows
),

numbered as (
    select
        *,
        row_number() over (partition by key) as nth,
        list_transform(given, lambda one: coalesce(one.role, '')) as roles,
        list_filter(given, lambda one: coalesce(trim(one.content), '') = '') as empty
    from read
)

select
    'files' as source,
    key,
    nth,
    case when system is null then given else list_concat([{'role': 'system', 'content': system}], given) end as messages,
    replies,
    reference,
    null::varchar as origin,
    case
        when nth > 1 then 'twice'
        when len(given) = 0 or len(empty) > 0 then 'no_text'
        when not list_has_all(['system', 'user', 'assistant'], roles) then 'unknown_role'
        when system is not null and list_contains(roles, 'system') then 'two_systems'
        when roles[-1] <> 'user' then 'no_question'
    end as reason
from numbered
