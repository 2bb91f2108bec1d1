"""${message}."""

from alembic import op

revision = "${up_revision}"
down_revision = ${'"%s"' % down_revision if down_revision else None}
branch_labels = None
depends_on = None


# Runs under a lock time-out: a migration that has to wait for a busy table fails instead of making
# the service wait behind it. Code of the version before must still run on the schema after it.
def upgrade() -> None:
    ${upgrades if upgrades else 'op.execute("")'}


def downgrade() -> None:
    ${downgrades if downgrades else 'op.execute("")'}
