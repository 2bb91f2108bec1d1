"""Values are stored as they are: to compress a mebibyte of text takes the server longer than all else with it."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS = (("workflows", "input"), ("workflows", "output"), ("steps", "output"), ("messages", "payload"))


def upgrade() -> None:
    # What is there already stays as it is, and is read as before.
    for table, column in COLUMNS:
        op.execute(f"alter table {table} alter column {column} set storage external")


def downgrade() -> None:
    for table, column in COLUMNS:
        op.execute(f"alter table {table} alter column {column} set storage extended")
