-- The verdict on every response that a source holds: kept, or the reason why not; and its rating as a number.
-- Grain: one row per response of a prompt, numbered by content. Reads `asked` (prompt_id, source, replies), `scales`.
-- A rating that is no number, or off the source's scale, is null: never a number made up.
with replies as (
    select
        prompt_id,
        source,
        unnest(replies, recursive := true)
    from asked
),

rated as (
    select
        r.prompt_id,
        r.source,
        r.model,
        r.response,
        r.rating as said,
        case when try_cast(r.rating as double) between s.low and s.high then try_cast(r.rating as double) end as rating
    from replies as r
    left join scales as s on s.source = r.source
),

numbered as (
    select
        *,
        row_number() over (partition by prompt_id order by response, model, rating, said)                  as nr,
        row_number() over (partition by prompt_id, response order by rating is null, model, rating, said)  as nth
    from rated
)

select
    prompt_id,
    nr,
    source,
    model,
    response,
    rating,
    rating is null and said is not null      as is_unread,
    case
        when coalesce(trim(response), '') = '' then 'no_text'
        when nth > 1 then 'same_text'
    end                                      as reason
from numbered
