-- Votes that are not as they should be, counted by what is wrong with them: every generation that did not fail has the
-- votes 0 .. $votes - 1, in the way $way, and nothing else has any. Where $votes is null, as for votes that were
-- imported, any number will do.
-- Grain: one row per kind of fault, with the first of them by id. Reads `generations` and `votes`.
with found as (
    select
        generation_id,
        list(vote_id)                                      as found
    from votes
    group by generation_id
),

compared as (
    select
        generation_id,
        coalesce(f.found, [])                              as found,
        case
            when g.finish_reason is null or g.finish_reason = 'error' then []
            when $votes::bigint is null then list_sort(list_distinct(f.found))
            else range($votes::bigint)
        end                                                as wanted
    from generations as g
    full join found as f using (generation_id)
),

differing as (
    select
        *
    from compared
    where found <> wanted and list_sort(found) <> wanted  -- mostly they are in order, and sorting is dear
),

faults as (
    select
        'is missing'                                       as fault,
        generation_id,
        unnest(list_filter(wanted, lambda vote: not list_contains(found, vote))) as vote_id
    from differing
    union all
    select
        'should not be there',
        generation_id,
        unnest(list_filter(list_distinct(found), lambda vote: not list_contains(wanted, vote)))
    from differing
    union all
    select
        'is there more than once',
        generation_id,
        unnest(list_filter(list_distinct(found), lambda vote: len(list_filter(found, lambda other: other = vote)) > 1))
    from differing
    union all
    select
        'is of way ' || way || ', not ' || $way,
        generation_id,
        vote_id
    from votes
    where way <> $way
)

select
    fault,
    min(generation_id)                                     as generation_id,
    arg_min(vote_id, struct_pack(generation_id, vote_id))  as vote_id,
    count(*)                                               as n_votes
from faults
group by fault
