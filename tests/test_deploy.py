"""What is in deploy/: the chart renders to what Kubernetes takes, and both name settings that there are."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from live_asr.config.settings import load_settings
from live_asr.server.access import LINKS_FILE

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
CHART = DEPLOY / "helm" / "live-asr"
APART = {"gateway": {"shared": False}}
ALL = {
    "gateway": {
        "autoscaling": {"enabled": False},
        "nodeSelector": {"disk": "ssd"},
        "resumeUrl": "https://captions.example.org",
    },
    "ray": {"head": {"redisAddress": "redis:6379"}, "worker": {"modelsClaim": "weights"}},
    "imagePullSecrets": [{"name": "registry"}],
}
VALUES = [{}, APART, ALL]
Manifest = dict[str, Any]

needs_helm = pytest.mark.skipif(
    find_spec("helm_python") is None, reason="helm-python-sdk is not installed: none for this Python"
)


def rendered(values: dict[str, Any]) -> list[Manifest]:
    """Return what the chart installs, as Helm renders it."""
    from helm_python.chart import Chart

    with Chart.load(CHART) as chart:
        files = chart.render(values, name="captions", namespace="talks", is_install=True)
    texts = (text for name, text in files.items() if name.endswith(".yaml"))
    return [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest]


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def pods_of(manifests: list[Manifest]) -> list[Manifest]:
    """Return the pods of all workloads, those of Ray among them, as manifests."""
    templates = [
        manifest["spec"]["template"]
        for manifest in manifests
        if manifest["kind"] in ("Deployment", "StatefulSet")
    ]
    for cluster in of_kind(manifests, "RayCluster"):
        groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
        templates += [group["template"] for group in groups]
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}} | template for template in templates
    ]


def environment_of(pod: Manifest) -> dict[str, str]:
    (container,) = pod["spec"]["containers"]
    return {entry["name"]: entry.get("value", "12345678") for entry in container["env"]}


@needs_helm
@pytest.mark.parametrize("values", VALUES)
def test_helm_finds_nothing_wrong_with_the_chart(values: dict[str, Any]) -> None:
    from helm_python.chart import lint

    report = lint(CHART, values, strict=True)
    serious = [message for message in report["messages"] if message["severity"] >= 2]
    assert not serious and not report["errors"]


@needs_helm
@pytest.mark.parametrize("version", ["1.29.0", "1.37.0"])
@pytest.mark.parametrize("values", VALUES)
def test_what_it_renders_is_what_kubernetes_takes(values: dict[str, Any], version: str) -> None:
    """But for RayCluster itself, whose definition is KubeRay's: its pods are looked at alone."""
    import kubernetes_validate

    manifests = rendered(values)
    for manifest in [*manifests, *pods_of(manifests)]:
        if manifest["kind"] != "RayCluster":
            kubernetes_validate.validate(manifest, version, strict=True)
    kinds = {"Service", "PodDisruptionBudget", "NetworkPolicy", "RayCluster"}
    kinds.add("StatefulSet" if values == APART else "Deployment")
    assert kinds <= {manifest["kind"] for manifest in manifests}


@needs_helm
@pytest.mark.parametrize("values", VALUES)
def test_gateways_and_workers_are_given_settings_that_there_are(values: dict[str, Any]) -> None:
    (cluster,) = of_kind(rendered(values), "RayCluster")
    for pod in pods_of(rendered(values)):
        environment = environment_of(pod)
        settings = load_settings(environment=environment).settings
        assert settings.models.recognizer == "large-v3-turbo"
        assert environment["RAY_AUTH_MODE"] == "token"
    gateway = environment_of(pods_of(rendered(values))[0])
    settings = load_settings(environment=gateway).settings
    assert (settings.storage.journal is None) == (values == APART)
    assert settings.server.resume_url == values.get("gateway", {}).get("resumeUrl")
    # KubeRay names the head's service so.
    assert gateway["LIVE_ASR_INFERENCE__ENGINE"] == f"ray://{cluster['metadata']['name']}-head-svc:10001"


