"""deploy/kubernetes: valid in strict mode, in accord with the image and the settings, and answered by real processes.

Kubernetes' own schemas are those of the package kubernetes-validate. KEDA's are made from the models that
cloudcoil-models-keda has of its resource definitions (2.16); what a `metrics-api` trigger takes is not in those, and is
written here after KEDA's documentation.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

import httpx2
import jsonschema
import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda import v1alpha1 as keda

from tasker.config.loading import describe_settings, load_settings
from tasker.config.settings import Settings
from tasker.errors import ConfigError
from tests.postgres import Cluster, database_of
from tests.server import run_server, run_worker

VERSION = version("taskerd")
PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / "deploy" / "kubernetes"
DOCKERFILE = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
OLDEST, NEWEST = "1.30", "1.37"
FREE_CONNECTIONS = 97
"""PostgreSQL's default max_connections, less those kept for its superuser."""
POD_ADDRESS = "10.1.2.3:5000"
TOKEN = "a-token-of-more-than-16-characters"

TRIGGER = {
    "type": "object",
    "required": ["url", "valueLocation", "targetValue"],
    "additionalProperties": False,
    "properties": {
        "url": {"pattern": r"^https?://[a-z0-9.-]+(:\d+)?/"},
        "format": {"enum": ["json", "xml", "yaml", "prometheus"]},
        "valueLocation": {"pattern": r"^[a-z_]+$"},  # GJSON's simplest: a member of the object
        "targetValue": {"pattern": r"^\d+(\.\d+)?$"},
        "activationTargetValue": {"pattern": r"^\d+(\.\d+)?$"},
        "authMode": {"enum": ["apiKey", "basic", "tls", "bearer"]},
        "unsafeSsl": {"enum": ["true", "false"]},
    },
}


def _read(file: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(file.read_text(encoding="utf-8")) if document]


KUSTOMIZATION = _read(FOLDER / "kustomization.yaml")[0]
FILES = sorted(file for file in FOLDER.glob("*.yaml") if file.name not in ("kustomization.yaml", "secret.yaml"))
OBJECTS = [document for file in FILES for document in _read(file)]
DEPLOYMENTS = [one for one in OBJECTS if one["kind"] == "Deployment"]


