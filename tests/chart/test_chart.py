"""What the chart renders, for each way of installing it, against what the operator reads and does."""

from __future__ import annotations

import argparse
import subprocess
from functools import cache
from typing import Any

import pytest
import yaml
from tests.controlplane.build import ROOT
from tests.controlplane.tools import CHART, NAMESPACE, helm, helm_template, install_manifest

from vllm_operator.api.v1alpha1 import GROUP, PLURAL
from vllm_operator.cli.label_node import add_parser
from vllm_operator.runtime.declared import SOURCES
from vllm_operator.runtime.handlers import WEBHOOK_ID
from vllm_operator.runtime.kube import CHILDREN, OPTIONAL_CHILDREN, SERVICES
from vllm_operator.settings import PREFIX, Settings, load_settings

VARIANTS = {
    "default": (),
    "cert-manager": ("--set=webhook.certificates.mode=cert-manager",),
    "secret": (
        "--set=webhook.certificates.mode=secret",
        "--set=userRoles.aggregate=false",
        "--set=webhook.certificates.secretName=tls",
        "--set=webhook.certificates.caBundle=Y2E=",
    ),
    "no webhook": ("--set=webhook.enabled=false",),
    "namespaced": ("--set=watchNamespaces={team-a,team-b}",),
    "two replicas": ("--set=replicas=2",),
    "everything": (
        "--set=networkPolicy.enabled=true",
        "--set=networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.team=monitoring",
        "--set=networkPolicy.egressPorts={8443}",
        "--set=metrics.podMonitor=true",
        "--set=metrics.alerts=true",
        "--set=metrics.dashboard=true",
        "--set=models.hubEndpoint=https://mirror.example.com",
        "--set=models.hubEnabled=false",
        "--set=priorityClassName=system-cluster-critical",
        "--set=imagePullSecrets[0].name=pull",
    ),
    "no observations": ("--set=observations.enabled=false", "--set=networkPolicy.enabled=true"),
    "node agent": ("--set=nodeAgent.enabled=true",),
    "node agent with its own ideas": (
        "--set=nodeAgent.enabled=true",
        "--set=nodeAgent.runtimeClassName=nvidia",
        "--set=nodeAgent.hostPID=true",
        "--set=nodeAgent.nodeSelector.pool=gpu",
    ),
}
CAPACITY = [resource for source in SOURCES for resource in source.versions]
every_variant = pytest.mark.parametrize("variant", VARIANTS)


@cache
def objects(variant: str) -> tuple[dict[str, Any], ...]:
    return tuple(document for document in yaml.safe_load_all(helm_template(*VARIANTS[variant])) if document)


def of_kind(variant: str, kind: str) -> list[dict[str, Any]]:
    return [obj for obj in objects(variant) if obj["kind"] == kind]


def operator_pod(variant: str) -> dict[str, Any]:
    (deployment,) = of_kind(variant, "Deployment")
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


def rules(variant: str, *kinds: str) -> list[dict[str, Any]]:
    """Return the rules of the roles that are bound to somebody: the operator, or the node agent."""
    return [rule for kind in kinds for role in of_kind(variant, kind) if not for_users(role) for rule in role["rules"]]


def for_users(role: dict[str, Any]) -> bool:
    return any("/aggregate-to-" in label for label in role["metadata"]["labels"])


