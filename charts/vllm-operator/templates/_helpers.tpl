{{- define "vllm-operator.fullname" -}}
{{- default (ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name)) .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "vllm-operator.selector" -}}
app.kubernetes.io/name: vllm-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "vllm-operator.labels" -}}
{{ include "vllm-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "vllm-operator.serviceAccountName" -}}
{{- default (include "vllm-operator.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "vllm-operator.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "vllm-operator.webhookService" -}}
{{- printf "%s-webhook" (include "vllm-operator.fullname" .) -}}
{{- end -}}

{{- define "vllm-operator.certificateSecret" -}}
{{- if eq .Values.webhook.certificates.mode "secret" -}}
{{- required "webhook.certificates.secretName is needed for mode \"secret\"" .Values.webhook.certificates.secretName -}}
{{- else -}}
{{- printf "%s-webhook-tls" (include "vllm-operator.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* Names under which the API server calls the webhook. */}}
{{- define "vllm-operator.webhookNames" -}}
{{- $host := printf "%s.%s.svc" (include "vllm-operator.webhookService" .) .Release.Namespace -}}
{{- printf "%s,%s.cluster.local" $host $host -}}
{{- end -}}

{{/* Not empty where somebody else keeps the certificate. */}}
{{- define "vllm-operator.mountsCertificate" -}}
{{- if and .Values.webhook.enabled (ne .Values.webhook.certificates.mode "self-managed") }}true{{ end -}}
{{- end -}}

{{/* Rights to the objects that the operator makes, wherever it watches. */}}
{{- define "vllm-operator.workloadRules" -}}
- apiGroups: [vllm-operator.io]
  resources: [vllmdeployments]
  verbs: [list, watch]
- apiGroups: [vllm-operator.io]
  resources: [vllmdeployments/status]
  verbs: [patch]
# An owner reference with blockOwnerDeletion needs this under OwnerReferencesPermissionEnforcement.
- apiGroups: [vllm-operator.io]
  resources: [vllmdeployments/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [leaderworkerset.x-k8s.io]
  resources: [leaderworkersets]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [create, delete, get, list, patch, watch]
# A Service is wanted as long as its owner is there, and goes with it.
- apiGroups: [""]
  resources: [services]
  verbs: [create, get, list, patch, watch]
# Only where a spec asks for them: spec.scaling, more than one replica, spec.networkPolicy, spec.monitoring, spec.gateway.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [inference.networking.k8s.io]
  resources: [inferencepools]
  verbs: [create, delete, get, list, patch, watch]
# What the namespace may ask for, to say before the pods are refused what they are refused for.
- apiGroups: [""]
  resources: [resourcequotas]
  verbs: [list, watch]
# Model facts (spec.model.configRef) and the hub's token (spec.model.tokenSecretRef), read by name and never listed.
- apiGroups: [""]
  resources: [configmaps{{ if .Values.models.hubEnabled }}, secrets{{ end }}]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
