{{/* How pods are injected, as sluiced's flags. */}}
{{- define "sluice.injectionFlags" -}}
{{- $proxy := .Values.proxy -}}
{{- $config := .Values.meshConfig.defaultConfig -}}
- --revision={{ .Values.revision }}
- --root-config-map={{ include "sluice.rootConfigMap" . }}
- --discovery-address=https://{{ include "sluice.controlPlaneService" . }}.{{ .Release.Namespace }}.svc:15012
- --proxy-image={{ include "sluice.image" (list . "proxy") }}
- --proxy-image-pull-policy={{ .Values.image.pullPolicy }}
{{- range .Values.image.pullSecrets }}
- --proxy-image-pull-secret={{ .name }}
{{- end }}
- --proxy-cpu={{ $proxy.resources.requests.cpu }}
- --proxy-memory={{ $proxy.resources.requests.memory }}
- --proxy-cpu-limit={{ $proxy.resources.limits.cpu }}
- --proxy-memory-limit={{ $proxy.resources.limits.memory }}
- --proxy-log-level={{ $proxy.logLevel }}
- --proxy-concurrency={{ $config.concurrency }}
- --native-sidecar={{ .Values.injection.nativeSidecar }}
- --rewrite-probes={{ .Values.injection.rewriteProbes }}
{{- if .Values.injection.enableNamespacesByDefault }}
- --inject-by-default
{{- end }}
{{- if $config.holdApplicationUntilProxyStarts }}
- --hold-application
{{- end }}
{{- if $proxy.dnsCapture }}
- --redirect-dns
{{- end }}
{{- if $proxy.nativeNftables }}
- --native-nftables
{{- end }}
- {{ printf "--include-ip-ranges=%s" $proxy.includeIPRanges | quote }}
- {{ printf "--include-inbound-ports=%v" $proxy.includeInboundPorts | quote }}
{{- range $flag, $value := dict "exclude-ip-ranges" $proxy.excludeIPRanges "exclude-inbound-ports" $proxy.excludeInboundPorts "include-outbound-ports" $proxy.includeOutboundPorts "exclude-outbound-ports" $proxy.excludeOutboundPorts }}
{{- with $value }}
- {{ printf "--%s=%v" $flag . | quote }}
{{- end }}
{{- end }}
{{- end -}}
