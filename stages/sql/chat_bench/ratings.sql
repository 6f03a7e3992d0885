-- What the judge's replies in MT-Bench grade an answer with.
-- Grain: one row per question and turn. Reads `replies`. A number outside 1 to 10, two that differ, and a reply that was
-- cut off are no grade.
with said as (
    select
        item,
        turn,
        finish_reason,
        list_distinct(list_transform(
            regexp_extract_all(raw, '\[\[([0-9]+(?:\.[0-9]+)?)\]\]', 1), lambda number: try_cast(number as double)
        )) as ratings
    from replies
),

one as (
    select
        *,
        case when finish_reason = 'stop' and len(ratings) = 1 and ratings[1] between 1 and 10 then ratings[1] end as rating
    from said
)

select
    item,
    turn,
    rating,
    case
        when finish_reason = 'error' then 'failed'
        when finish_reason = 'length' then 'cut_off'
        when rating is null then 'unparsed'
    end as reason
from one
