{{/* Names and labels that several objects share. */}}

{{/* Where the control plane lives: here, or where a release of gateways alone is told. */}}
{{- define "sluice.controlPlaneNamespace" -}}
{{- if .Values.controlPlane.enabled -}}
{{- .Release.Namespace -}}
{{- else -}}
{{- .Values.controlPlane.namespace | default "istio-system" -}}
{{- end -}}
{{- end -}}

{{/* The Service that proxies dial. */}}
{{- define "sluice.controlPlaneService" -}}
{{- ternary "istiod" "sluiced" .Values.compat.istioNames -}}
{{- end -}}

{{/* A name for what has no namespace: two control planes do not take each other's. */}}
{{- define "sluice.clusterName" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- if ne $root.Values.revision "default" -}}{{- $name = printf "%s-%s" $name $root.Values.revision -}}{{- end -}}
{{- if ne $root.Release.Namespace "istio-system" -}}{{- $name = printf "%s-%s" $name $root.Release.Namespace -}}{{- end -}}
{{- $name -}}
{{- end -}}

{{/* Mesh-wide defaults live here. */}}
{{- define "sluice.rootNamespace" -}}
{{- .Values.meshConfig.rootNamespace | default .Release.Namespace -}}
{{- end -}}

{{/* The ConfigMap with the roots, in every namespace. Istio's name is left to Istio where a revision says that it may be there. */}}
{{- define "sluice.rootConfigMap" -}}
{{- .Values.rootConfigMap | default (ternary "istio-ca-root-cert" "sluice-ca-root-cert" (eq .Values.revision "default")) -}}
{{- end -}}

{{/* Namespaces whose Secrets the control plane may read, one per line. */}}
{{- define "sluice.secretNamespaces" -}}
{{- prepend .Values.controlPlane.secretNamespaces .Release.Namespace | uniq | join "," -}}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "sluice.labels" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
istio.io/rev: {{ .Values.revision }}
{{- end -}}

{{/* An image: sluice.image (list $ "sluiced"). */}}
{{- define "sluice.image" -}}
{{- $image := (index . 0).Values.image -}}
{{- if $image.registry -}}{{ $image.registry }}/{{- end -}}{{ index . 1 }}:{{ $image.tag }}
{{- end -}}

{{/* What every container may do: nothing. */}}
{{- define "sluice.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 1337
runAsGroup: 1337
{{- end -}}

{{/* Replicas on different nodes and zones where that is possible: sluice.spread (list constraints app). */}}
{{- define "sluice.spread" -}}
{{- if index . 0 -}}
{{- toYaml (index . 0) -}}
{{- else -}}
{{- $app := index . 1 -}}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- topologyKey: {{ . }}
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {app: {{ $app }}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Where pods go: nodeSelector, tolerations, affinity, priority. */}}
{{- define "sluice.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Plural and group of every kind whose definition is in files/crds, as `plural.group` lines. */}}
{{- define "sluice.kinds" -}}
{{- range $path, $_ := .Files.Glob "files/crds/*.yaml" }}
{{- base $path | trimSuffix ".yaml" }}{{ "\n" }}
{{- end }}
{{- end -}}

{{/* The same as JSON, plurals by group. */}}
{{- define "sluice.kindsByGroup" -}}
{{- $groups := dict -}}
{{- range include "sluice.kinds" . | trim | splitList "\n" -}}
{{- $parts := regexSplit "\\." . 2 -}}
{{- $group := index $parts 1 -}}
{{- $_ := set $groups $group (append (get $groups $group | default list) (index $parts 0)) -}}
{{- end -}}
{{- toJson $groups -}}
{{- end -}}
