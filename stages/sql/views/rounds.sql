-- Which model version each round of each arm ends in. Empty for imported data, which has no plan.
-- Grain: one row per arm and round (counted from 1).
create or replace view rounds as
with ends as (
    select
        name                                as arm,
        unnest(models)                      as model,
        unnest(range(len(models)))          as round
    from plan_lines
    where models is not null
)

select
    arm,
    round,
    model
from ends
where round > 0;
