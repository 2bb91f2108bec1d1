"""Executors that have no session of their own, as behind a pooler, have no lock."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table executors alter column lock_key drop not null")


def downgrade() -> None:
    op.execute("update executors set lock_key = 0 where lock_key is null")
    op.execute("alter table executors alter column lock_key set not null")
