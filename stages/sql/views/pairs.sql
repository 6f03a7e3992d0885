-- Pairs, with where each side comes from: the present (the model that learns), the past (M0 as the anchor) or the future.
-- Null for imported data, where no plan says who played which part.
-- Grain: one row per pair.
create or replace view pairs as
select
    p.*,
    l.split,
    l.judge,
    case p.chosen_model
        when l.own then 'present'
        when l.future then 'future'
        when l.anchor then 'past'
    end as chosen_from,
    case p.rejected_model
        when l.own then 'present'
        when l.anchor then 'past'
        when l.future then 'future'
    end as rejected_from
from made_pairs as p
left join plan_lines as l on l.name = p.model and l.policy is not null;
