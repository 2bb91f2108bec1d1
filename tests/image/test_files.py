"""The image's recipe, compose.yaml and the manifests are what their own tools say they have to be."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app import main
from app.release import VERSION
from app.settings import Settings

pytestmark = pytest.mark.apart

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "build" / "image" / "tools" / "bin"
MANIFESTS = sorted((ROOT / "docs" / "operations" / "kubernetes").glob("*.yaml"))
OLDEST_KUBERNETES, NEWEST_KUBERNETES = "1.30", "1.37"
STOPPING = Settings().grace + main.PARTING
"""Seconds after which the service has stopped, however hard its steps resist."""


def run(program: str, *arguments: str | Path) -> str:
    tool = TOOLS / program
    assert tool.exists(), f"{program} is not installed: `make image-check` installs it"
    done = subprocess.run([tool, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """Those of compose.yaml, as Docker Compose reads it."""
    return json.loads(run("docker-compose", "config", "--format", "json"))["services"]


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    """The manifests by kind, as whoever applies them reads them."""
    program = (
        "import json, sys, yaml; print(json.dumps([d for f in sys.argv[1:] for d in yaml.safe_load_all(open(f))]))"
    )
    return {each["kind"]: each for each in json.loads(run("python", "-c", program, *MANIFESTS))}


def containers(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return manifest["spec"]["template"]["spec"]["containers"]


def test_the_recipe_of_the_image_has_nothing_to_complain_of():
    run("hadolint", "Dockerfile")


def test_the_image_says_which_version_it_is():
    assert f'org.opencontainers.image.version="{VERSION}"' in (ROOT / "Dockerfile").read_text()


def test_compose_starts_each_service_after_what_it_needs(services):
    awaited = {name: {n: d["condition"] for n, d in s.get("depends_on", {}).items()} for name, s in services.items()}

    assert awaited == {
        "database": {},
        "migrate": {"database": "service_healthy"},
        "milepost": {"database": "service_healthy", "migrate": "service_completed_successfully"},
        "proxy": {"milepost": "service_healthy"},
    }
    assert services["milepost"]["deploy"]["replicas"] == 2


def test_compose_opens_nothing_but_one_port_and_that_for_this_machine(services):
    published = [port for service in services.values() for port in service.get("ports", [])]

    assert [(port["host_ip"], port["published"]) for port in published] == [("127.0.0.1", "8000")]


def test_compose_gives_a_replica_the_time_to_stop(services):
    assert int(services["milepost"]["stop_grace_period"].removesuffix("s")) > STOPPING


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, NEWEST_KUBERNETES])
def test_a_manifest_is_what_the_api_of_kubernetes_takes(manifest, version):
    run("kubernetes-validate", "--strict", "--kubernetes-version", version, manifest)


def test_a_pod_gets_the_time_to_stop(objects):
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    before = sum(int(each["lifecycle"]["preStop"]["exec"]["command"][-1]) for each in pod["containers"])

    assert pod["terminationGracePeriodSeconds"] > before + STOPPING


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_pods_are_as_restricted_as_can_be(objects, kind):
    """What the standard `restricted` asks for, and a root that can't be written to."""
    pod = objects[kind]["spec"]["template"]["spec"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in containers(objects[kind]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_kubernetes_adds_no_variables_that_look_like_settings(objects, kind):
    """A service called `milepost` would be told by MILEPOST_PORT, and more of them that are no settings."""
    assert objects[kind]["spec"]["template"]["spec"]["enableServiceLinks"] is False


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_the_manifests_set_what_there_is_and_keep_no_secret(objects, kind):
    variables = {each["name"]: each for container in containers(objects[kind]) for each in container["env"]}

    assert {name.removeprefix("MILEPOST_").lower() for name in variables} <= set(Settings.model_fields)
    assert variables["MILEPOST_DATABASE_URL"]["valueFrom"]["secretKeyRef"]["key"] in objects["Secret"]["stringData"]


def test_probes_ask_what_is_answered_without_a_key(objects):
    container = containers(objects["Deployment"])[0]

    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["startupProbe"]["httpGet"]["path"] == "/healthz"


def test_the_service_and_the_budget_mean_the_pods_of_the_deployment(objects):
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]

    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["Service"]["spec"]["ports"][0]["targetPort"] in [
        port["name"] for port in containers(objects["Deployment"])[0]["ports"]
    ]
