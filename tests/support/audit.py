"""A witness inside the database: who wrote what, and who owned it then, by other marks than the engine's own.

The engine fences by executor and generation. This goes by neither. Each connection of a process under test says on
opening whose it is (`audit.writer`); triggers write that down with every row of a workflow that is inserted or
changed, and keep for themselves who came to own it last. `breaches` are the rows that nobody may ever see.
"""

from typing import Any

import psycopg

SCHEMA = """
create schema audit;

-- Which process made an executor known.
create table audit.executors (n bigserial primary key, id text not null, writer text not null);

-- Who came to own a workflow last. `released`: the transaction in which it left off running.
create table audit.owners (
    workflow_id text primary key, writer text not null, executor text, released xid8
);

create table audit.claims (
    n bigserial primary key, workflow_id text not null, writer text not null, earlier text, alive boolean not null,
    taken boolean not null, generation_before int, generation int not null
);

create table audit.writes (
    n bigserial primary key, workflow_id text not null, what text not null, op text not null, place int, done int,
    within int, kind text, key text, writer text not null, owner text, released xid8,
    xid xid8 not null default pg_current_xact_id()
);

create function audit.me() returns text language sql as
$$ select coalesce(current_setting('audit.writer', true), '') $$;

create function audit.write(
    workflow text, what text, op text, place int, done int, within int, kind text, key text
) returns void language plpgsql as $$
begin
    insert into audit.writes (workflow_id, what, op, place, done, within, kind, key, writer, owner, released)
    select workflow, what, op, place, done, within, kind, key, audit.me(), o.writer, o.released
    from (values (1)) one left join audit.owners o on o.workflow_id = workflow;
end $$;

create function audit.workflow() returns trigger language plpgsql as $$
declare
    taken boolean;
    earlier audit.owners;
begin
    if tg_op = 'DELETE' then
        delete from audit.owners where workflow_id = old.id;
        return null;
    end if;
    if tg_op = 'INSERT' then
        taken := new.status = 'RUNNING';
        if new.parent_id is not null then
            perform audit.write(new.parent_id, 'child', tg_op, null, null, null, null, new.id);
        end if;
    else
        taken := new.status = 'RUNNING' and (old.status, old.executor_id, old.generation)
            is distinct from (new.status, new.executor_id, new.generation);
        if old.status = 'RUNNING' and new.status <> 'RUNNING' then
            perform audit.write(new.id, 'status', tg_op, null, null, null, new.status, null);
            update audit.owners set released = pg_current_xact_id() where workflow_id = new.id;
        end if;
    end if;
    if taken or (tg_op = 'UPDATE' and old.generation <> new.generation) then
        select * into earlier from audit.owners where workflow_id = new.id;
        insert into audit.claims (workflow_id, writer, earlier, alive, taken, generation_before, generation)
        values (
            new.id, audit.me(), earlier.writer,
            earlier.released is null and earlier.writer <> audit.me()
                and exists (select from executors where id = earlier.executor and alive),
            taken, case when tg_op = 'UPDATE' then old.generation end, new.generation
        );
    end if;
    if taken then
        insert into audit.owners (workflow_id, writer, executor)
        values (
            new.id, audit.me(),
            (select id from audit.executors where writer = audit.me() order by n desc limit 1)
        )
        on conflict (workflow_id) do update
        set writer = excluded.writer, executor = excluded.executor, released = null;
    end if;
    return null;
end $$;

create function audit.step() returns trigger language plpgsql as $$
begin
    perform audit.write(new.workflow_id, 'step', tg_op, new.seq, new.done, null, new.kind, null);
    return null;
end $$;

create function audit.event() returns trigger language plpgsql as $$
begin
    perform audit.write(new.workflow_id, 'event', tg_op, new.position, new.done, new.step, null, new.key);
    return null;
end $$;

create function audit.message() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        if new.received_seq is distinct from old.received_seq then
            perform audit.write(
                new.workflow_id, 'receipt', tg_op, new.position, old.received_seq, new.received_seq, null, null
            );
        end if;
    elsif new.idempotency_key like '$step %' then
        perform audit.write(split_part(new.idempotency_key, ' ', 2), 'send', tg_op, null, null, null, null, null);
    end if;
    return null;
end $$;

create function audit.executor() returns trigger language plpgsql as $$
begin
    insert into audit.executors (id, writer) values (new.id, audit.me());
    return null;
end $$;

-- A test that holds the exclusive lock of a process stops it in the middle of a statement that records something:
-- what that statement has read by then is as old as its beginning.
create function audit.halt() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(hashtext('halt ' || audit.me()));
    return new;
end $$;

create trigger audit after insert or update or delete on workflows for each row execute function audit.workflow();
create trigger audit after insert or update on steps for each row execute function audit.step();
create trigger audit after insert or update on events for each row execute function audit.event();
create trigger audit after insert or update on messages for each row execute function audit.message();
create trigger audit after insert on executors for each row execute function audit.executor();
create trigger halt before insert on steps for each row execute function audit.halt();
create trigger halt before insert on workflows for each row execute function audit.halt();

create view audit.breaches as
select 'written by who does not own it' as breach, workflow_id, what || ' ' || coalesce(place::text, kind, key, '')
       || ' by ' || writer || ', owned by ' || coalesce(owner, 'nobody') as detail
from audit.writes
where (writer is distinct from owner or (released is not null and released <> xid))
  and (what <> 'status' or kind in ('WAITING', 'SUCCEEDED', 'FAILED'))
union all
select 'taken from somebody alive', workflow_id, writer || ' from ' || earlier
from audit.claims
where taken and alive
union all
select 'a generation repeated or left out', workflow_id, generation_before || ' to ' || generation
from audit.claims
where generation <> generation_before + 1
union all
select 'a record was changed', workflow_id, what || ' ' || place
from audit.writes
where what in ('step', 'event') and op = 'UPDATE'
union all
select 'two records of one call, or of one outcome', workflow_id, 'step ' || place
from audit.writes
where what = 'step' and op = 'INSERT'
group by workflow_id, place
having count(*) > 1
union all
select 'two records of one call, or of one outcome', workflow_id, 'outcome ' || done
from steps
where workflow_id in (select workflow_id from audit.writes)
group by workflow_id, done
having count(*) > 1
union all
select 'a gap in the events', workflow_id, count(*) || ' events up to ' || max(position)
from events
where workflow_id in (select workflow_id from audit.writes)
group by workflow_id
having count(*) <> max(position) or min(position) <> 1
union all
select 'an event apart from its step', e.workflow_id, 'event ' || e.place || ' ' || e.key
from audit.writes e
left join audit.writes s on s.workflow_id = e.workflow_id and s.what = 'step' and s.done = e.done
where e.what = 'event' and e.within is null and e.done > 0
  and (s.n is null or (s.xid <> e.xid and s.kind <> 'transaction'))
union all
select 'a message received twice', workflow_id, 'message ' || place || ' in ' || done || ' and ' || within
from audit.writes
where what = 'receipt' and done is not null
union all
select 'a call that received twice', workflow_id, 'call ' || received_seq
from messages
where received_seq is not null and workflow_id in (select workflow_id from audit.writes)
group by workflow_id, received_seq
having count(*) > 1
union all
select 'a message that the call which received it does not record', m.workflow_id, 'message ' || m.position
from messages m
where m.received_seq is not null and m.workflow_id in (select workflow_id from audit.writes)
  and not exists (select from steps s where s.workflow_id = m.workflow_id and s.seq = m.received_seq)
union all
select 'left behind by a deletion', o.workflow_id, o.what
from (
    select workflow_id, 'step' as what from steps
    union select workflow_id, 'event' from events
    union select workflow_id, 'message' from messages
    union select workflow_id, 'wait' from waits
) o
where not exists (select from workflows w where w.id = o.workflow_id);
"""


async def install(url: str) -> None:
    """Put the witness into a test's database."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(SCHEMA.encode())


def introduce(connection: Any, writer: str) -> None:
    """Say whose a connection is. (At once, as it may be called where nothing can be awaited.)"""
    connection.pgconn.exec_(f"set audit.writer = '{writer}'".encode())


class Audit:
    """What the witness has seen since the last look."""

    def __init__(self, eye: psycopg.AsyncConnection[Any]) -> None:
        self._eye = eye

    async def breaches(self) -> list[str]:
        found = await (await self._eye.execute("select * from audit.breaches order by 1, 2, 3")).fetchall()
        return [f"{row['breach']}: {row['workflow_id']}, {row['detail']}" for row in found]

    async def is_content(self) -> None:
        assert not (breaches := await self.breaches()), "\n".join(breaches)

    async def forget(self) -> int:
        """Begin anew; how many writes had been seen."""
        done = await self._eye.execute("delete from audit.writes")
        await self._eye.execute("delete from audit.claims")
        return done.rowcount
