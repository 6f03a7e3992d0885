-- What the judge's replies on pairs of responses decide.
-- Grain: one row per game. Reads `asked` (game_id, raw, finish_reason) and `verdict(raw)` of the pairwise rubric.
-- A reply that was cut off decides nothing, whatever it says before.
with read as (
    select
        game_id,
        finish_reason,
        case when finish_reason = 'stop' then verdict(raw) end as said
    from asked
)

select
    game_id,
    said      as verdict,
    case
        when finish_reason = 'error' then 'failed'
        when finish_reason = 'length' then 'cut_off'
        when said is null then 'unparsed'
    end       as reason
from read