@needs_helm
@pytest.mark.parametrize("values", VALUES)
def test_what_selects_pods_selects_gateways_or_all_of_ray(values: dict[str, Any]) -> None:
    manifests = rendered(values)
    (cluster,) = of_kind(manifests, "RayCluster")
    (workload,) = of_kind(manifests, "Deployment") + of_kind(manifests, "StatefulSet")
    gateways = workload["spec"]["template"]["metadata"]["labels"]
    ray = {"ray.io/cluster": cluster["metadata"]["name"]}
    assert workload["spec"]["selector"]["matchLabels"] == gateways
    for service in of_kind(manifests, "Service"):
        assert service["spec"]["selector"] == gateways
    budgets = [one["spec"]["selector"]["matchLabels"] for one in of_kind(manifests, "PodDisruptionBudget")]
    policies = [one["spec"]["podSelector"]["matchLabels"] for one in of_kind(manifests, "NetworkPolicy")]
    assert {str(one) for one in budgets} == {str(one) for one in policies} == {str(gateways), str(ray)}
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) == (workload["kind"], workload["metadata"]["name"])


@needs_helm
def test_gateways_that_share_sessions_share_what_their_links_and_signatures_are_made_of() -> None:
    (pod,) = [pod for pod in pods_of(rendered({})) if pod["spec"]["containers"][0]["name"] == "gateway"]
    (container,) = pod["spec"]["containers"]
    secret = {
        entry["name"]: entry["valueFrom"]["secretKeyRef"]
        for entry in container["env"]
        if "valueFrom" in entry
    }
    assert secret["LIVE_ASR_WEBHOOK__SECRET"] == {"name": "live-asr", "key": "webhook-secret"}
    assert secret["LIVE_ASR_STORAGE__JOURNAL"] == {"name": "live-asr", "key": "journal"}
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "links-key"]
    assert mount["mountPath"] == f"/data/{LINKS_FILE}"
    (volume,) = [one for one in pod["spec"]["volumes"] if one["name"] == "links-key"]
    assert volume["secret"]["items"] == [{"key": "links-key", "path": mount["subPath"]}]


@needs_helm
def test_a_worker_and_a_full_pass_share_a_gpu_and_a_pod_lives_as_long_as_its_gateway_drains() -> None:
    manifests = rendered({})
    gateway = environment_of(pods_of(manifests)[0])
    shares = [gateway[f"LIVE_ASR_CLUSTER__{name}_GPUS"] for name in ("WORKER", "FULL_PASS")]
    assert sum(map(float, shares)) <= 1
    (workload,) = of_kind(manifests, "Deployment")
    drain = float(gateway["LIVE_ASR_SERVER__DRAIN_TIMEOUT"])
    assert workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > drain


def test_services_of_the_compose_file_fit_together() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert {"postgres", "ray-head", "ray-worker", "gateway-1", "gateway-2"} == set(services)
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= set(services)
        environment = {
            key: re.sub(r"\$\{\w+(:-(\w+)|[^}]*)\}", lambda found: found[2] or "12345678", str(value))
            for key, value in service.get("environment", {}).items()
        }
        settings = load_settings(environment=environment).settings
        if name.startswith("gateway"):
            assert settings.inference.engine == "ray://ray-head:10001"
            assert settings.storage.journal is not None
            assert settings.webhook.secret is not None
            (port,) = service["ports"]
            other = "8766" if port.startswith("8765") else "8765"
            assert settings.server.resume_url == f"http://localhost:{other}"
            assert settings.server.resume_url in settings.server.allowed_origins
    assert {
        service["environment"]["RAY_AUTH_MODE"] for name, service in services.items() if "ray" in name
    } == {"token"}
    one, other = services["gateway-1"], services["gateway-2"]
    assert one["volumes"][0] != other["volumes"][0]
    assert one["configs"] == other["configs"] == [{"source": "links-key", "target": f"/data/{LINKS_FILE}"}]


def test_the_image_has_the_version_of_ray_that_is_tested() -> None:
    constraints = (DEPLOY.parent / "constraints.txt").read_text()
    pinned = re.search(r"^ray==(\S+)$", constraints, re.MULTILINE)
    assert pinned is not None
    assert f"ARG RAY={pinned[1]}\n" in (DEPLOY / "Dockerfile").read_text()
    assert yaml.safe_load((CHART / "values.yaml").read_text())["ray"]["version"] == pinned[1]


def test_images_that_others_make_are_named_by_digest() -> None:
    lines = (DEPLOY.parent / "Dockerfile").read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    stages = {line.split()[-1] for line in lines if line.startswith("FROM ")}
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values()
    named = [base for base in bases if base not in stages and not base.startswith("${")]
    named += [service["image"] for service in services if service["image"] != "live-asr-cluster"]
    assert len(named) == 3  # Python's, CUDA's, PostgreSQL's
    assert all(re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image) for image in named)
