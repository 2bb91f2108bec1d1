-- name: get
-- Whole rows of workflows, numbered as they were asked for; one that does not exist leaves no row.
select w.id, left(w.start_token::text, 8) as run, w.name, w.version, w.status, w.input::text, w.output::text,
       w.error::text, w.tags::text, w.queue, w.priority, w.partition, w.deduplication_id, w.parent_id, w.forked_from,
       w.schedule, w.attempts, w.created_at, w.started_at, w.updated_at, w.completed_at, w.deadline,
       case when w.status = 'QUEUED' and w.wake_at <= now() then null else w.wake_at end as wake_at,
       w.input_hash, r.n
from unnest(%(ids)s::text[]) with ordinality as r (id, n)
join workflows w on w.id = r.id collate "C" and w.id = any (%(ids)s::text[])

-- name: glance
-- Where workflows stand and the newest set of one key of each: what a waiting read looks at.
select r.n, w.status, left(w.start_token::text, 8) as run, w.error::text,
       (select position from events where workflow_id = w.id order by position desc limit 1) as last,
       e.position, e.value::text, e.set_at
from unnest(%(ids)s::text[], %(keys)s::text[]) with ordinality as r (id, key, n)
join workflows w on w.id = r.id collate "C" and w.id = any (%(ids)s::text[])
left join lateral (
    select position, value, set_at
    from events
    where workflow_id = w.id and key = r.key collate "C"
    order by position desc
    limit 1
) e on true

-- name: claim
-- Make the due ones that this executor can run its own: queued, or waiting with a timer that has run out. Of those
-- that are suspected of ending their processes, one, and only if it is asked for.
-- The CTEs must not be folded into the update, or their limits would no longer bound the rows that are locked.
with suspect as materialized (
    select w.id
    from workflows w
    where %(suspect)s
      and w.status = 'QUEUED'
      and w.barren >= 3
      and w.wake_at <= now()
      and exists (
          select from unnest(%(names)s::text[], %(versions)s::text[]) as d (name, version)
          where d.name = w.name and d.version = w.version
      )
    order by w.wake_at
    limit 1
    for no key update of w skip locked
), due as materialized (
    select w.id
    from workflows w
    where w.status in ('QUEUED', 'WAITING')
      and w.wake_at is not null
      and w.wake_at <= now()
      and w.barren < 3
      and exists (
          select from unnest(%(names)s::text[], %(versions)s::text[]) as d (name, version)
          where d.name = w.name and d.version = w.version
      )
    order by w.wake_at
    limit %(limit)s - (select count(*) from suspect)
    for no key update of w skip locked
), taken as (
    select id from suspect
    union all
    select id from due
)
update workflows w
set status = 'RUNNING',
    executor_id = %(executor)s,
    generation = w.generation + 1,
    started_at = coalesce(w.started_at, now()),
    deadline = coalesce(w.deadline, now() + w.timeout * interval '1 second'),
    updated_at = now(),
    wake_at = null
from taken
where w.id = taken.id
returning w.id, w.name, w.version, w.generation, w.start_token::text, w.input::text, w.inbox, w.attempts, w.barren,
          w.started_at, w.traceparent

-- name: next_due
-- When the next queued or parked one is due. What was due already when it was last claimed is left out: nobody has
-- room for it, or has it registered.
select extract(epoch from min(wake_at) - now())::float8 as seconds
from workflows
where status in ('QUEUED', 'WAITING') and wake_at is not null and wake_at > %(since)s

-- name: take_over
-- Make running ones of lost executors this executor's own (or queue them for later). Lost is who is dead, or was dead
-- and is forgotten: an executor may start one more before it hears of its own death. What they recorded is read in the
-- next statement: this one's snapshot may be older than the last commit of the old owner.
with lost as materialized (
    select w.id
    from workflows w
    where w.status = 'RUNNING'
      -- As a hashed lookup and not as a join: a row that was taken over meanwhile is asked again.
      and (w.executor_id in (select id from executors where alive)) is not true
      and exists (
          select from unnest(%(names)s::text[], %(versions)s::text[]) as d (name, version)
          where d.name = w.name and d.version = w.version
      )
    order by w.id
    limit %(limit)s
    for no key update of w skip locked
)
update workflows w
set executor_id = %(executor)s,
    generation = w.generation + 1,
    attempts = w.attempts + 1,
    barren = w.barren + 1,
    -- Whoever was there each time that a process was lost is suspected: it is kept apart for a growing while, and then
    -- runs as the only suspect of its process.
    status = case when w.barren >= 2 then 'QUEUED' else 'RUNNING' end,
    wake_at = case when w.barren >= 2 then now() + least(2 ^ (w.barren - 2), 60) * interval '1 second' end
