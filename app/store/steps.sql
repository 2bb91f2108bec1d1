-- name: records
-- What workflows recorded, for replay.
select workflow_id, seq, done, name, kind, digest, output::text, error::text, attempts, child_id, started_at,
       completed_at
from steps
where workflow_id = any (%(ids)s::text[])
order by workflow_id, done

-- name: published
-- The keys that workflows set outside of steps, in their order, for replay; and each one's last position.
select workflow_id,
       array_agg(key order by position) filter (where step is null) as keys,
       max(position) as last
from events
where workflow_id = any (%(ids)s::text[])
group by workflow_id

-- name: waits
-- What parked workflows waited for, and until when.
select workflow_id, seq, kind, deadline, attempts, error::text
from waits
where workflow_id = any (%(ids)s::text[])

-- name: page
-- Steps of one workflow in the order of their calls.
select seq, name, kind, output::text, error::text, attempts, started_at, completed_at, child_id
from steps
where workflow_id = %(id)s and seq > %(after)s
order by seq
limit %(limit)s

-- name: record
-- Record a step in the transaction of its own writes, if its workflow is still this executor's in this generation:
-- the row is held until the commit. Says which step was recorded.
with own as materialized (
    select id
    from workflows
    where id = %(id)s
      and executor_id = %(executor)s
      and generation = %(generation)s
      and status = 'RUNNING'
    for no key update
), fertile as (
    -- It got on: the losses of its process so far are none in a row any more.
    update workflows w
    set barren = 0
    from own
    where w.id = own.id and w.barren > 0
)
insert into steps (workflow_id, seq, done, name, kind, digest, output, attempts, started_at, completed_at)
select own.id, %(seq)s, %(done)s, %(name)s, %(kind)s, %(digest)s, %(output)s::json, %(attempts)s, %(started_at)s, %(completed_at)s
from own
returning seq

-- name: recorded
-- What became of a step whose commit was not answered.
select output::text
from steps
where workflow_id = %(id)s and seq = %(seq)s and done = %(done)s
