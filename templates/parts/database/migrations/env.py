"""Alembic runs this file for each of its commands; app/migrations.py says with what, and opens the transaction."""

from alembic import context

context.configure(**context.config.attributes)
context.run_migrations()
