-- name: register
-- Make this process known. One that has no session of its own has no lock; on a new connection that may have changed.
insert into executors (id, host, pid, version, lock_key, started_at, heartbeat_at)
values (%(id)s, %(host)s, %(pid)s, %(version)s, %(lock_key)s, now(), now())
on conflict (id) do update
set lock_key = excluded.lock_key
where executors.lock_key is distinct from excluded.lock_key

-- name: hold
-- Hold the lock that shows this session to be alive, until the session ends.
select pg_try_advisory_lock(%(lock_key)s) as held

-- name: beat
-- Once a second: this executor's heartbeat, and all that it must know of the others and of what is due.
with me as (
    update executors
    set heartbeat_at = now(), hint = %(hint)s
    where id = %(executor)s and alive
    returning id
)
select now() as at,
       exists (select from me) as alive,
       extract(epoch from now() - pg_postmaster_start_time())::float8 as uptime,
       (
           select extract(epoch from min(wake_at) - now())::float8
           from workflows
           where status in ('QUEUED', 'WAITING') and wake_at is not null
       ) as due_in,
       (
           select extract(epoch from min(deadline) - now())::float8
           from workflows
           where deadline is not null and status in ('QUEUED', 'RUNNING', 'WAITING')
       ) as overdue_in,
       (
           select coalesce(json_agg(json_build_object('id', w.id, 'generation', w.generation)), '[]')::text
           from workflows w
           where w.executor_id = %(executor)s and w.status = 'RUNNING'
       ) as running,
       exists (
           select
           from workflows w
           where w.status = 'RUNNING' and (w.executor_id in (select id from executors where alive)) is not true
       ) as lost,
       (
           select coalesce(json_agg(json_build_object(
                      'id', e.id,
                      'alive', e.alive,
                      'hint', e.hint,
                      'heartbeat_at', extract(epoch from e.heartbeat_at)::float8,
                      'silent_for', extract(epoch from now() - e.heartbeat_at)::float8,
                      'direct', e.lock_key is not null,
                      'locked', e.lock_key is null or exists (
                          select
                          from pg_locks k
                          where k.locktype = 'advisory'
                            and k.database = (select oid from pg_database where datname = current_database())
                            and k.objsubid = 1
                            and k.granted
                            and (k.classid::bigint << 32) + k.objid::bigint = e.lock_key
                      )
                  )), '[]')::text
           from executors e
           where e.id <> %(executor)s
       ) as peers

-- name: here
-- The executors that say they live on this host.
select id, pid
from executors
where host = %(host)s and alive and id <> %(executor)s

-- name: bury
-- Declare executors dead, unless they have given a sign of life since.
update executors
set alive = false
where id = any (%(ids)s::text[])
  and alive
  and (heartbeat_at <= to_timestamp(%(since)s::float8) or %(proven)s)
returning id

-- name: forget
-- Remove dead executors to which no running workflow belongs.
delete from executors e
where not e.alive
  and not exists (select from workflows w where w.executor_id = e.id and w.status = 'RUNNING')

-- name: leave
-- Take this executor's own row away.
delete from executors e
where e.id = %(executor)s
  and not exists (select from workflows w where w.executor_id = e.id and w.status = 'RUNNING')

-- name: probe
-- Show that the database takes a write, and what its schema's revision is.
update executors
set heartbeat_at = now()
where id = %(executor)s
returning (select version_num from alembic_version) as revision
