"""Alembic migrations of the store; run them with `python -m migrations upgrade`."""