def _find(kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in OBJECTS if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


API, WORKER = _find("Deployment", "tasker-api"), _find("Deployment", "tasker-worker")
SERVICE = _find("Service", "tasker-api")
SECRET: dict[str, str] = _find("Secret", "tasker")["stringData"]
CONFIG: dict[str, str] = _find("ConfigMap", "tasker")["data"]
SCALER = _find("ScaledObject", "tasker-worker")


def _name(document: Mapping[str, Any]) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


def _pod(deployment: Mapping[str, Any]) -> dict[str, Any]:
    return dict(deployment["spec"]["template"]["spec"])


def _container(deployment: Mapping[str, Any]) -> dict[str, Any]:
    (container,) = _pod(deployment)["containers"]
    return dict(container)


def _own_environment(deployment: Mapping[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in _container(deployment).get("env", [])}


def _closed(schema: Any) -> Any:
    """Return the schema with every object in it closed: an unknown field is a fault."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    return closed | {"additionalProperties": False} if "properties" in schema else closed


def check(document: Mapping[str, Any], version: str) -> None:
    """Raise if Kubernetes or KEDA would refuse the object."""
    if not document["apiVersion"].startswith("keda.sh/"):
        kubernetes_validate.validate(dict(document), version, strict=True)
        return
    model = getattr(keda, document["kind"])
    jsonschema.validate(document, _closed(model.model_json_schema(by_alias=True)))
    for trigger in document["spec"].get("triggers", []):
        assert trigger["type"] == "metrics-api"
        jsonschema.validate(trigger["metadata"], TRIGGER)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("document", OBJECTS, ids=_name)
def test_every_object_is_valid(document: dict[str, Any], version: str) -> None:
    check(document, version)


@pytest.mark.parametrize("document", OBJECTS, ids=_name)
def test_an_unknown_field_is_refused(document: dict[str, Any]) -> None:
    """The check above is strict for every kind."""
    part = "spec" if "spec" in document else "metadata"
    with pytest.raises(jsonschema.ValidationError):
        check(document | {part: document[part] | {"replicaz": 1}}, NEWEST)


def test_the_kustomization_takes_in_every_file() -> None:
    named = set(KUSTOMIZATION["resources"])
    assert named == {file.name.replace(".example", "") for file in FILES}
    ignored = (PROJECT / ".gitignore").read_text().splitlines()
    assert "/deploy/kubernetes/secret.yaml" in ignored, "no secret is committed by mistake"


def test_no_object_names_a_namespace() -> None:
    assert [_name(one) for one in OBJECTS if "namespace" in one["metadata"]] == []


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_makes_valid_objects_whose_addresses_follow_the_namespace(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "kubernetes")
    shutil.copy(folder / "secret.example.yaml", folder / "secret.yaml")
    text = (folder / "kustomization.yaml").read_text()
    (folder / "kustomization.yaml").write_text(re.sub("^namespace: default", "namespace: prod", text, flags=re.M))
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    made = list(yaml.safe_load_all(done.stdout))
    assert len(made) == len(OBJECTS)
    for document in made:
        check(document, NEWEST)
    assert {document["metadata"]["namespace"] for document in made} == {"prod"}
    assert {_container(one)["image"] for one in made if one["kind"] == "Deployment"} == {f"tasker:{VERSION}"}
    (scaler,) = [one for one in made if one["kind"] == "ScaledObject"]
    (config,) = [one for one in made if one["kind"] == "ConfigMap"]
    hosts = {urlsplit(trigger["metadata"]["url"]).hostname for trigger in scaler["spec"]["triggers"]}
    assert hosts == {"tasker-api.prod.svc"}
    assert hosts <= set(config["data"]["TASKER_ALLOWED_HOSTS"].split(","))


def test_the_image_is_the_one_that_is_built_here() -> None:
    (image,) = KUSTOMIZATION["images"]
    assert {_container(one)["image"] for one in DEPLOYMENTS} == {image["name"]}
    assert image["newTag"] == VERSION
    assert f"docker build -t {image['newName']} " in DOCKERFILE


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=_name)
def test_a_pod_runs_as_the_image_means_it_and_may_do_nothing_else(deployment: dict[str, Any]) -> None:
    user, group = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)[0]
    pod, container = _pod(deployment), _container(deployment)
    assert pod["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": int(user), "runAsGroup": int(group),
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert pod["automountServiceAccountToken"] is False
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"], "all else is read-only"
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=_name)
def test_ports_are_those_of_the_image(deployment: dict[str, Any]) -> None:
    container = _container(deployment)
    (exposed,) = re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)
    (port,) = container["ports"]
    assert port["containerPort"] == int(exposed) == Settings().port
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert [probe["path"] for probe in probes] == ["/livez", "/livez", "/readyz"]
    assert {probe["port"] for probe in probes} == {port["name"]}


def test_the_service_leads_to_the_api() -> None:
    (port,) = SERVICE["spec"]["ports"]
    assert port["targetPort"] == _container(API)["ports"][0]["name"]
    assert _chosen_by(SERVICE["spec"]["selector"]) == ["tasker-api"]
    urls = [urlsplit(trigger["metadata"]["url"]) for trigger in SCALER["spec"]["triggers"]]
    host = f"{SERVICE['metadata']['name']}.{KUSTOMIZATION['namespace']}.svc"
    assert {(url.hostname, url.port) for url in urls} == {(host, port["port"])}
    assert {host, SERVICE["metadata"]["name"], "localhost"} <= set(CONFIG["TASKER_ALLOWED_HOSTS"].split(","))


def _chosen_by(selector: Mapping[str, str]) -> list[str]:
    labels = {one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"] for one in DEPLOYMENTS}
    return [name for name, own in labels.items() if selector.items() <= own.items()]


def test_each_selector_chooses_the_pods_of_its_name() -> None:
    budgets = [one for one in OBJECTS if one["kind"] == "PodDisruptionBudget"]
    assert len(budgets) == len(DEPLOYMENTS)
    for one in [*DEPLOYMENTS, *budgets]:
        assert _chosen_by(one["spec"]["selector"]["matchLabels"]) == [one["metadata"]["name"]]
    assert SCALER["spec"]["scaleTargetRef"]["name"] == WORKER["metadata"]["name"]
    assert "replicas" not in WORKER["spec"], "KEDA's number would be undone by the next apply"


def test_an_update_takes_no_api_away_before_another_is_there() -> None:
    assert API["spec"]["replicas"] >= 2
    assert API["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=_name)
def test_running_tasks_have_the_time_to_drain(deployment: dict[str, Any]) -> None:
    before = _container(deployment).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed = float(CONFIG["TASKER_DRAIN"]) + before + Settings().cancel_grace.total_seconds()
    assert _pod(deployment)["terminationGracePeriodSeconds"] > needed


def test_what_is_referred_to_is_there() -> None:
    for container in map(_container, DEPLOYMENTS):
        sources = [(kind, source["name"]) for entry in container["envFrom"] for kind, source in entry.items()]
        assert sources == [("configMapRef", "tasker"), ("secretRef", "tasker")]
    (authentication,) = [one for one in OBJECTS if one["kind"] == "TriggerAuthentication"]
    (given,) = authentication["spec"]["secretTargetRef"]
    assert given == {"parameter": "token", "name": "tasker", "key": "TASKER_TOKEN"}
    assert given["key"] in SECRET
    named = {trigger["authenticationRef"]["name"] for trigger in SCALER["spec"]["triggers"]}
    assert named == {authentication["metadata"]["name"]}
    assert {trigger["metadata"]["authMode"] for trigger in SCALER["spec"]["triggers"]} == {"bearer"}


def test_every_variable_is_a_setting() -> None:
    known = {setting.variable for setting in describe_settings()}
    given = {*CONFIG, *SECRET, *(name for one in DEPLOYMENTS for name in _own_environment(one))}
    assert given <= known
    text = "".join(file.read_text() for file in FOLDER.glob("*.yaml"))
    assert set(re.findall(r"\b(?:TASKER|OPENAI)_[A-Z_]*[A-Z]\b", text)) <= known | {"TASKER_API_PORT"}


@pytest.fixture
def pod_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The environment of a pod but for its Deployment's own part: the image's, the ConfigMap's, and the Secret's."""
    for setting in describe_settings():
        monkeypatch.delenv(setting.variable, raising=False)
    image = dict(re.findall(r"\b(TASKER_\w+)=(\S+)", DOCKERFILE.partition("\nENV PYTHONUNBUFFERED")[2]))
    for name, value in {**image, **CONFIG, **SECRET}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)  # no .env
    return monkeypatch


def _fill_in(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TASKER_DATABASE_URL", "postgresql://tasker:secret@postgres/tasker")
    environment.setenv("TASKER_TOKEN", TOKEN)


def test_a_secret_that_is_not_filled_in_is_refused(pod_environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings()
    assert all(name in str(refused.value) for name in SECRET)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=_name)
def test_a_pod_has_good_settings(pod_environment: pytest.MonkeyPatch, deployment: dict[str, Any]) -> None:
    _fill_in(pod_environment)
    for name, value in _own_environment(deployment).items():
        pod_environment.setenv(name, value)
    settings = load_settings()
    assert settings.host == "0.0.0.0"
    assert settings.drain.total_seconds() == float(CONFIG["TASKER_DRAIN"])


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=_name)
def test_no_service_is_taken_for_a_setting(pod_environment: pytest.MonkeyPatch, deployment: dict[str, Any]) -> None:
    """Kubernetes tells pods of every Service of their namespace, in variables of its name."""
    _fill_in(pod_environment)
    pod_environment.setenv("TASKER_API_PORT", "tcp://10.0.0.1:5000")
    with pytest.raises(ConfigError, match="TASKER_API_PORT"):
        load_settings()
    assert _pod(deployment)["enableServiceLinks"] is False


def test_the_workers_do_not_count_the_processors_of_the_node() -> None:
    assert {"TASKER_PROCESSES", "TASKER_GPT_THREADS"} <= set(_own_environment(WORKER))


def _connections(deployment: Mapping[str, Any]) -> int:
    """Return how many connections one pod holds: its pool, and the one that listens."""
    return int(_own_environment(deployment).get("TASKER_POOL_SIZE", Settings().pool_size)) + 1


def test_all_of_them_find_a_connection_to_postgresql_also_during_an_update() -> None:
    apis = API["spec"]["replicas"] + API["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    most = SCALER["spec"]["maxReplicaCount"]
    workers = most + -(-most // 4)  # Kubernetes' own maxSurge: 25 %, rounded up
    assert apis * _connections(API) + workers * _connections(WORKER) <= FREE_CONNECTIONS


def _probe(url: str, deployment: Mapping[str, Any], kind: str) -> httpx2.Response:
    """Ask as the kubelet does: by the pod's address, unless the probe says another Host."""
    probe = _container(deployment)[f"{kind}Probe"]["httpGet"]
    headers = {"host": POD_ADDRESS} | {entry["name"].lower(): entry["value"] for entry in probe["httpHeaders"]}
    return httpx2.get(url + probe["path"], headers=headers)


def _metric(url: str, trigger: Mapping[str, Any]) -> int:
    """Ask as KEDA does: by the Service's address, with the token."""
    metadata = trigger["metadata"]
    asked = urlsplit(metadata["url"])
    reply = httpx2.get(url + asked.path, headers={"host": asked.netloc, "authorization": f"Bearer {TOKEN}"})
    assert reply.status_code == 200, reply.text
    value = reply.json()[metadata["valueLocation"]]
    assert isinstance(value, int)
    return value


def _wait_for(url: str, trigger: Mapping[str, Any], wanted: int) -> None:
    limit = monotonic() + 20
    while (got := _metric(url, trigger)) != wanted:
        assert monotonic() < limit, f"expected a load of {wanted}, got {got}"
        sleep(0.05)


def test_probes_and_scaler_are_answered_by_real_processes(tmp_path: Path, cluster: Cluster) -> None:
    """API and worker run here with the arguments and settings of the pods, and are asked as the pods would be."""
    tasks = tmp_path / "slow.py"
    tasks.write_text(
        "import asyncio\nfrom tasker import task\n@task\nasync def slow() -> None:\n    await asyncio.sleep(3)\n"
    )
    database = cluster.fresh_database()
    env = {**CONFIG, "TASKER_DATABASE_URL": database, "TASKER_TOKEN": TOKEN, "TASKER_TASKS": str(tasks)}
    default, llm = SCALER["spec"]["triggers"]
    command, *flags = _container(API)["args"]
    assert command == "serve"
    assert _container(WORKER)["args"] == ["worker", "--port", str(Settings().port)]
    with run_server(tmp_path, *flags, env=env | _own_environment(API)) as api:
        for kind in ("startup", "liveness", "readiness"):
            assert _probe(api.url, API, kind).status_code == 200
        assert httpx2.get(f"{api.url}/livez", headers={"host": POD_ADDRESS}).status_code == 421, (
            "hence the probes' Host"
        )
        assert _metric(api.url, default) == _metric(api.url, llm) == 0
        for type, params in (("sum", [1, 2]), ("sum", [3, 4]), ("slow", [])):
            order = {"type": type, "params": params}
            headers = {"host": "tasker-api:5000", "authorization": f"Bearer {TOKEN}"}
            assert httpx2.post(f"{api.url}/task", json=order, headers=headers).status_code == 202
        assert (_metric(api.url, default), _metric(api.url, llm)) == (3, 0)
        with run_worker(tmp_path, env=env | _own_environment(WORKER), name="worker") as worker:
            for kind in ("startup", "liveness", "readiness"):
                assert _probe(worker.url, WORKER, kind).status_code == 200
            _wait_for(api.url, default, 1)  # it runs: its worker must stay
            held = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database_of(database)}'"
            assert int(cluster.sql(held)[0][0]) <= _connections(API) + _connections(WORKER)
            _wait_for(api.url, default, 0)
            assert worker.stop() == 0
