-- What the true score did in the trainings on pairs judged so: by signal and verdict; the rounds' own
-- verdicts have names for signals. A gain counts beyond two standard errors. Rounds that arms share are one training.
-- Grain: one row per signal and verdict.
-- Reads `verdicts` and `rounds` (sql/health/verdicts.sql, rounds.sql) and `gains` (run, arm, round, gain, se).
with judged as (
    select run, arm, round, model, signal, verdict from verdicts
    union all
    select run, arm, round, model, signal, verdict from rounds
),

once as (
    -- A training that is one arm's second round and another's first is judged against two first rounds.
    select distinct
        run,
        model,
        signal,
        verdict,
        gain,
        se
    from judged
    join gains using (run, arm, round)
)

select
    signal,
    verdict,
    list_position(['fine', 'watch', 'collapsing', 'unknown'], verdict)  as place,
    count(*)                                                            as trainings,
    count(*) filter (gain > 2 * se)                                     as rose,
    count(*) filter (abs(gain) <= 2 * se)                               as stalled,
    count(*) filter (gain < -2 * se)                                    as fell,
    avg(gain)                                                           as gain
from once
group by signal, verdict
order by signal, place
