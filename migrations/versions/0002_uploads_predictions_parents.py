"""Uploads, predictions, jobs made from other jobs, and what streams are resumed by.

Columns are added and never rewritten: recreating a table, as Alembic's batches do on SQLite, would lose the
triggers and, through cascading deletes, the rows that belong to it.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

DATASET_STATES = ("available", "processing", "ready", "rejected")
WORK_STATES = ("queued", "running", "succeeded", "failed")
SPLITS = ("train", "validation", "test")


def _document(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON(none_as_null=True), nullable=True)


def _choice(name: str, kind: str, values: tuple[str, ...], *, nullable: bool = False) -> sa.Column[str]:
    type_ = sa.Enum(*values, name=kind, native_enum=False, create_constraint=True, length=20)
    return sa.Column(name, type_, nullable=nullable)


# Name, type, and the value that rows of before get. On Postgres that default is dropped at once, SQLite has
# to keep it. A column without one may be null.
ADDED: dict[str, list[tuple[str, sa.types.TypeEngine[Any], str | None]]] = {
    "dataset_versions": [
        ("statistics", sa.JSON(none_as_null=True), None),
        ("warnings", sa.JSON(none_as_null=True), None),
    ],
    "datasets": [("problems", sa.JSON(none_as_null=True), None), ("owner_id", sa.String(length=36), None)],
    "evaluations": [
        ("outcome", sa.JSON(none_as_null=True), None),
        ("idempotency_key", sa.String(length=255), None),
        ("request_sha256", sa.String(length=64), None),
    ],
    "jobs": [
        ("parent_id", sa.String(length=36), None),
        ("relation", sa.String(length=20), None),
        ("epochs_inherited", sa.Integer(), "0"),
        ("priority", sa.Integer(), "0"),
        ("note", sa.Text(), None),
        ("target_scaling", sa.JSON(none_as_null=True), None),
        ("changed_at", sa.BigInteger(), "0"),
    ],
    "looks": [("subject", sa.String(length=16), "'evaluation'")],
}
INDEXES = [
    ("ix_evaluations_owner_id_idempotency_key", "evaluations", ["owner_id", "idempotency_key"], True),
    ("ix_jobs_parent_id", "jobs", ["parent_id"], False),
    ("ix_jobs_changed_at", "jobs", ["changed_at"], False),
]


def upgrade() -> None:
    is_postgres = op.get_bind().dialect.name == "postgresql"
    for table, added in ADDED.items():
        for name, type_, default in added:
            given = None if default is None else sa.text(default)
            op.add_column(table, sa.Column(name, type_, nullable=default is None, server_default=given))
            if is_postgres and default is not None:
                op.alter_column(table, name, server_default=None)
    op.execute("ALTER TABLE looks RENAME COLUMN evaluation_id TO subject_id")
    for name, table, columns, is_unique in INDEXES:
        op.create_index(name, table, columns, unique=is_unique)
    _create_uploads()
    _create_predictions()
    op.create_table(
        "mlflow_removals",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_mlflow_removals")),
    )


def _create_uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("dataset_name", sa.String(length=64), nullable=False),
        sa.Column("owner_id", sa.String(length=36), nullable=False),
        sa.Column("meta", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("files", sa.JSON(none_as_null=True), nullable=False),
        _choice("state", "state", DATASET_STATES),
        sa.Column("version", sa.String(length=64), nullable=True),
        _document("problems"),
        _document("warnings"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_name"], ["datasets.name"], name=op.f("fk_uploads_dataset_name_datasets")
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name=op.f("fk_uploads_owner_id_owners")),
        sa.ForeignKeyConstraint(
            ["version"], ["dataset_versions.sha256"], name=op.f("fk_uploads_version_dataset_versions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index("ix_uploads_dataset_name", "uploads", ["dataset_name"])
    op.create_index("ix_uploads_state_touched_at", "uploads", ["state", "touched_at"])
    op.create_index(
        "ix_uploads_owner_id_idempotency_key", "uploads", ["owner_id", "idempotency_key"], unique=True
    )


def _create_predictions() -> None:
    op.create_table(
        "predictions",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("owner_id", sa.String(length=36), nullable=False),
        _choice("split", "split", SPLITS, nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        _document("request"),
        _choice("state", "state", WORK_STATES),
        _document("result"),
        sa.Column("rows", sa.Integer(), nullable=True),
        _document("problems"),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_predictions_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name=op.f("fk_predictions_owner_id_owners")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_predictions")),
    )
    op.create_index("ix_predictions_job_id", "predictions", ["job_id"])
    op.create_index("ix_predictions_state_lease_until", "predictions", ["state", "lease_until"])
    op.create_index(
        "ix_predictions_owner_id_idempotency_key", "predictions", ["owner_id", "idempotency_key"], unique=True
    )


def downgrade() -> None:
    op.drop_table("mlflow_removals")
    op.drop_table("predictions")
    op.drop_table("uploads")
    for name, table, _, _ in INDEXES:
        op.drop_index(name, table)
    op.execute("ALTER TABLE looks RENAME COLUMN subject_id TO evaluation_id")
    for table, added in ADDED.items():
        for name, _, _ in added:
            op.drop_column(table, name)
