-- How each model version did against all others.
-- Grain: one row per model version. Reads `meetings` (prompt_id, model, other, wins, ties, losses, left_out).
with sides as (
    select model, wins, ties, losses, left_out from meetings
    union all
    select other as model, losses as wins, ties, wins as losses, left_out from meetings
),

counted as (
    select
        model,
        sum(wins)::bigint     as wins,
        sum(ties)::bigint     as ties,
        sum(losses)::bigint   as losses,
        sum(left_out)::bigint as left_out
    from sides
    group by model
)

select
    *,
    (wins + ties / 2) / nullif(wins + ties + losses, 0) as points
from counted