def test_helm_lint_finds_nothing() -> None:
    done = subprocess.run([str(helm()), "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_chart_ships_the_generated_crd() -> None:
    name = f"{PLURAL}.{GROUP}.yaml"
    assert (CHART / "crds" / name).read_text() == (ROOT / "crds" / name).read_text()


def test_the_plain_manifests_are_what_the_chart_renders() -> None:
    assert (ROOT / "manifests" / "install.yaml").read_text() == install_manifest(), "run `make manifests`"


@pytest.mark.parametrize(
    "value",
    [
        "--set=webhook.failurePolicy=Maybe",
        "--set=replicas=0",
        "--set=logLevel=loud",
        "--set=no.such.value=1",
        "--set=webhook.certificates.mode=magic",
        "--set=nodeAgent.intervalSeconds=1",
        "--set=networkPolicy.egressPorts={0}",
    ],
)
def test_a_value_that_means_nothing_is_refused(value: str) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        helm_template(value)


@every_variant
def test_every_variable_of_the_chart_is_a_setting_that_the_operator_understands(variant: str) -> None:
    (container,) = operator_pod(variant)["containers"]
    given = {entry["name"]: entry.get("value") or "from-a-field" for entry in container["env"]}
    ours = {name.removeprefix(PREFIX).lower() for name in given if name.startswith(PREFIX)}
    assert ours <= Settings.model_fields.keys()
    load_settings(given)


@every_variant
def test_the_operators_pod_is_restricted(variant: str) -> None:
    pod = operator_pod(variant)
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert all(not ({"hostPath", "hostNetwork"} & volume.keys()) for volume in pod["volumes"])


@every_variant
def test_no_right_is_a_wildcard_and_secrets_are_read_by_name_only(variant: str) -> None:
    for rule in rules(variant, "ClusterRole", "Role"):
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        if "secrets" in rule["resources"]:
            # Of one Secret alone more is allowed: that of the webhook's own certificate, where the operator keeps it.
            assert rule["verbs"] == ["get", *(["update"] if "resourceNames" in rule else [])]


@every_variant
def test_the_operator_may_write_every_kind_that_it_makes_and_watch_what_it_reads(variant: str) -> None:
    granted = {
        (group, resource, verb)
        for rule in rules(variant, "ClusterRole", "Role")
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    for child in (*CHILDREN, *OPTIONAL_CHILDREN):
        group = child.api_version.rpartition("/")[0]
        verbs = {"create", "patch", "list", "watch", *(("delete",) if child is not SERVICES else ())}
        assert {(group, child.plural, verb) for verb in verbs} <= granted
    assert {("", resource, verb) for resource in ("nodes", "pods") for verb in ("list", "watch")} <= granted
    for source in CAPACITY:
        group = source.api_version.rpartition("/")[0]
        assert {(group, source.plural, verb) for verb in ("list", "watch")} <= granted
    assert (GROUP, f"{PLURAL}/status", "patch") in granted
    assert (GROUP, PLURAL, "patch") not in granted


def test_an_operator_that_may_not_read_the_hub_has_no_right_to_users_secrets() -> None:
    assert [rule["resources"] for rule in rules("default", "ClusterRole") if "secrets" in rule["resources"]] == [
        ["configmaps", "secrets"]
    ]
    assert not any("secrets" in rule["resources"] for rule in rules("everything", "ClusterRole"))
    (own,) = [rule for rule in rules("everything", "Role") if "secrets" in rule["resources"]]
    assert len(own["resourceNames"]) == 1, "that of its own certificate"


@pytest.mark.parametrize("variant", ["default", "two replicas"])
def test_replicas_are_spread_and_drained_one_at_a_time_and_a_single_one_is_never_in_the_way(variant: str) -> None:
    budgets = of_kind(variant, "PodDisruptionBudget")
    spread = operator_pod(variant).get("topologySpreadConstraints", [])
    if variant == "default":
        assert (budgets, spread) == ([], [])
        return
    (deployment,) = of_kind(variant, "Deployment")
    selector = deployment["spec"]["selector"]
    (budget,), (constraint,) = budgets, spread
    assert budget["spec"]["selector"] == constraint["labelSelector"] == selector
    assert budget["spec"]["maxUnavailable"] == 1
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway", "two replicas on the only node are better than one"


def test_the_webhook_stays_open_and_the_metrics_only_to_whom_the_values_name() -> None:
    (policy,) = of_kind("everything", "NetworkPolicy")
    by_port = {rule["ports"][0]["port"]: rule.get("from") for rule in policy["spec"]["ingress"]}
    assert by_port == {
        "webhook": None,
        "http": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}],
    }
    assert {"port": 8443, "protocol": "TCP"} in policy["spec"]["egress"][0]["ports"]
    without = helm_template(
        *VARIANTS["everything"], "--set=webhook.enabled=false", "--show-only=templates/networkpolicy.yaml"
    )
    ingress = yaml.safe_load(without)["spec"]["ingress"]
    assert [rule["ports"] for rule in ingress] == [[{"port": "http", "protocol": "TCP"}]], "no rule without ports"


def test_the_roles_of_users_are_bound_to_nobody_and_speak_of_nothing_else() -> None:
    ours = [role for role in of_kind("default", "ClusterRole") if for_users(role)]
    assert [role["metadata"]["name"].rpartition("-")[2] for role in ours] == ["view", "edit"]
    bound = {binding["roleRef"]["name"] for binding in of_kind("default", "ClusterRoleBinding")}
    assert not bound & {role["metadata"]["name"] for role in ours}
    for role in ours:
        assert {group for rule in role["rules"] for group in rule["apiGroups"]} == {GROUP}
    looking, _ = ours
    assert {verb for rule in looking["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert not [role for role in of_kind("secret", "ClusterRole") if for_users(role)]


def test_in_the_namespaced_mode_only_the_inventory_is_read_cluster_wide() -> None:
    for rule in rules("namespaced", "ClusterRole"):
        if rule["resources"] == ["validatingwebhookconfigurations"]:
            continue
        assert rule["verbs"] == ["list", "watch"]
        assert set(rule["resources"]) <= {"nodes", "pods", *(resource.plural for resource in CAPACITY)}
    bound = {binding["metadata"]["namespace"] for binding in of_kind("namespaced", "RoleBinding")}
    assert bound == {"team-a", "team-b", NAMESPACE}


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant != "no webhook"])
def test_the_webhook_leads_to_the_handler_and_never_sees_what_leaves_the_spec_alone(variant: str) -> None:
    (configuration,) = of_kind(variant, "ValidatingWebhookConfiguration")
    (webhook,) = configuration["webhooks"]
    service = webhook["clientConfig"]["service"]
    (target,) = [obj for obj in of_kind(variant, "Service") if obj["metadata"]["name"] == service["name"]]
    assert service["path"] == f"/{WEBHOOK_ID}"
    assert target["spec"]["ports"][0]["port"] == service["port"]
    assert webhook["failurePolicy"] == "Ignore"
    assert webhook["sideEffects"] == "None"
    assert webhook["timeoutSeconds"] == 5
    assert "object.spec != oldObject.spec" in webhook["matchConditions"][0]["expression"]
    assert webhook["rules"][0]["resources"] == [PLURAL]


@pytest.mark.parametrize("variant", ["default", "namespaced"])
def test_the_certificate_that_the_operator_keeps_is_named_alike_everywhere(variant: str) -> None:
    (container,) = operator_pod(variant)["containers"]
    given = load_settings({entry["name"]: entry.get("value") or NAMESPACE for entry in container["env"]})
    (secret,) = of_kind(variant, "Secret")
    (configuration,) = of_kind(variant, "ValidatingWebhookConfiguration")
    service = configuration["webhooks"][0]["clientConfig"]["service"]

    assert given.webhook_cert_secret == secret["metadata"]["name"]
    assert "data" not in secret, "an upgrade would take the certificate away"
    assert given.webhook_configuration == configuration["metadata"]["name"]
    assert f"{service['name']}.{service['namespace']}.svc" in given.webhook_names
    named = {
        (resource, name): rule["verbs"]
        for rule in rules(variant, "ClusterRole", "Role")
        for resource in rule["resources"]
        for name in rule.get("resourceNames", ())
    }
    assert named["secrets", given.webhook_cert_secret] == ["get", "update"]
    assert named["validatingwebhookconfigurations", given.webhook_configuration] == ["get", "update"]


@pytest.mark.parametrize("variant", ["cert-manager", "secret", "no webhook"])
def test_a_certificate_that_somebody_else_keeps_gives_the_operator_no_right_to_it(variant: str) -> None:
    assert of_kind(variant, "Secret") == []
    resources = {resource for rule in rules(variant, "ClusterRole", "Role") for resource in rule["resources"]}
    assert "validatingwebhookconfigurations" not in resources
    assert not any("secrets" in rule["resources"] and "resourceNames" in rule for rule in rules(variant, "Role"))


def test_without_a_webhook_nothing_of_it_is_left() -> None:
    kinds = {obj["kind"] for obj in objects("no webhook")}
    assert not kinds & {"ValidatingWebhookConfiguration", "Secret", "Certificate", "Service"}
    (container,) = operator_pod("no webhook")["containers"]
    assert "VLLM_OPERATOR_WEBHOOK_CERT_DIR" not in {entry["name"] for entry in container["env"]}


@pytest.mark.parametrize("variant", ["default", "two replicas"])
def test_replicas_elect_a_leader_by_the_lease_that_they_may_write(variant: str) -> None:
    (container,) = operator_pod(variant)["containers"]
    lease = next(entry["value"] for entry in container["env"] if entry["name"] == "VLLM_OPERATOR_LEASE_NAME")
    named = [rule for rule in rules(variant, "Role") if "leases" in rule["resources"] and "resourceNames" in rule]
    assert [rule["resourceNames"] for rule in named] == [[lease]]
    assert set(named[0]["verbs"]) == {"get", "update"}


def test_the_node_agent_is_off_unless_asked_for() -> None:
    assert of_kind("default", "DaemonSet") == []
    assert not any("node-agent" in obj["metadata"]["name"] for obj in objects("default"))


def agent_pod(variant: str) -> dict[str, Any]:
    (agent,) = of_kind(variant, "DaemonSet")
    pod: dict[str, Any] = agent["spec"]["template"]["spec"]
    return pod


def test_the_node_agent_may_read_and_label_nodes_and_nothing_else() -> None:
    account = agent_pod("node agent")["serviceAccountName"]
    (binding,) = [obj for obj in of_kind("node agent", "ClusterRoleBinding") if obj["subjects"][0]["name"] == account]
    (role,) = [
        obj for obj in of_kind("node agent", "ClusterRole") if obj["metadata"]["name"] == binding["roleRef"]["name"]
    ]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "patch"]}]
    assert [obj for obj in of_kind("node agent", "RoleBinding") if obj["subjects"][0]["name"] == account] == []


