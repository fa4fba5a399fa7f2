"""A replica on several nodes as a LeaderWorkerSet: who serves, who works, who waits for whom."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.render.plans import deployment_of, plan_of

from vllm_operator.planning.flags import flags_of
from vllm_operator.render.objects import render, workload_of
from vllm_operator.render.optional import kinds_without_a_cluster, render_optional

ARGS = ("org/name", "--tensor-parallel-size", "8", "--pipeline-parallel-size", "3", "--nnodes", "3")


def _objects(spec: dict[str, Any] | None = None, **plan: Any) -> dict[str, dict[str, Any]]:
    wanted, found = deployment_of(spec or {}), plan_of(args=ARGS, gpus=24, nodes=3, **plan)
    objects = render(found, wanted, namespace="models", name="example", uid="cr-1")
    served = kinds_without_a_cluster(wanted.spec)
    extra = render_optional(found, wanted, workload=workload_of(objects), uid="cr-1", served=served)
    return {obj["kind"]: obj for obj in (*objects, *extra.objects)}


def _set(spec: dict[str, Any] | None = None, **plan: Any) -> dict[str, Any]:
    found: dict[str, Any] = _objects(spec, **plan)["LeaderWorkerSet"]["spec"]
    return found


def _pods(spec: dict[str, Any] | None = None, **plan: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    templates = _set(spec, **plan)["leaderWorkerTemplate"]
    return templates["leaderTemplate"], templates["workerTemplate"]


def _engines(spec: dict[str, Any] | None = None, **plan: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    leader, worker = (pod["spec"]["containers"][0] for pod in _pods(spec, **plan))
    return leader, worker


def test_a_group_has_a_pod_for_each_node_with_its_share_of_the_gpus() -> None:
    assert _set()["leaderWorkerTemplate"]["size"] == 3
    for engine in _engines():
        assert engine["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    leader, _ = _pods()
    (shm,) = (volume for volume in leader["spec"]["volumes"] if volume["name"] == "shm")
    assert shm["emptyDir"]["sizeLimit"] == "9Gi", "shared memory is between the processes of one pod"


def test_the_ranks_differ_in_nothing_but_that_workers_serve_nobody() -> None:
    leader, worker = _engines()
    assert [token for token in worker["args"] if token != "--headless"] == leader["args"]
    assert worker["args"].count("--headless") == 1
    assert {"startupProbe", "readinessProbe", "livenessProbe", "ports"} <= leader.keys()
    assert not {"startupProbe", "readinessProbe", "livenessProbe", "ports"} & worker.keys()
    assert worker["env"] == leader["env"]


def test_each_rank_finds_the_leader_and_itself_by_what_the_set_tells_it() -> None:
    for engine in _engines():
        text = " ".join(engine["args"])
        assert "--master-addr $(LWS_LEADER_ADDRESS) --master-port 29501 --node-rank $(LWS_WORKER_INDEX)" in text
        host = next(variable for variable in engine["env"] if variable["name"] == "VLLM_HOST_IP")
        assert host["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"


@pytest.mark.parametrize("version", ["0.32.0", "0.33.0"])
def test_both_command_lines_get_through_the_parser(version: str) -> None:
    for engine in _engines(engine_version=version):
        known = [token.replace("$(LWS_WORKER_INDEX)", "1") for token in engine["args"]]
        assert flags_of(version).problems(known) == ()


def test_what_users_write_stays_text_beside_the_variables_of_the_set() -> None:
    leader, _ = _engines({"engine": {"extraArgs": ["--override-generation-config", '{"a": "$(HF_TOKEN)"}']}})
    assert leader["args"].count("$(LWS_LEADER_ADDRESS)") == 1
    (plain,) = (pod for pod in _engines() if "--headless" not in pod["args"])
    assert "$$" not in " ".join(plain["args"])


def test_one_rank_waits_for_the_slowest_as_long_as_a_start_may_take() -> None:
    leader, _ = _engines(checkpoint_bytes=700_000_000_000)
    waits = int(leader["args"][leader["args"].index("--distributed-timeout-seconds") + 1])
    probe = leader["startupProbe"]
    assert waits > probe["periodSeconds"] * probe["failureThreshold"]


def test_workers_stay_as_long_as_their_leader_finishes_requests() -> None:
    leader, worker = _pods()
    timeout = int(_engines()[0]["args"][_engines()[0]["args"].index("--shutdown-timeout") + 1])
    stays = worker["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert stays == leader["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] + timeout
    assert worker["spec"]["terminationGracePeriodSeconds"] >= stays + 10


def test_both_pods_keep_the_engines_last_words_and_are_as_restricted_as_one_alone() -> None:
    alone = workload_of(render(plan_of(), deployment_of({}), namespace="models", name="example"))["spec"]["template"]
    for pod in _pods():
        assert pod["spec"]["securityContext"] == alone["spec"]["securityContext"]
        (engine,) = pod["spec"]["containers"]
        assert engine["securityContext"] == alone["spec"]["containers"][0]["securityContext"]
        (annotation,) = (key for key in pod["metadata"]["annotations"] if key.endswith("logging-config"))
        assert "last_words" in json.loads(pod["metadata"]["annotations"][annotation])["handlers"]


def test_only_the_leader_is_served_and_scraped_and_every_pod_is_guarded() -> None:
    asked = {"replicas": 2, "networkPolicy": {}, "monitoring": {"podMonitor": "On"}}
    objects, (leader, worker) = _objects(asked), _pods(asked)

    def selects(selector: dict[str, str], pod: dict[str, Any]) -> bool:
        return selector.items() <= pod["metadata"]["labels"].items()

    for selector in (objects["Service"]["spec"]["selector"], objects["PodMonitor"]["spec"]["selector"]["matchLabels"]):
        assert selects(selector, leader)
        assert not selects(selector, worker)
    policy = objects["NetworkPolicy"]["spec"]
    for selector in (
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        policy["podSelector"]["matchLabels"],
    ):
        assert selects(selector, leader)
        assert selects(selector, worker)
    (ranks,) = (rule for rule in policy["ingress"] if "ports" not in rule)
    assert selects(ranks["from"][0]["podSelector"]["matchLabels"], worker)


def test_an_autoscaler_scales_the_groups() -> None:
    metric = {"name": "vllm_num_requests_waiting", "averageValue": "5"}
    objects = _objects({"scaling": {"minReplicas": 1, "maxReplicas": 2, "metric": metric}})
    target = objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    expected = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "example"}
    assert target == expected
    assert "replicas" not in objects["LeaderWorkerSet"]["spec"]


@pytest.mark.parametrize(
    ("strategy", "has_room", "expected"),
    [
        pytest.param("Auto", False, {"maxSurge": 0, "maxUnavailable": 1}, id="in-place"),
        pytest.param("Auto", True, {"maxSurge": 1, "maxUnavailable": 0}, id="with-surge"),
        pytest.param("RollingUpdate", False, {"maxSurge": 1, "maxUnavailable": 0}, id="as-asked"),
        pytest.param("Recreate", True, {"maxSurge": 0, "maxUnavailable": "100%"}, id="all-at-once"),
    ],
)
def test_groups_are_replaced_as_the_rollout_says(strategy: str, has_room: bool, expected: dict[str, Any]) -> None:
    found = _set({"rollout": {"strategy": strategy}}, has_room_for_surge=has_room)
    assert found["rolloutStrategy"]["rollingUpdateConfiguration"] == expected


def test_a_group_that_has_lost_a_pod_starts_anew_and_its_name_is_no_other_services() -> None:
    found = _set()
    assert found["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupOnPodRestart"
    assert found["networkConfig"] == {"subdomainPolicy": "UniquePerReplica"}


def test_an_overlay_reaches_both_pods_but_for_probes_of_the_engine() -> None:
    sidecar = {"name": "proxy", "image": "proxy:1", "readinessProbe": {"tcpSocket": {"port": 1}}}
    engine = {"name": "engine", "readinessProbe": {"failureThreshold": 9}, "env": [{"name": "A", "value": "b"}]}
    overlay = {"metadata": {"labels": {"team": "a"}}, "spec": {"containers": [engine, sidecar]}}
    leader, worker = _pods({"podTemplate": overlay})
    for pod in (leader, worker):
        assert pod["metadata"]["labels"]["team"] == "a"
        assert pod["spec"]["containers"][1] == sidecar
        assert {"name": "A", "value": "b"} in pod["spec"]["containers"][0]["env"]
    assert leader["spec"]["containers"][0]["readinessProbe"]["failureThreshold"] == 9
    assert "readinessProbe" not in worker["spec"]["containers"][0]
