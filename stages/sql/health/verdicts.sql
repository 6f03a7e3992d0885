-- Each signal of each round against its limits: fine, watch, collapsing; unknown where there is no value, or nothing
-- to compare it with.
-- Grain: one row per run, arm, round and signal.
-- Reads `signals` (run, arm, round, model, judge, then one column a signal) and `thresholds` (a row a signal).
with long as (
    select *
    from signals
    unpivot include nulls (value for signal in (columns(* exclude (run, arm, round, model, judge))))
),

firsts as (
    select
        run,
        arm,
        signal,
        value as first
    from long
    where round = 1
),

compared as (
    select
        l.run,
        l.arm,
        l.round,
        l.model,
        l.judge,
        l.signal,
        l.value,
        case
            when t.compared = 'as it is' then l.value
            when l.round = 1 then null
            when t.compared = 'share of the first' then l.value / nullif(f.first, 0)
            when t.compared = 'change from the first' then abs(l.value - f.first)
            -- Nothing left of something is without bounds.
            when t.compared = 'times the first' and f.first > 0
                then case when l.value > 0 then greatest(l.value / f.first, f.first / l.value)
                    when l.value = 0 then 'infinity'::double end
        end as measured,
        t.place,
        t.bad,
        t.watch,
        t.collapsing
    from long as l
    join thresholds as t using (signal)
    left join firsts as f using (run, arm, signal)
)

select
    run,
    arm,
    round,
    model,
    judge,
    signal,
    value,
    measured,
    case
        when measured is null then 'unknown'
        when bad = 'low' and measured < collapsing or bad = 'high' and measured > collapsing then 'collapsing'
        when bad = 'low' and measured < watch or bad = 'high' and measured > watch then 'watch'
        else 'fine'
    end as verdict
from compared
order by run, arm, round, place
