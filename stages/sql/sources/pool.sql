-- What is known of each prompt: its ratings in figures, its answer to learn from, a response drawn to be shown to judges.
-- Grain: one row per prompt. Reads `asked` (prompt_id, source, reference) and `answers` (responses that are kept).
with figures as (
    select
        prompt_id,
        list_sort(list(rating) filter (rating is not null))                             as ratings,
        arg_max(nr, (rating, -nr)) filter (rating is not null)                          as best_nr,
        arg_min(nr, (rating is null, md5($draw || prompt_id || nr)))                    as drawn_nr
    from answers
    group by prompt_id
)

select
    a.prompt_id,
    a.source,
    coalesce(a.reference, best.response)                            as reference,
    coalesce(len(f.ratings), 0)                                     as n_rated,
    list_max(f.ratings)                                             as best,
    list_avg(f.ratings)                                             as mean,
    coalesce(list_var_pop(f.ratings), 0.0)                          as spread,
    coalesce(drawn.response, a.reference)                           as drawn_response,
    -- Ranks order the responses to one prompt; between prompts they compare nothing.
    case when a.source <> 'oasst' then drawn.rating end             as drawn_rating
from asked as a
left join figures as f using (prompt_id)
left join answers as best on best.prompt_id = f.prompt_id and best.nr = f.best_nr
left join answers as drawn on drawn.prompt_id = f.prompt_id and drawn.nr = f.drawn_nr
