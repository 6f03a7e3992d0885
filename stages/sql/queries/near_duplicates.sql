-- Responses to one prompt that say almost the same: the share of words they have in common.
-- Parameters: least_overlap (common words to all words of the two, at least), top (rows).
-- Grain: one row per couple of generations of one prompt and split.
with worded as (
    select
        split,
        prompt_id,
        model,
        generation_id,
        response,
        list_distinct(regexp_extract_all(lower(response), '[\p{L}\p{N}]+')) as words
    from generations
    where finish_reason <> 'error'
),

-- Two texts have no more words in common than the shorter one has, so their lengths rule out most couples.
couples as (
    select
        a.split,
        a.prompt_id,
        a.model                                     as model,
        b.model                                     as other_model,
        a.generation_id,
        b.generation_id                             as other_id,
        a.response = b.response                     as identical,
        len(a.words) + len(b.words)                 as words,
        len(list_intersect(a.words, b.words))       as common
    from worded as a
    join worded as b
        on a.split = b.split
        and a.prompt_id = b.prompt_id
        and a.generation_id < b.generation_id
        and (
            a.response = b.response
            or least(len(a.words), len(b.words)) / greatest(len(a.words), len(b.words)) >= $least_overlap
        )
),

weighed as (
    select
        *,
        case when identical then 1.0 else common / nullif(words - common, 0) end as overlap
    from couples
)

select
    split,
    prompt_id,
    model,
    other_model,
    generation_id,
    other_id,
    identical,
    round(overlap, 3) as overlap
from weighed
where weighed.overlap >= $least_overlap
order by weighed.overlap desc, generation_id, other_id
limit $top