def test_the_node_agent_sees_the_driver_and_takes_no_gpu() -> None:
    (container,) = agent_pod("node agent")["containers"]
    env = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert env["NVIDIA_DRIVER_CAPABILITIES"] == "utility"
    assert env["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert not any("/" in resource for kind in container["resources"].values() for resource in kind)


def test_the_node_agents_arguments_are_those_of_the_command() -> None:
    (container,) = agent_pod("node agent")["containers"]
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    parsed = parser.parse_args(container["args"])
    assert (parsed.node_name, parsed.interval) == ("$(NODE_NAME)", 300)


def test_the_node_agents_pod_is_restricted_unless_it_is_to_see_the_nodes_processes() -> None:
    pod = agent_pod("node agent")
    (container,) = pod["containers"]
    assert not pod.keys() & {"hostPID", "hostNetwork", "hostIPC", "volumes"}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    own = agent_pod("node agent with its own ideas")
    assert (own["hostPID"], own["runtimeClassName"]) == (True, "nvidia")
    assert own["nodeSelector"] == {"pool": "gpu"}
    assert "affinity" not in own


def test_neither_webhook_nor_metrics_are_looked_for_at_the_node_agent() -> None:
    (agent,) = of_kind("node agent", "DaemonSet")
    (operator,) = of_kind("node agent", "Deployment")
    labels = agent["spec"]["template"]["metadata"]["labels"]
    for selector in (
        operator["spec"]["selector"]["matchLabels"],
        *(obj["spec"]["selector"] for obj in of_kind("node agent", "Service")),
    ):
        assert not selector.items() <= labels.items()


@pytest.mark.parametrize("variant", ["default", "namespaced"])
def test_the_config_map_of_observations_is_named_alike_everywhere_and_kept_by_upgrades(variant: str) -> None:
    (container,) = operator_pod(variant)["containers"]
    given = load_settings({entry["name"]: entry.get("value") or NAMESPACE for entry in container["env"]})
    (kept,) = of_kind(variant, "ConfigMap")
    named = [rule for rule in rules(variant, "ClusterRole", "Role") if "configmaps" in rule["resources"]]

    assert given.observe_pods
    assert given.observations_config_map == kept["metadata"]["name"]
    assert "data" not in kept, "an upgrade would take the observations away"
    writes = [rule for rule in named if set(rule["verbs"]) & {"update", "patch", "create", "delete"}]
    assert [(rule["resourceNames"], rule["verbs"]) for rule in writes] == [
        ([kept["metadata"]["name"]], ["get", "update"])
    ]


def test_an_operator_that_is_to_observe_nothing_has_no_config_map_and_no_way_to_the_pods() -> None:
    assert of_kind("no observations", "ConfigMap") == []
    (container,) = operator_pod("no observations")["containers"]
    given = load_settings({entry["name"]: entry.get("value") or NAMESPACE for entry in container["env"]})
    assert (given.observe_pods, given.observations_config_map) == (False, None)
    (policy,) = of_kind("no observations", "NetworkPolicy")
    (observing,) = of_kind("everything", "NetworkPolicy")
    assert len(observing["spec"]["egress"]) == len(policy["spec"]["egress"]) + 1
