-- What is wrong with a strategy's choice, counted by kind: it gives one row a prompt of the split, and in it two usable
-- candidates of that prompt or null.
-- Grain: one row per kind of fault, with the first of them by prompt. Reads `prompts`, `chosen`, `chosen_rejected`.
with sided as (
    select prompt_id, 'chosen_id' as side, chosen_id as generation_id from chosen_rejected where chosen_id is not null
    union all
    select prompt_id, 'rejected_id', rejected_id from chosen_rejected where rejected_id is not null
),

faults as (
    select 1 as place, 'twice' as fault, prompt_id, null as generation_id
    from chosen_rejected
    group by prompt_id
    having count(*) > 1
    union all
    select 2, 'missing', prompt_id, null
    from prompts
    anti join chosen_rejected using (prompt_id)
    union all
    select 3, 'foreign', prompt_id, null
    from chosen_rejected
    anti join prompts using (prompt_id)
    union all
    select 4, 'itself', prompt_id, chosen_id
    from chosen_rejected
    where chosen_id = rejected_id
    union all
    select case side when 'chosen_id' then 5 else 6 end, side, s.prompt_id, generation_id
    from sided as s
    anti join (select * from chosen where finish_reason = 'stop' and score is not null) as c
        using (prompt_id, generation_id)
)

select
    place,
    fault,
    min(prompt_id)                          as prompt_id,
    arg_min(generation_id, prompt_id)       as generation_id,
    count(*)                                as n_prompts
from faults
group by place, fault
order by place
