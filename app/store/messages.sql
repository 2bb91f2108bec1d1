-- name: lock
-- Hold the rows of the targets (and of a sending workflow) until the end of the transaction, in the lock order.
-- {skip} is `skip locked` where nobody is to wait for a row that somebody else holds.
select w.id, w.status, w.generation, w.executor_id
from workflows w
where w.id = any (%(ids)s::text[])
order by w.id
for no key update {skip}

-- name: existing
-- Which of these there are.
select id
from workflows
where id = any (%(ids)s::text[])

-- name: by_key
-- Messages sent before under these idempotency keys. Read after the lock, so nothing can come in between.
select m.workflow_id, m.idempotency_key, m.position, m.id::text, m.topic, m.payload::text, m.payload_hash,
       m.event_position, m.sent_at, m.received_at
from unnest(%(ids)s::text[], %(keys)s::text[]) as k (id, key)
join messages m on m.workflow_id = k.id collate "C" and m.idempotency_key = k.key collate "C"
where m.workflow_id = any (%(ids)s::text[]) and m.idempotency_key = any (%(keys)s::text[])

-- name: send
-- Append messages to their locked targets: `inbox` numbers them, and a parked target is queued.
with draft as materialized (
    select s.*, row_number() over (partition by s.target order by s.n) as k
    from json_to_recordset(%(messages)s::json) as s (
        n int, target text, id uuid, topic text, payload json, payload_hash text, idempotency_key text
    )
), raised as (
    update workflows w
    set inbox = w.inbox + c.sent,
        status = case when w.status = 'WAITING' then 'QUEUED' else w.status end,
        wake_at = case when w.status = 'WAITING' then now() else w.wake_at end,
        updated_at = case when w.status = 'WAITING' then now() else w.updated_at end
    from (select target, count(*)::int as sent from draft group by target) c
    where w.id = any (%(ids)s::text[]) and w.id = c.target collate "C"
    returning w.id, w.inbox - c.sent as before, w.status
)
insert into messages (
    workflow_id, position, id, topic, payload, payload_hash, idempotency_key, event_position, sent_at
)
select d.target, r.before + d.k, d.id, d.topic, coalesce(d.payload, 'null'), decode(d.payload_hash, 'hex'),
       d.idempotency_key,
       coalesce((select position from events e where e.workflow_id = r.id order by position desc limit 1), 0),
       now()
from draft d
join raised r on r.id = d.target collate "C"
returning workflow_id, position, id::text, event_position, sent_at

-- name: unread
-- The next unread messages of topics, and how many messages their workflows have had.
select r.n, w.inbox, m.position, m.payload::text
from unnest(%(ids)s::text[], %(topics)s::text[], %(after)s::int[]) with ordinality as r (id, topic, after, n)
join workflows w on w.id = r.id collate "C" and w.id = any (%(ids)s::text[])
left join lateral (
    select position, payload
    from messages
    where workflow_id = w.id and topic = r.topic collate "C" and received_seq is null and position > r.after
    order by position
    limit 1
) m on true

-- name: page
-- Messages of one workflow in their order, from after a position on.
select position, id::text, workflow_id, topic, payload::text, event_position, sent_at, received_at
from messages
where workflow_id = %(id)s
  and position > %(after)s
  and (%(topic)s::text is null or topic = %(topic)s)
order by position
limit %(limit)s

-- name: callback
-- What a callback's token stands for, while it has not expired.
select workflow_id, seq, topic
from callbacks
where token_hash = %(token_hash)s and expires_at > now()

-- name: secret
-- What the tokens of callbacks are derived from.
select value
from secrets
where name = 'callbacks'
