"""Find the workflows that are suspected of ending their processes, of which a process runs one at a time.

The index holds next to nothing. Building it reads the table once, and holds writes back meanwhile.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("create index workflows_suspects on workflows (wake_at) where status = 'QUEUED' and barren >= 3")


def downgrade() -> None:
    op.execute("drop index workflows_suspects")