from lost
where w.id = lost.id
  and w.status = 'RUNNING'
returning w.id, w.name, w.version, w.generation, w.start_token::text, w.input::text, w.inbox, w.attempts, w.barren,
          w.started_at, w.traceparent, w.status

-- name: any_lost
-- Whether there is anything left to take over.
select exists (
    select
    from workflows w
    where w.status = 'RUNNING'
      and (w.executor_id in (select id from executors where alive)) is not true
      and exists (
          select from unnest(%(names)s::text[], %(versions)s::text[]) as d (name, version)
          where d.name = w.name and d.version = w.version
      )
) as lost

-- name: adopt
-- Take over from oneself: rows that say running and mine, of which this process knows nothing.
with orphan as materialized (
    select w.id
    from unnest(%(ids)s::text[], %(generations)s::int[]) as o (id, generation)
    join workflows w on w.id = o.id collate "C" and w.id = any (%(ids)s::text[]) and w.generation = o.generation
    where w.executor_id = %(executor)s and w.status = 'RUNNING'
    order by w.id
    for no key update of w skip locked
)
update workflows w
set generation = w.generation + 1
from orphan
where w.id = orphan.id
returning w.id, w.name, w.version, w.generation, w.start_token::text, w.input::text, w.inbox, w.attempts, w.barren,
          w.started_at, w.traceparent

-- name: owned
-- Which of these an executor runs in these generations.
select w.id
from unnest(%(ids)s::text[], %(generations)s::int[]) as o (id, generation)
join workflows w on w.id = o.id collate "C" and w.id = any (%(ids)s::text[])
where w.generation = o.generation and w.executor_id = %(executor)s and w.status = 'RUNNING'

-- name: release
-- Hand everything that this executor runs to whoever has room.
with own as materialized (
    select w.id
    from workflows w
    where w.executor_id = %(executor)s and w.status = 'RUNNING'
    order by w.id
    for no key update of w
)
update workflows w
set status = 'QUEUED', wake_at = now(), updated_at = now()
from own
where w.id = own.id
returning w.id

-- name: wake
-- Queue those of the given that are parked.
with parked as materialized (
    select w.id
    from workflows w
    where w.id = any (%(ids)s::text[]) and w.status = 'WAITING'
    order by w.id
    for no key update of w
)
update workflows w
set status = 'QUEUED', wake_at = now(), updated_at = now()
from parked
where w.id = parked.id and w.status = 'WAITING'
returning w.id

-- name: watchers
-- Which workflows wait for the end of one of these, or for an event that was set.
select distinct workflow_id
from waits
where target = any (%(ended)s::text[])
   or (target = any (%(ids)s::text[]) and key = any (%(keys)s::text[]))

-- name: watch
-- Have the next commit of each of these tell that it is waited for; says which of them there are.
with target as materialized (
    select w.id
    from workflows w
    where w.id = any (%(ids)s::text[])
    order by w.id
    for no key update of w
)
update workflows w
set watched = true
from target
where w.id = any (%(ids)s::text[]) and w.id = target.id
returning w.id, w.status

-- name: overdue_waits
-- Parked ones whose wait for another workflow is over already, but which nobody woke: their executor died
-- between its park and its second look.
select distinct p.id
from waits s
join workflows p on p.id = s.workflow_id and p.status = 'WAITING'
left join workflows t on t.id = s.target
where s.target is not null
  and (
      t.id is null
      or t.completed_at is not null
      or (s.key is not null and exists (select from events e where e.workflow_id = s.target and e.key = s.key))
  )
