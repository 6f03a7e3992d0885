-- A round's verdict: its worst signal's. What is unknown has no say; but to be fine, one signal must be known that sees
-- whether chosen is told from rejected. Yield and lengths alone do not.
-- Grain: one row per run, arm and round. Reads `verdicts` (sql/health/verdicts.sql).
with ranked as (
    select
        *,
        list_position(['unknown', 'fine', 'watch', 'collapsing'], verdict) as badness
    from verdicts
)

select
    run,
    arm,
    round,
    any_value(model)                                                as model,
    any_value(judge)                                                as judge,
    case
        when max(badness) > 2 then ['unknown', 'fine', 'watch', 'collapsing'][max(badness)]
        when bool_or(verdict = 'fine' and signal in ('gap', 'upside_down', 'at_top', 'tied')) then 'fine'
        else 'unknown'
    end                                                             as verdict,
    count(*) filter (verdict = 'unknown')                           as unknown
from ranked
group by run, arm, round
order by run, arm, round
