"""The schema goes up, down and up again, and replicas may bring it up at once."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from app.store import migrations
from app.store.migrations import MigrationError
from tests.support.databases import Databases

TABLES = "select count(*) from pg_tables where schemaname = 'public' and tablename <> 'alembic_version'"


def count_tables(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(TABLES).fetchone()
    assert row
    return row[0]


def set_revision(url: str, revision: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("update alembic_version set version_num = %s", [revision])


def test_the_schema_goes_up_and_down_and_up(empty_database_url):
    assert migrations.current(empty_database_url) is None
    assert migrations.migrate(empty_database_url) == migrations.head()
    tables = count_tables(empty_database_url)
    assert tables > 0
    assert migrations.downgrade(empty_database_url) is None
    assert count_tables(empty_database_url) == 0
    assert migrations.migrate(empty_database_url) == migrations.head()
    assert count_tables(empty_database_url) == tables


def test_migrating_again_changes_nothing(database_url):
    assert migrations.migrate(database_url) == migrations.head()


def test_replicas_that_start_at_once_migrate_once(empty_database_url):
    with ThreadPoolExecutor(4) as replicas:
        reached = list(replicas.map(migrations.migrate, [empty_database_url] * 4))
    assert reached == [migrations.head()] * 4


def test_a_schema_beyond_what_this_code_knows_is_left_alone(database_url):
    set_revision(database_url, "9999")
    assert migrations.migrate(database_url) == "9999"
    assert migrations.suffices("9999")


@pytest.mark.parametrize("revision", [None, "0000"])
def test_a_schema_behind_this_code_does_not_suffice(revision):
    assert not migrations.suffices(revision)


def test_a_test_gets_a_database_without_the_rows_of_another(databases: Databases, template):
    with databases.clone(template) as first, psycopg.connect(first) as connection:
        connection.execute("delete from secrets")
        connection.commit()
        with databases.clone(template) as second, psycopg.connect(second) as other:
            assert other.execute("select count(*) from secrets").fetchone() == (1,)


def test_a_database_of_another_encoding_is_refused_with_what_to_do(databases: Databases):
    told = "has the encoding SQL_ASCII; Milepost needs UTF8"
    with databases.foreign("SQL_ASCII") as url, pytest.raises(MigrationError, match=told):
        migrations.migrate(url)


def test_values_are_stored_as_they_are(database_url):
    """To compress a large one would take the server longer than all else that it does with it."""
    columns = (
        "select attrelid::regclass || '.' || attname from pg_attribute join pg_class c on c.oid = attrelid"
        " where relkind = 'r' and relnamespace = 'public'::regnamespace and atttypid = 'json'::regtype"
        " and attname <> 'error' and attstorage <> 'e'"
    )
    with psycopg.connect(database_url) as connection:
        assert connection.execute(columns).fetchall() == []