limit 10000

-- name: abort
-- End active workflows from outside: cancelled, out of time, or dead. What is named to clean up after each of
-- them is started in the same commit, once.
with target as materialized (
    select w.id
    from unnest(%(ids)s::text[], %(generations)s::int[]) as t (id, generation)
    join workflows w on w.id = t.id collate "C" and w.generation = coalesce(t.generation, w.generation)
    where w.status in ('QUEUED', 'RUNNING', 'WAITING')
    order by w.id
    for no key update of w
), ended as (
    update workflows w
    set status = %(status)s,
        error = %(error)s::json,
        updated_at = now(),
        completed_at = now(),
        wake_at = null
    from target t
    where w.id = t.id and w.status in ('QUEUED', 'RUNNING', 'WAITING')
    returning w.id, w.watched, w.input, w.abort_name, w.abort_version
), cleanup as (
    insert into workflows (
        id, name, version, status, input, input_hash, tags, generation, start_token, created_at, updated_at, wake_at
    )
    select id || ':abort', abort_name, abort_version, 'QUEUED',
           json_build_object('workflow_id', id, 'status', %(status)s::text, 'input', input),
           sha256(convert_to(id, 'UTF8')), '{}', 0, gen_random_uuid(), now(), now(), now()
    from ended
    where abort_name is not null
    order by id
    on conflict (id) do nothing
    returning id
)
select id, watched, (select count(*) from cleanup) as cleanups
from ended

-- name: overdue
-- Which active workflows have run out of time.
select id, generation
from workflows
where deadline <= now()
  and deadline is not null
  and status in ('QUEUED', 'RUNNING', 'WAITING')
order by deadline
limit 100

-- name: lock_tree
-- Hold a workflow and all active ones below it until the end of the transaction, in the lock order: to lock a tree from
-- its root down would deadlock with whoever goes by id.
with recursive tree as (
    select id
    from workflows
    where id = %(id)s
    union
    select w.id
    from tree t
    cross join lateral (
        select id
        from workflows
        where parent_id = t.id and status in ('QUEUED', 'RUNNING', 'WAITING')
        offset 0 -- looked up for each parent, rather than joined with all that are active
    ) w
)
select w.id
from workflows w
where w.id in (select id from tree)
order by w.id
for no key update of w

-- name: children
-- The active children of some workflows.
select id
from workflows
where parent_id = any (%(ids)s::text[]) and status in ('QUEUED', 'RUNNING', 'WAITING')
order by id

-- name: lock
-- Hold the rows of workflows until the end of the transaction.
select id, name, status, abort_name
from workflows
where id = any (%(ids)s::text[])
order by id
for no key update

-- name: resume
-- Let a locked one that was ended from outside go on, in a new generation, with its whole time again, also for what
-- it was waiting for.
with unwaited as (
    delete from waits where workflow_id = %(id)s
)
update workflows
set status = 'QUEUED',
    generation = generation + 1,
    barren = 0,
    error = null,
    updated_at = now(),
    completed_at = null,
    deadline = null,
    wake_at = now()
where id = %(id)s

-- name: hasten
-- Drop the delay of a locked one that is queued.
update workflows
set wake_at = now()
where id = %(id)s and status = 'QUEUED' and wake_at > now()

-- name: delete
-- Remove ended workflows and everything under them. The lock comes first, so nothing can be written below them.
with target as materialized (
    select id, watched
    from workflows
    where id = any (%(ids)s::text[])
      and status in ('SUCCEEDED', 'FAILED', 'CANCELLED', 'TIMED_OUT', 'DEAD')
    order by id
    for update
), step as (
    delete from steps using target where steps.workflow_id = target.id
), event as (
    delete from events using target where events.workflow_id = target.id
), message as (
    delete from messages using target where messages.workflow_id = target.id
), wait as (
    delete from waits using target where waits.workflow_id = target.id
), callback as (
    delete from callbacks using target where callbacks.workflow_id = target.id
), gone as (
    delete from workflows using target where workflows.id = target.id returning workflows.id
)
select gone.id, target.watched
from gone
join target on target.id = gone.id
