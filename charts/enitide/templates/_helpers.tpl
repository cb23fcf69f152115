{{/* Labels that every object carries. No managed-by: who applies the chart (Helm, the EKS add-on service) labels that. */}}
{{- define "enitide.labels" -}}
app.kubernetes.io/name: enitide
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: enitide
{{- end }}

{{/* Labels that select the pods of a component; never changed, because a selector cannot be. */}}
{{- define "enitide.selector" -}}
app.kubernetes.io/name: enitide
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "enitide.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}:{{ $tag }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ $tag }}
{{- end -}}
{{- end }}

{{/* Where the API server is, for pods that run before the Service `kubernetes` can be reached. */}}
{{- define "enitide.apiServerEnv" -}}
{{- with .Values.apiServer.host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ . | quote }}
{{- end }}
{{- with .Values.apiServer.port }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{/* A probe of a program that listens on its metrics address. `host`: that of the address, because it is on the host. */}}
{{- define "enitide.probe" -}}
httpGet:
  path: {{ .path }}
  host: {{ regexReplaceAll ":[0-9]+$" .address "" | quote }}
  port: {{ regexFind "[0-9]+$" .address }}
{{- end }}

{{/* Reading policies of every kind; those whose CustomResourceDefinition is absent are waited for. */}}
{{- define "enitide.policyRules" -}}
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [list, watch]
- apiGroups: [policy.networking.k8s.io]
  resources: [clusternetworkpolicies, adminnetworkpolicies, baselineadminnetworkpolicies]
  verbs: [list, watch]
- apiGroups: [cilium.io]
  resources: [ciliumnetworkpolicies, ciliumclusterwidenetworkpolicies]
  verbs: [list, watch]
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  verbs: [list, watch]
{{- end }}

{{/* The configuration file. What operator and agents must have alike is written once, at either, and holds for both. */}}
{{- define "enitide.settings" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- range $key := list "policy" "host_policy" "identity_labels" -}}
{{- $ours := index $settings.operator $key -}}
{{- $theirs := index $settings.agent $key -}}
{{- if and (kindIs "invalid" $ours) (not (kindIs "invalid" $theirs)) -}}
{{- $_ := set $settings.operator $key $theirs -}}
{{- else if and (kindIs "invalid" $theirs) (not (kindIs "invalid" $ours)) -}}
{{- $_ := set $settings.agent $key $ours -}}
{{- else if ne (toJson $ours) (toJson $theirs) -}}
{{- fail (printf "settings.operator.%s is %s and settings.agent.%s is %s: write it once, or the same twice" $key (toJson $ours) $key (toJson $theirs)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end }}
