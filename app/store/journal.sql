-- The flush of the journal is ONE statement that is put together from the blocks that its batch needs:
--
--     with entries, [starts,] records, [rarities,] moves   answer [union all births]
--     with starts                                          births
--
-- Every insert and update asks `mine`, which comes from the locked row: what was taken over, cancelled or deleted
-- meanwhile gets nothing. It asks by `(… in …) is true`, which is looked up in a hash table; a plain `in` would be
-- planned as a join. And whatever is joined with a table is also named by `= any (…)`: the plan is made once, perhaps
-- on empty tables, where reading a whole index would seem as cheap as looking up what is wanted.
--
-- A value that is large stands beside its row, which says in `large` where in {large}.

-- name: entries
-- The rows that the batch is about, locked in the order of their ids. {skip} is `skip locked` in the fast lane; a row
-- that was skipped is not in the answer.
draft as materialized (
    select *
    from json_to_recordset(%(entries)s::json) as d (
        id text, generation int, fin text, seen int, output json, error json, wake_at timestamptz, fertile boolean
    )
), locked as materialized (
    select w.id, w.watched, d.fin, d.seen, d.output, d.error, d.wake_at, d.fertile,
           coalesce(
               w.executor_id = %(executor)s
               and w.generation = d.generation
               and (w.status = 'RUNNING' or w.status = d.fin),
               false
           ) as mine
    from draft d
    join workflows w on w.id = d.id collate "C"
    where w.id = any (%(ids)s::text[])
    order by w.id
    for no key update of w {skip}
), mine as (
    select id
    from locked
    where locked.mine
)

-- name: starts
-- New workflows. One that is there with the same token was inserted by an earlier try of this very flush; one with
-- another token leaves no row. What is there already is looked for first: an insert would wait for whoever is about
-- to change that row, and with it all the workflows of this flush. {fence} lets a child be born only while its parent
-- is mine.
started as (
    insert into workflows (
        id, name, version, status, input, input_hash, tags, executor_id, generation, start_token,
        queue, priority, partition, deduplication_id, parent_id, abort_name, abort_version, timeout,
        created_at, started_at, updated_at, deadline, wake_at, traceparent
    )
    select s.id, s.name, s.version, s.status, coalesce(({large})[s.large], s.input), decode(s.input_hash, 'hex'), s.tags,
           case when s.status = 'RUNNING' then %(executor)s end, 1, s.start_token,
           s.queue, coalesce(s.priority, 0), s.partition, s.deduplication_id, s.parent_id, s.abort_name,
           s.abort_version, s.timeout,
           now(),
           case when s.status = 'RUNNING' then now() end,
           now(),
           case when s.status = 'RUNNING' then now() + s.timeout * interval '1 second' end,
           case when s.status = 'QUEUED' then now() + coalesce(s.delay, 0) * interval '1 second' end,
           s.traceparent
    from json_to_recordset(%(starts)s::json) as s (
        id text, name text, version text, status text, input json, input_hash text, tags jsonb, start_token uuid,
        queue text, priority int, partition text, deduplication_id text, parent_id text, abort_name text,
        abort_version text, timeout double precision, delay double precision, traceparent text, large int
    )
    where (s.parent_id is null or {fence})
      and coalesce((select w.start_token = s.start_token from workflows w where w.id = s.id collate "C"), true)
    order by s.id collate "C"
    on conflict (id) do update set id = excluded.id where workflows.start_token = excluded.start_token
    returning id
)

-- name: fence
-- A child's parent is locked and mine.
(s.parent_id collate "C" in (select id from mine)) is true

-- name: records
-- What the workflows did. {again} makes a flush that may have been carried out before harmless to repeat; a first
-- try inserts plainly, so that a place taken twice is an error and not a loss.
step as (
    insert into steps (
        workflow_id, seq, done, name, kind, digest, output, error, attempts, child_id, started_at, completed_at
    )
    select s.id, s.seq, s.done, s.name, s.kind, s.digest, coalesce(({large})[s.large], s.output), s.error, s.attempts, s.child_id,
           s.started_at, s.completed_at
    from json_to_recordset(%(steps)s::json) as s (
        id text, seq int, done int, name text, kind text, digest bigint, output json, error json, attempts int,
        child_id text, started_at timestamptz, completed_at timestamptz, large int
    )
    where (s.id collate "C" in (select id from mine)) is true
    {again}
), event as (
    insert into events (workflow_id, position, key, value, step, done, set_at)
    select e.id, e.position, e.key, coalesce(({large})[e.large], e.value, 'null'), e.step, e.done, now()
    from json_to_recordset(%(events)s::json) as e (
        id text, position int, key text, value json, step int, done int, large int
    )
    where (e.id collate "C" in (select id from mine)) is true
    {again}
)

-- name: rarities
-- What most batches have none of: messages received, callbacks made, waits written down and waits that are over.
received as (
    update messages m
    set received_seq = r.seq, received_at = coalesce(m.received_at, now())
    from json_to_recordset(%(received)s::json) as r (id text, position int, seq int)
    where m.workflow_id = any (%(ids)s::text[])
      and m.position = any (%(positions)s::int[])
      and m.workflow_id = r.id collate "C"
      and m.position = r.position
      and (r.id collate "C" in (select id from mine)) is true
), callback as (
    insert into callbacks (token_hash, workflow_id, seq, topic, expires_at)
    select decode(c.token_hash, 'hex'), c.id, c.seq, c.topic, now() + c.expires * interval '1 second'
    from json_to_recordset(%(callbacks)s::json) as c (
        id text, token_hash text, seq int, topic text, expires double precision
    )
    where (c.id collate "C" in (select id from mine)) is true
    on conflict do nothing
), waiting as (
    insert into waits (workflow_id, seq, kind, target, key, deadline, attempts, error)
    select w.id, w.seq, w.kind, w.target, w.key, w.deadline, w.attempts, w.error
    from json_to_recordset(%(waits)s::json) as w (
        id text, seq int, kind text, target text, key text, deadline timestamptz, attempts int, error json
    )
    where (w.id collate "C" in (select id from mine)) is true
    on conflict (workflow_id, seq) do update
    set deadline = excluded.deadline, attempts = excluded.attempts, error = excluded.error
), waited as (
    delete from waits w
    using json_to_recordset(%(waited)s::json) as d (id text, seq int)
    where w.workflow_id = any (%(ids)s::text[])
      and w.seq = any (%(seqs)s::int[])
      and w.workflow_id = d.id collate "C"
      and w.seq = d.seq
      and (d.id collate "C" in (select id from mine)) is true
)

-- name: moves
-- Changes of status. A park holds only if no message has come since the workflow read its inbox.
moved as (
    update workflows w
    set status = coalesce(l.fin, w.status),
        output = l.output,
        error = l.error,
        barren = 0,
        wake_at = l.wake_at,
        updated_at = case when l.fin is null then w.updated_at else now() end,
        completed_at = case when l.fin is null or l.fin = 'WAITING' then w.completed_at else now() end
    from locked l
    where w.id = any (%(ids)s::text[])
      and w.id = l.id
      and l.mine
      and (l.fertile or l.fin is not null)
      and (l.fin is distinct from 'WAITING' or l.seen is null or w.inbox = l.seen)
    returning w.id
)

-- name: answer
-- What became of each entry. It reads the whole of `locked`: rows that nobody reads would not be locked.
select l.id, l.mine, l.watched, (l.id in (select id from moved)) is true as moved, false as started, now() as at
from locked l

-- name: births
-- Which starts are this batch's.
select s.id, true as mine, false as watched, true as moved, true as started, now() as at
from started s
