"""The manifests in docker/kubernetes are valid, and agree with the service and with each other."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from sfsc_service.http.access import HEALTH_PATHS
from sfsc_service.metrics import Metrics
from sfsc_service.settings import Settings

DOCKER = Path(__file__).parents[2] / "docker"
DOCUMENTS = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted((DOCKER / "kubernetes").glob("*.yaml"))
}
VERSIONS = ("1.30", kubernetes_validate.latest_version())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_manifest_is_valid(name: str, version: str) -> None:
    kubernetes_validate.validate(DOCUMENTS[name], version, strict=True)


def test_a_manifest_that_is_wrong_would_be_noticed() -> None:
    wrong = DOCUMENTS["service"] | {"spec": {"ports": [{"prot": 1}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@pytest.fixture
def pod() -> dict[str, Any]:
    return DOCUMENTS["deployment"]["spec"]["template"]["spec"]


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["containers"]
    return only


def test_probes_ask_what_the_service_answers_where_it_listens(container: dict[str, Any]) -> None:
    ((name, port),) = [(one["name"], one["containerPort"]) for one in container["ports"]]
    assert port == Settings.model_fields["port"].default
    probes = {kind: container[kind]["httpGet"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startupProbe": "/readyz",
        "readinessProbe": "/readyz",
        "livenessProbe": "/livez",
    }
    assert {probe["path"] for probe in probes.values()} <= set(HEALTH_PATHS)
    assert {probe["port"] for probe in probes.values()} == {name}
    ((served,),) = [DOCUMENTS["service"]["spec"]["ports"]]
    assert (served["port"], served["targetPort"]) == (port, name)
    (allowed,) = DOCUMENTS["network-policy"]["spec"]["ingress"]
    assert allowed["ports"] == [{"port": name}]
    annotations = DOCUMENTS["deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port)


def test_every_variable_is_a_setting_with_a_value_that_it_takes(container: dict[str, Any]) -> None:
    given = {one["name"].removeprefix("SFSC_").lower(): one.get("value") for one in container["env"]}
    assert given.keys() <= Settings.model_fields.keys()
    assert given.pop("store") is None, "it may hold a password, and comes from the Secret"
    settings = Settings(**given, store="milvus://user:password@milvus:19530/default")
    grace = DOCUMENTS["deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= settings.drain_delay_s + settings.shutdown_grace_s + 5


def test_every_file_of_the_secret_and_every_place_to_write_is_mounted(pod: dict, container: dict) -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert set(mounts.values()) == volumes.keys()
    environment = {one["name"]: one.get("value") for one in container["env"]}
    keys = Path(environment["SFSC_KEYS"])
    assert [item["path"] for item in volumes[mounts[str(keys.parent)]]["secret"]["items"]] == [keys.name]
    claimed = volumes[mounts[environment["SFSC_IMAGE_FOLDER"]]]["persistentVolumeClaim"]["claimName"]
    assert claimed == DOCUMENTS["images"]["metadata"]["name"]
    assert "ReadWriteMany" in DOCUMENTS["images"]["spec"]["accessModes"]
    assert {"/data", "/tmp"} < mounts.keys()


def test_a_pod_has_no_privileges_and_the_user_of_the_image(pod: dict, container: dict) -> None:
    (user, group) = re.findall(r"^USER (\d+):(\d+)$", (DOCKER / "service.Dockerfile").read_text(), re.M)[0]
    context = pod["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (int(user), int(group), int(group))
    assert context["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"].keys() == {"requests", "limits"}


def test_all_select_the_pods_of_the_deployment() -> None:
    deployment, name = DOCUMENTS["deployment"], DOCUMENTS["deployment"]["metadata"]["name"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert DOCUMENTS["service"]["spec"]["selector"] == labels
    assert DOCUMENTS["disruption-budget"]["spec"]["selector"]["matchLabels"] == labels
    assert DOCUMENTS["network-policy"]["spec"]["podSelector"]["matchLabels"] == labels
    target = DOCUMENTS["autoscaler"]["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": deployment["apiVersion"], "kind": deployment["kind"], "name": name}


def test_the_autoscaler_reads_a_gauge_of_the_service_and_leaves_one_that_can_be_disrupted() -> None:
    spec = DOCUMENTS["autoscaler"]["spec"]
    (metric,) = [one["pods"] for one in spec["metrics"]]
    gauges = {family.name for family in Metrics().registry.collect() if family.type == "gauge"}
    assert metric["metric"]["name"] in gauges
    assert metric["target"]["averageValue"] == f"{Settings.model_fields['slo_ms'].default:g}m"  # milli: of seconds
    assert spec["minReplicas"] > DOCUMENTS["disruption-budget"]["spec"]["maxUnavailable"]
