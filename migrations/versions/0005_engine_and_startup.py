"""Why a job's engine was chosen, and where the time went until its first epoch ended.

Columns are added and never rewritten, as in 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("engine_why", sa.Text(), nullable=True))
    startup = sa.Column("startup", sa.JSON(none_as_null=True), nullable=False, server_default=sa.text("'{}'"))
    op.add_column("jobs", startup)
    # SQLite has to keep it.
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("jobs", "startup", server_default=None)


def downgrade() -> None:
    op.drop_column("jobs", "startup")
    op.drop_column("jobs", "engine_why")
