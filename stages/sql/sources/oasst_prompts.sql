-- Conversations of the OpenAssistant trees up to a question, and the verdict: asked, or the reason why not.
-- Grain: one row per question. Reads `usable` (messages that can be used).
-- A conversation goes on from the best-ranked reply. One question a tree, drawn: of two, one would hold the other.
with recursive best as (
    select
        parent_id,
        arg_min(message_id, (rank, message_id)) as reply_id,
        list({'model': null::varchar, 'response': text, 'rating': (-rank)::varchar} order by rank, message_id) as replies
    from usable
    where role = 'assistant' and parent_id is not null
    group by parent_id
),

reached as (
    select
        message_id,
        message_tree_id,
        1 as turns,
        [{'role': 'user', 'content': text}] as messages
    from usable
    where role = 'prompter' and parent_id is null
    union all
    select
        q.message_id,
        q.message_tree_id,
        r.turns + 1,
        list_concat(r.messages, [{'role': 'assistant', 'content': a.text}, {'role': 'user', 'content': q.text}])
    from reached as r
    join best as b on b.parent_id = r.message_id
    join usable as a on a.message_id = b.reply_id
    join usable as q on q.parent_id = a.message_id and q.role = 'prompter'
    where r.turns < $turns
),

answered as (
    select
        r.*,
        b.replies,
        row_number() over (partition by r.message_tree_id order by md5($draw || r.message_id), r.message_id) as place
    from reached as r
    join best as b on b.parent_id = r.message_id
)

select
    'oasst' as source,
    u.message_id as key,
    a.messages,
    a.replies,
    null::varchar as reference,
    null::varchar as origin,
    case
        when r.message_id is null then 'not_reached'
        when a.message_id is null then 'no_ranked_reply'
        when a.place > 1 then 'same_tree'
    end as reason
from usable as u
left join reached as r on r.message_id = u.message_id
left join answered as a on a.message_id = u.message_id
where u.role = 'prompter'
