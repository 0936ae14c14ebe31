"""first"""
import sqlalchemy as sa
from alembic import op

revision, down_revision = "one", None


def upgrade():
    op.create_table("items", sa.Column("id", sa.Integer, primary_key=True))
