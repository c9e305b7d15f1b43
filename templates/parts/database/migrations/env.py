"""Alembic runs this file for each of its commands; `run` of app/migrations.py does the work."""

from alembic import context

context.config.attributes["run"]()
