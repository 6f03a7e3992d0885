-- What the judge's replies in Arena-Hard decide for the model, in either game.
-- Grain: one row per question and game. Reads `replies`; in game 1 the model is B, in game 2 it is A.
-- A clear win or defeat counts three times a slight one, as in the published score; a tie is half a win. Different
-- labels in one reply, or one that was cut off, decide nothing.
with said as (
    select
        item,
        game,
        finish_reason,
        list_distinct(regexp_extract_all(raw, '\[\[([AB][<>=]+[AB])\]\]', 1)) as labels
    from replies
),

labelled as (
    select
        item,
        game,
        finish_reason,
        case when finish_reason = 'stop' and len(labels) = 1 then labels[1] end as label
    from said
),

by_place as (
    select
        *,
        case
            when label in ('A>>B', 'A>B', 'B<A', 'B<<A') then 1.0::double
            when label in ('A=B', 'B=A') then 0.5
            when label in ('B>>A', 'B>A', 'A<B', 'A<<B') then 0.0
        end                                                            as first_points,
        case when label in ('A>>B', 'B>>A', 'A<<B', 'B<<A') then 3 else 1 end as weight
    from labelled
)

select
    item,
    game,
    case when first_points is not null then label end                  as label,
    case when game = 2 then first_points else 1 - first_points end     as points,
    case when first_points is not null then weight end                 as weight,
    case
        when finish_reason = 'error' then 'failed'
        when finish_reason = 'length' then 'cut_off'
        when first_points is null then 'unparsed'
    end                                                                as reason
from by_place
