"""Workflows, their steps, events, messages, waits and callbacks, and the executors that run them."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ACTIVE = "('QUEUED', 'RUNNING', 'WAITING')"

# No foreign keys: each would lock and touch the parent row at every insert of the hot path.
# Whatever writes from outside locks the parent row itself, and deletion takes all that is under it.
TABLES = f"""
create table workflows (
    id text collate "C" not null,
    name text not null,
    version text not null,
    status text not null,
    input json,
    input_hash bytea not null,
    output json,
    error json,
    tags jsonb not null,
    executor_id text,
    generation integer not null,
    start_token uuid not null,
    inbox integer not null default 0,
    watched boolean not null default false,
    attempts integer not null default 1,
    barren integer not null default 0,
    queue text,
    priority integer not null default 0,
    partition text,
    deduplication_id text,
    parent_id text collate "C",
    forked_from text collate "C",
    schedule text,
    abort_name text,
    abort_version text,
    timeout double precision,
    created_at timestamptz not null,
    started_at timestamptz,
    updated_at timestamptz not null,
    completed_at timestamptz,
    deadline timestamptz,
    wake_at timestamptz,
    traceparent text,
    constraint workflows_pkey primary key (id),
    constraint workflows_status_check check (status in
        ('QUEUED', 'RUNNING', 'WAITING', 'SUCCEEDED', 'FAILED', 'CANCELLED', 'TIMED_OUT', 'DEAD')),
    constraint workflows_completed_check check ((completed_at is null) = (status in {ACTIVE})),
    constraint workflows_queued_check check (status <> 'QUEUED' or wake_at is not null),
    constraint workflows_running_check check (status <> 'RUNNING' or executor_id is not null)
);

create table steps (
    workflow_id text collate "C" not null,
    seq integer not null,
    done integer not null,
    name text not null,
    kind text not null,
    digest bigint not null,
    output json,
    error json,
    attempts integer not null,
    child_id text collate "C",
    started_at timestamptz not null,
    completed_at timestamptz not null,
    constraint steps_pkey primary key (workflow_id, seq)
);

create table events (
    workflow_id text collate "C" not null,
    position integer not null,
    key text collate "C" not null,
    value json not null,
    step integer,
    done integer not null,
    set_at timestamptz not null,
    constraint events_pkey primary key (workflow_id, position)
);

create table messages (
    workflow_id text collate "C" not null,
    position integer not null,
    id uuid not null,
    topic text collate "C" not null,
    payload json not null,
    payload_hash bytea not null,
    idempotency_key text collate "C",
    event_position integer not null,
    sent_at timestamptz not null,
    received_seq integer,
    received_at timestamptz,
    constraint messages_pkey primary key (workflow_id, position)
);

create table waits (
    workflow_id text collate "C" not null,
    seq integer not null,
    kind text not null,
    target text collate "C",
    key text collate "C",
    deadline timestamptz,
    attempts integer not null default 0,
    error json,
    constraint waits_pkey primary key (workflow_id, seq)
);

create table callbacks (
    token_hash bytea not null,
    workflow_id text collate "C" not null,
    seq integer not null,
    topic text collate "C" not null,
    expires_at timestamptz not null,
    constraint callbacks_pkey primary key (token_hash)
);

create table executors (
    id text not null,
    host text not null,
    pid integer not null,
    version text not null,
    lock_key bigint not null,
    alive boolean not null default true,
    started_at timestamptz not null,
    heartbeat_at timestamptz not null,
    hint bigint not null default 0,
    constraint executors_pkey primary key (id)
);

create table secrets (
    name text not null,
    value bytea not null,
    constraint secrets_pkey primary key (name)
);

-- What the tokens of callbacks are derived from: two random UUIDs are 244 bits.
insert into secrets (name, value)
values ('callbacks', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));
"""

INDEXES = f"""
create index workflows_created_at on workflows (created_at, id);
create index workflows_due on workflows (wake_at) where status in ('QUEUED', 'WAITING') and wake_at is not null;
create index workflows_deadline on workflows (deadline) where deadline is not null and status in {ACTIVE};
create index workflows_running on workflows (executor_id) where status = 'RUNNING';
create index workflows_parent on workflows (parent_id) where parent_id is not null;
create index events_latest on events (workflow_id, key, position desc);
create unique index messages_idempotency_key on messages (workflow_id, idempotency_key)
    where idempotency_key is not null;
create index messages_unread on messages (workflow_id, topic, position) where received_seq is null;
create index waits_target on waits (target) where target is not null;
create index callbacks_workflow on callbacks (workflow_id, seq);
"""

# Small rows that change often keep room on their page, so that the change needs no new index entries.
STORAGE = """
alter table workflows set (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02);
alter table executors set (fillfactor = 50);
alter table events alter column value set storage external;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(INDEXES)
    op.execute(STORAGE)
    op.execute("analyze workflows, steps, events, messages, waits, callbacks, executors")


def downgrade() -> None:
    op.execute("drop table workflows, steps, events, messages, waits, callbacks, executors, secrets")
