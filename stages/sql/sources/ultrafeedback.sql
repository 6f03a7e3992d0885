-- Prompts of UltraFeedback with their responses, and the verdict: asked, or the reason why not.
-- Grain: one row per row of the source, by its content and copy. Reads `rows`; `completions` is JSON.
with read as (
    select
        instruction,
        source as origin,
        list_transform(
            coalesce(from_json(
                completions,
                '[{"model": "VARCHAR", "response": "VARCHAR", "overall_score": "VARCHAR", "fine-grained_score": "VARCHAR"}]'
            ), []),
            lambda one: {
                'model': one.model,
                'response': one.response,
                'rating': case $rating
                    when 'overall_score' then one.overall_score
                    when 'fine-grained_score' then one."fine-grained_score"
                end
            }
        ) as replies,
        md5(coalesce(instruction, '') || chr(31) || coalesce(completions, '')) as key
    from rows
),

numbered as (
    select
        *,
        row_number() over (partition by key order by origin) as nth
    from read
)

select
    'ultrafeedback' as source,
    key,
    nth,
    [{'role': 'user', 'content': instruction}] as messages,
    replies,
    null::varchar as reference,
    origin,
    case
        when nth > 1 then 'twice'
        when coalesce(trim(instruction), '') = '' then 'no_text'
        when len(replies) = 0 then 'no_responses'
    end as reason
from numbered
