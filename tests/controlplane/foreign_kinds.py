"""Kinds of other projects, as far as the operator renders them: small structural schemas of our own.

They hold the fields that are rendered, with the bounds, defaults and list types that the projects document. What is not
here is refused, so that a slip in a template is seen. What the projects' controllers do is not here.

PodMonitor: prometheus-operator, monitoring.coreos.com/v1. ScaledObject: KEDA, keda.sh/v1alpha1. HTTPRoute: Gateway API,
gateway.networking.k8s.io/v1. InferencePool: Gateway API Inference Extension, inference.networking.k8s.io/v1.
LeaderWorkerSet: its own project, leaderworkerset.x-k8s.io/v1, with pods as core/v1 has them. PrometheusRule:
prometheus-operator. Issuer and Certificate: cert-manager, cert-manager.io/v1, as far as the chart makes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.controlplane.client import Api

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
NUMBER: Schema = {"type": "integer", "format": "int32"}
PORT: Schema = {**NUMBER, "minimum": 1, "maximum": 65535}


def _object(*required: str, **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


def _atomic(items: Schema, **bounds: int) -> Schema:
    return {"type": "array", "items": items, "x-kubernetes-list-type": "atomic", **bounds}


def _text(*values: str, default: str | None = None) -> Schema:
    return {**TEXT, **({"enum": list(values)} if values else {}), **({} if default is None else {"default": default})}


SELECTOR = _object(matchLabels=TEXTS)
CONDITIONS: Schema = {
    "type": "array",
    "items": _object("type", "status", type=TEXT, status=TEXT, reason=TEXT, message=TEXT),
}
PARENTS_STATUS = _object(
    parents=_atomic(_object(parentRef=_object(name=TEXT), controllerName=TEXT, conditions=CONDITIONS))
)

POD_MONITOR = _object(
    "selector",
    "podMetricsEndpoints",
    selector=SELECTOR,
    podMetricsEndpoints={"type": "array", "items": _object(port=TEXT, path=TEXT)},
)

PROMETHEUS_RULE = _object(
    groups={
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": _object(
            "name",
            name={**TEXT, "minLength": 1},
            rules={
                "type": "array",
                "items": _object(
                    "expr",
                    alert=TEXT,
                    expr={"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True},
                    labels=TEXTS,
                    annotations=TEXTS,
                    **{"for": TEXT},
                ),
            },
        ),
    },
)
ISSUER = _object(selfSigned={"type": "object", "properties": {"crlDistributionPoints": _atomic(TEXT)}})
CERTIFICATE = _object(
    "issuerRef",
    "secretName",
    secretName=TEXT,
    dnsNames=_atomic(TEXT),
    issuerRef=_object("name", name=TEXT, kind=TEXT, group=TEXT),
)

SCALING_RULES = _object(
    stabilizationWindowSeconds=NUMBER,
    selectPolicy=TEXT,
    policies=_atomic(_object("type", "value", "periodSeconds", type=TEXT, value=NUMBER, periodSeconds=NUMBER)),
)
SCALED_OBJECT = _object(
    "scaleTargetRef",
    "triggers",
    scaleTargetRef=_object("name", apiVersion=TEXT, kind=TEXT, name=TEXT),
    minReplicaCount=NUMBER,
    maxReplicaCount=NUMBER,
    cooldownPeriod=NUMBER,
    pollingInterval=NUMBER,
    advanced=_object(
        horizontalPodAutoscalerConfig=_object(behavior=_object(scaleDown=SCALING_RULES, scaleUp=SCALING_RULES))
    ),
    triggers={
        "type": "array",
        "items": _object("type", "metadata", type=TEXT, metadata=TEXTS, authenticationRef=_object("name", name=TEXT)),
    },
)

HTTP_ROUTE = _object(
    parentRefs=_atomic(
        _object(
            "name",
            group=_text(default="gateway.networking.k8s.io"),
            kind=_text(default="Gateway"),
            name=TEXT,
            namespace=TEXT,
            sectionName=TEXT,
        )
    ),
    hostnames=_atomic(TEXT),
    rules=_atomic(
        _object(
            matches=_atomic(
                _object(path=_object(type=_text("Exact", "PathPrefix", "RegularExpression"), value=TEXT)),
            ),
            filters=_atomic(
                _object(
                    "type",
                    type=_text("URLRewrite", "RequestRedirect"),
                    urlRewrite=_object(
                        path=_object(
                            "type",
                            type=_text("ReplaceFullPath", "ReplacePrefixMatch"),
                            replacePrefixMatch=TEXT,
                        )
                    ),
                )
            ),
            timeouts=_object(request={**TEXT, "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}),
            backendRefs=_atomic(
                _object(
                    "name",
                    group=_text(default=""),
                    kind=_text(default="Service"),
                    name=TEXT,
                    port=PORT,
                    weight={**NUMBER, "default": 1},
                )
            ),
        )
    ),
)

INFERENCE_POOL = _object(
    "selector",
    "targetPorts",
    "endpointPickerRef",
    selector=SELECTOR,
    targetPorts=_atomic(_object("number", number=PORT), minItems=1, maxItems=8),
    endpointPickerRef={
        **_object(
            "name",
            group=_text(default=""),
            kind=_text(default="Service"),
            name=TEXT,
            port=_object("number", number=PORT),
            failureMode=_text("FailOpen", "FailClose", default="FailClose"),
        ),
        "x-kubernetes-validations": [
            {"rule": "self.kind != 'Service' || has(self.port)", "message": "port is required when kind is Service"}
        ],
    },
)


def _keyed(*keys: str, **properties: Schema) -> Schema:
    """A list whose items are told apart by some of their fields, as server-side apply needs to know."""
    return {
        "type": "array",
        "items": _object(*keys, **properties),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": list(keys),
    }


FLAG: Schema = {"type": "boolean"}
NUMBER_OR_TEXT: Schema = {"anyOf": [{"type": "integer"}, TEXT], "x-kubernetes-int-or-string": True}
QUANTITIES: Schema = {"type": "object", "additionalProperties": NUMBER_OR_TEXT}
PROBE = _object(
    httpGet=_object("port", path=TEXT, port=NUMBER_OR_TEXT),
    periodSeconds=NUMBER,
    timeoutSeconds=NUMBER,
    failureThreshold=NUMBER,
)
CONTAINERS = _keyed(
    "name",
    name=TEXT,
    image=TEXT,
    command=_atomic(TEXT),
    args=_atomic(TEXT),
    env=_keyed(
        "name",
        name=TEXT,
        value=TEXT,
        valueFrom=_object(
            fieldRef=_object("fieldPath", fieldPath=TEXT), secretKeyRef=_object("name", "key", name=TEXT, key=TEXT)
        ),
    ),
    ports=_keyed("containerPort", "protocol", name=TEXT, containerPort=PORT, protocol=_text(default="TCP")),
    resources=_object(requests=QUANTITIES, limits=QUANTITIES),
    startupProbe=PROBE,
    readinessProbe=PROBE,
    livenessProbe=PROBE,
    lifecycle=_object(preStop=_object(sleep=_object("seconds", seconds={"type": "integer", "format": "int64"}))),
    terminationMessagePolicy=TEXT,
    securityContext=_object(
        allowPrivilegeEscalation=FLAG, readOnlyRootFilesystem=FLAG, capabilities=_object(drop=_atomic(TEXT))
    ),
    volumeMounts=_keyed("mountPath", name=TEXT, mountPath=TEXT, readOnly=FLAG),
)
VOLUMES = _keyed(
    "name",
    name=TEXT,
    emptyDir=_object(medium=TEXT, sizeLimit=NUMBER_OR_TEXT),
    hostPath=_object("path", path=TEXT, type=TEXT),
    persistentVolumeClaim=_object("claimName", claimName=TEXT, readOnly=FLAG),
    downwardAPI=_object(
        items=_atomic(_object("path", path=TEXT, fieldRef=_object("fieldPath", fieldPath=TEXT))),
    ),
)
NODE_TERM = _object(matchExpressions=_atomic(_object("key", "operator", key=TEXT, operator=TEXT, values=_atomic(TEXT))))
POD_TEMPLATE = _object(
    metadata=_object(labels=TEXTS, annotations=TEXTS),
    spec=_object(
        "containers",
        automountServiceAccountToken=FLAG,
        enableServiceLinks=FLAG,
        shareProcessNamespace=FLAG,
        terminationGracePeriodSeconds={"type": "integer", "format": "int64"},
        securityContext=_object(
            runAsNonRoot=FLAG,
            runAsUser={"type": "integer", "format": "int64"},
            runAsGroup={"type": "integer", "format": "int64"},
            fsGroup={"type": "integer", "format": "int64"},
            fsGroupChangePolicy=TEXT,
            seccompProfile=_object("type", type=TEXT),
        ),
        nodeSelector=TEXTS,
        affinity=_object(
            nodeAffinity=_object(
                requiredDuringSchedulingIgnoredDuringExecution=_object(
                    "nodeSelectorTerms", nodeSelectorTerms=_atomic(NODE_TERM)
                )
            )
        ),
        tolerations=_atomic(_object(key=TEXT, operator=TEXT, value=TEXT, effect=TEXT)),
        containers=CONTAINERS,
        volumes=VOLUMES,
    ),
)
LEADER_WORKER_SET = _object(
    "leaderWorkerTemplate",
    replicas={**NUMBER, "default": 1},
    startupPolicy=_text("LeaderCreated", "LeaderReady", default="LeaderCreated"),
    networkConfig=_object("subdomainPolicy", subdomainPolicy=_text("Shared", "UniquePerReplica")),
    rolloutStrategy=_object(
        "type",
        type=_text("RollingUpdate", default="RollingUpdate"),
        rollingUpdateConfiguration=_object(
            partition={**NUMBER, "default": 0},
            maxUnavailable={**NUMBER_OR_TEXT, "default": 1},
            maxSurge={**NUMBER_OR_TEXT, "default": 0},
        ),
    ),
    leaderWorkerTemplate=_object(
        "workerTemplate",
        size={**NUMBER, "default": 1},
        restartPolicy=_text(
            "Default",
            "RecreateGroupOnPodRestart",
            "RecreateGroupAfterStart",
            "None",
            default="RecreateGroupOnPodRestart",
        ),
        leaderTemplate=POD_TEMPLATE,
        workerTemplate=POD_TEMPLATE,
    ),
)
LEADER_WORKER_SET_STATUS = _object(
    conditions={"type": "array", "items": _object("type", "status", type=TEXT, status=TEXT)},
    observedGeneration={"type": "integer", "format": "int64"},
    replicas=NUMBER,
    readyReplicas=NUMBER,
    updatedReplicas=NUMBER,
    hpaPodSelector=TEXT,
)


def _crd(group: str, version: str, kind: str, spec: Schema, status: Schema) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    # The API server admits a group of Kubernetes' own only with a word on who has approved it.
    approved = {"api-approved.kubernetes.io": "unapproved, a schema for tests"} if group.endswith("k8s.io") else {}
    schema = {"openAPIV3Schema": _object("spec", spec=spec, status=status)}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}", "annotations": approved},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {"name": version, "served": True, "storage": True, "schema": schema, "subresources": {"status": {}}}
            ],
        },
    }


CRDS = {
    crd["spec"]["names"]["kind"]: crd
    for crd in (
        _crd("monitoring.coreos.com", "v1", "PodMonitor", POD_MONITOR, _object()),
        _crd("keda.sh", "v1alpha1", "ScaledObject", SCALED_OBJECT, _object(conditions=CONDITIONS)),
        _crd("gateway.networking.k8s.io", "v1", "HTTPRoute", HTTP_ROUTE, PARENTS_STATUS),
        _crd("inference.networking.k8s.io", "v1", "InferencePool", INFERENCE_POOL, PARENTS_STATUS),
    )
}
"""The CustomResourceDefinitions of optional objects by kind."""
LEADER_WORKER_SET_CRD = _crd(
    "leaderworkerset.x-k8s.io", "v1", "LeaderWorkerSet", LEADER_WORKER_SET, LEADER_WORKER_SET_STATUS
)
LEADER_WORKER_SET_CRD["spec"]["versions"][0]["subresources"]["scale"] = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.hpaPodSelector",
}
OF_THE_CHART = {
    crd["spec"]["names"]["kind"]: crd
    for crd in (
        _crd("monitoring.coreos.com", "v1", "PrometheusRule", PROMETHEUS_RULE, _object()),
        _crd("cert-manager.io", "v1", "Issuer", ISSUER, _object(conditions=CONDITIONS)),
        _crd("cert-manager.io", "v1", "Certificate", CERTIFICATE, _object(conditions=CONDITIONS)),
    )
}
"""Those that the operator's own chart makes where its values ask for it."""
ALL = {**CRDS, "LeaderWorkerSet": LEADER_WORKER_SET_CRD, **OF_THE_CHART}
"""All of them, with that of the kind that runs pods on several nodes."""


def present(api: Api, kinds: Iterable[str] = tuple(CRDS)) -> list[str]:
    """Return those of the kinds that the cluster has, by whatever definition."""
    return [kind for kind in kinds if api.find("CustomResourceDefinition", ALL[kind]["metadata"]["name"]) is not None]


def install(api: Api, kinds: Iterable[str] = tuple(CRDS)) -> None:
    """Have the cluster serve these kinds."""
    for kind in kinds:
        api.create(ALL[kind])
    for kind in kinds:
        api.wait("CustomResourceDefinition", ALL[kind]["metadata"]["name"], _established)


def remove(api: Api, kinds: Iterable[str] = tuple(CRDS)) -> None:
    """Have the cluster no longer serve them, with all objects of them."""
    names = [ALL[kind]["metadata"]["name"] for kind in kinds]
    for name in names:
        api.delete("CustomResourceDefinition", name)
    for name in names:
        api.wait_gone("CustomResourceDefinition", name)


def _established(crd: dict[str, Any]) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or []
    return any(found["type"] == "Established" and found["status"] == "True" for found in conditions)
