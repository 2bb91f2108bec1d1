-- name: flush
-- One flush of the journal: everything that the executor's workflows recorded since the last one, in one commit.
-- Every insert and update below joins `mine`, which comes from the locked row: what was taken over, cancelled or
-- deleted meanwhile gets nothing. {skip} is `skip locked` in the fast lane; a row that was skipped comes back as
-- neither mine nor moved. {again} makes a flush that may have been carried out before harmless to repeat.
with draft as materialized (
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
    order by w.id
    for no key update of w {skip}
), started as (
    insert into workflows (
        id, name, version, status, input, input_hash, tags, executor_id, generation, start_token,
        queue, priority, partition, deduplication_id, parent_id, abort_name, abort_version, timeout,
        created_at, started_at, updated_at, deadline, wake_at, traceparent
    )
    select s.id, s.name, s.version, s.status, s.input, decode(s.input_hash, 'hex'), s.tags,
           case when s.status = 'RUNNING' then %(executor)s end, 1, s.start_token,
           s.queue, s.priority, s.partition, s.deduplication_id, s.parent_id, s.abort_name, s.abort_version, s.timeout,
           now(),
           case when s.status = 'RUNNING' then now() end,
           now(),
           case when s.status = 'RUNNING' then now() + s.timeout * interval '1 second' end,
           case when s.status = 'QUEUED' then now() + s.delay * interval '1 second' end,
           s.traceparent
    from json_to_recordset(%(starts)s::json) as s (
        id text, name text, version text, status text, input json, input_hash text, tags jsonb, start_token uuid,
        queue text, priority int, partition text, deduplication_id text, parent_id text, abort_name text,
        abort_version text, timeout double precision, delay double precision, traceparent text
    )
    left join locked l on l.id = s.parent_id collate "C"
    where s.parent_id is null or l.mine
    order by s.id collate "C"
    on conflict (id) do update set id = excluded.id where workflows.start_token = excluded.start_token
    returning id
), step as (
    insert into steps (
        workflow_id, seq, done, name, kind, digest, output, error, attempts, child_id, started_at, completed_at
    )
    select s.id, s.seq, s.done, s.name, s.kind, s.digest, s.output, s.error, s.attempts, s.child_id,
           s.started_at, s.completed_at
    from json_to_recordset(%(steps)s::json) as s (
        id text, seq int, done int, name text, kind text, digest bigint, output json, error json, attempts int,
        child_id text, started_at timestamptz, completed_at timestamptz
    )
    join locked l on l.id = s.id collate "C" and l.mine
    {again}
), event as (
    insert into events (workflow_id, position, key, value, step, done, set_at)
    select e.id, e.position, e.key, coalesce(e.value, 'null'), e.step, e.done, now()
    from json_to_recordset(%(events)s::json) as e (id text, position int, key text, value json, step int, done int)
    join locked l on l.id = e.id collate "C" and l.mine
    {again}
), received as (
    update messages m
    set received_seq = r.seq, received_at = now()
    from json_to_recordset(%(received)s::json) as r (id text, position int, seq int)
    join locked l on l.id = r.id collate "C" and l.mine
    where m.workflow_id = r.id collate "C" and m.position = r.position
), callback as (
    insert into callbacks (token_hash, workflow_id, seq, topic, expires_at)
    select decode(c.token_hash, 'hex'), c.id, c.seq, c.topic, now() + c.expires * interval '1 second'
    from json_to_recordset(%(callbacks)s::json) as c (
        id text, token_hash text, seq int, topic text, expires double precision
    )
    join locked l on l.id = c.id collate "C" and l.mine
    on conflict do nothing
), waiting as (
    insert into waits (workflow_id, seq, kind, target, key, deadline, attempts, error)
    select w.id, w.seq, w.kind, w.target, w.key, w.deadline, w.attempts, w.error
    from json_to_recordset(%(waits)s::json) as w (
        id text, seq int, kind text, target text, key text, deadline timestamptz, attempts int, error json
    )
    join locked l on l.id = w.id collate "C" and l.mine
    on conflict (workflow_id, seq) do update
    set deadline = excluded.deadline, attempts = excluded.attempts, error = excluded.error
), waited as (
    delete from waits w
    using json_to_recordset(%(waited)s::json) as d (id text, seq int)
    join locked l on l.id = d.id collate "C" and l.mine
    where w.workflow_id = d.id collate "C" and w.seq = d.seq
), moved as (
    update workflows w
    set status = coalesce(l.fin, w.status),
        output = l.output,
        error = l.error,
        barren = 0,
        wake_at = l.wake_at,
        updated_at = case when l.fin is null then w.updated_at else now() end,
        completed_at = case when l.fin is null or l.fin = 'WAITING' then w.completed_at else now() end
    from locked l
    where w.id = l.id
      and l.mine
      and (l.fertile or l.fin is not null)
      and (l.fin is distinct from 'WAITING' or l.seen is null or w.inbox = l.seen)
    returning w.id
)
select l.id, l.mine, l.watched, m.id is not null as moved, false as started, now() as at
from locked l
left join moved m on m.id = l.id
union all
select s.id, true, false, true, true, now()
from started s
