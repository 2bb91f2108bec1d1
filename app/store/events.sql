-- name: board
-- The newest set of every key of one workflow, by key, from after a key on.
-- A recursive walk over the index: it visits one row a key, however long the log is.
with recursive board as (
    (
        select position, key, value, set_at
        from events
        where workflow_id = %(id)s and key > %(after)s
        order by key, position desc
        limit 1
    )
    union all
    select e.*
    from board b
    cross join lateral (
        select position, key, value, set_at
        from events
        where workflow_id = %(id)s and key > b.key
        order by key, position desc
        limit 1
    ) e
)
select position, key, value::text, set_at
from board
limit %(limit)s

-- name: log
-- The sets of one workflow in their order, from after a position on; of all keys, or of some.
select position, key, value::text, set_at
from events
where workflow_id = %(id)s
  and position > %(after)s
  and (%(keys)s::text[] is null or key = any (%(keys)s::text[]))
order by position
limit %(limit)s
