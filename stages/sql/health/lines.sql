-- Did the first warning of a line come before its first training without a gain, of two standard errors or more?
-- In time: in that round, whose pairs are judged before they are learned from, or earlier. For nothing: every training
-- of the line gained. Unknown: every round of it was.
-- Grain: one row per signal and warning.
-- Reads `rounds` (sql/health/rounds.sql, under a signal's name) and `gains` (run, arm, round, gain, se).
with warnings as (
    select unnest(['watch', 'collapsing']) as warning
),

lines as (
    select
        r.signal,
        w.warning,
        r.run,
        r.arm,
        min(r.round) filter (r.verdict = 'collapsing' or r.verdict = w.warning)     as warned,
        bool_and(r.verdict = 'unknown')                                             as blind,
        min(r.round) filter (g.gain <= 2 * g.se)                                    as stopped
    from rounds as r
    join gains as g using (run, arm, round)
    cross join warnings as w
    group by r.signal, w.warning, r.run, r.arm
)

select
    signal,
    warning,
    count(*) filter (warned <= stopped)                         as in_time,
    count(*) filter (warned > stopped)                          as late,
    count(*) filter (warned is null and stopped is not null and not blind) as missed,
    count(*) filter (warned is not null and stopped is null)    as for_nothing,
    count(*) filter (warned is null and stopped is null and not blind) as quiet,
    count(*) filter (blind)                                     as unknown
from lines
group by signal, warning
order by signal, warning desc
