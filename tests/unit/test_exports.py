import subprocess
import sys

import app


def test_every_name_that_is_promised_is_there():
    assert sorted(app.__all__) == app.__all__
    assert [name for name in app.__all__ if not hasattr(app, name)] == []


def test_importing_it_brings_in_nothing_of_the_service():
    program = (
        "import sys, app\n"
        "heavy = ('app.api', 'app.engine', 'app.store', 'fastapi', 'httpx', 'psycopg', 'sqlalchemy', 'starlette')\n"
        "print([name for name in heavy if name in sys.modules])"
    )

    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert found.stdout.strip() == "[]"
