-- Prompts $low .. $high - 1 of $n, in the order of their ids.
select
    format('{:016x}', k * step + (hash(k, 'prompt') % step::ubigint)::bigint)      as prompt_id,
    'r0'                                                                           as split,
    'made'                                                                         as source,
    [{'role': 'user', 'content': 'Prompt ' || k || ': ' || text}]                  as messages,
    null::varchar                                                                  as reference,
    '{}'                                                                           as meta
from (select k, 9223372036854775807 // $n::bigint as step from range($low::bigint, $high::bigint) as t(k))
join bank on piece = (hash(k, 'asked') % $pieces::ubigint)::bigint
