{{/* The pod of a gateway, written out: nothing is injected. sluice.gatewayPod (list $ name istio-label gateway). */}}
{{- define "sluice.gatewayPod" }}
{{- $root := index . 0 }}
{{- $name := index . 1 }}
{{- $gateway := index . 3 }}
{{- $plane := printf "%s.%s.svc" (include "sluice.controlPlaneService" $root) (include "sluice.controlPlaneNamespace" $root) }}
metadata:
  labels:
    app: {{ $name }}
    istio: {{ index . 2 }}
    istio.io/rev: {{ $root.Values.revision }}
    service.istio.io/canonical-name: {{ $name }}
    service.istio.io/canonical-revision: latest
    sidecar.istio.io/inject: "false"
    {{- with $gateway.labels }}{{- toYaml . | nindent 4 }}{{- end }}
  annotations:
    sidecar.istio.io/inject: "false"
    {{- if $root.Values.monitoring.scrapeAnnotations }}
    prometheus.io/scrape: "true"
    prometheus.io/port: "15020"
    prometheus.io/path: /stats/prometheus
    {{- end }}
    {{- with $gateway.podAnnotations }}{{- toYaml . | nindent 4 }}{{- end }}
spec:
  serviceAccountName: {{ $name }}
  terminationGracePeriodSeconds: {{ $gateway.terminationGracePeriodSeconds }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 1337
    runAsGroup: 1337
    fsGroup: 1337
    seccompProfile: {type: RuntimeDefault}
    {{- if $gateway.unprivilegedPorts }}
    # Listeners have the ports of Gateways, 80 and 443 among them, and no capability to bind them.
    sysctls:
    - {name: net.ipv4.ip_unprivileged_port_start, value: "0"}
    {{- end }}
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 2 }}
  {{- end }}
  containers:
  - name: istio-proxy
    image: {{ include "sluice.image" (list $root "proxy") }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    args:
    - --node
    - router~$(INSTANCE_IP)~$(POD_NAME).$(POD_NAMESPACE)~$(POD_NAMESPACE).svc.{{ $root.Values.meshConfig.clusterDomain }}
    - --control-plane
    - https://{{ $plane }}:15012
    - --cluster-id
    - {{ $root.Values.meshConfig.clusterName | quote }}
    - --service-account
    - $(SERVICE_ACCOUNT)
    - --workload
    - {{ $name }}
    - --token-file
    - /var/run/secrets/tokens/istio-token
    - --root-cert-file
    - /var/run/secrets/istio/root-cert.pem
    - --labels-file
    - /etc/istio/pod/labels
    - --application-address
    - 0.0.0.0:15020
    - --metrics-address
    - 0.0.0.0:15090
    - --concurrency
    - {{ $gateway.concurrency | quote }}
    - --drain-seconds
    - {{ $gateway.drainSeconds | quote }}
    - --log-level
    - {{ $gateway.logLevel }}
    env:
    - name: INSTANCE_IP
      valueFrom: {fieldRef: {fieldPath: status.podIP}}
    - name: INSTANCE_IPS
      valueFrom: {fieldRef: {fieldPath: status.podIPs}}
    - name: POD_NAME
      valueFrom: {fieldRef: {fieldPath: metadata.name}}
    - name: POD_NAMESPACE
      valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
    - name: SERVICE_ACCOUNT
      valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}
    ports:
    {{- range $gateway.service.ports }}
    - {name: {{ .name }}, containerPort: {{ .targetPort | default .port }}}
    {{- end }}
    - {name: http-envoy-prom, containerPort: 15090}
    - {name: http-metrics, containerPort: 15020}
    startupProbe:
      httpGet: {path: /healthz/ready, port: 15021}
      periodSeconds: 1
      timeoutSeconds: 3
      failureThreshold: 600
    readinessProbe:
      httpGet: {path: /healthz/ready, port: 15021}
      periodSeconds: 2
      timeoutSeconds: 3
      failureThreshold: 3
    {{- with $gateway.resources }}
    resources: {{- toYaml . | nindent 6 }}
    {{- end }}
    securityContext: {{- include "sluice.containerSecurity" . | nindent 6 }}
    volumeMounts:
    - {name: istio-token, mountPath: /var/run/secrets/tokens, readOnly: true}
    - {name: istiod-ca-cert, mountPath: /var/run/secrets/istio, readOnly: true}
    - {name: istio-podinfo, mountPath: /etc/istio/pod, readOnly: true}
  volumes:
  - name: istio-token
    projected:
      sources:
      - serviceAccountToken: {audience: istio-ca, expirationSeconds: 43200, path: istio-token}
  - name: istiod-ca-cert
    configMap: {name: {{ include "sluice.rootConfigMap" $root }}}
  - name: istio-podinfo
    downwardAPI:
      items:
      - {path: labels, fieldRef: {fieldPath: metadata.labels}}
  topologySpreadConstraints: {{- include "sluice.spread" (list $gateway.topologySpreadConstraints $name) | trim | nindent 2 }}
  {{- with include "sluice.placement" $gateway | trim }}{{ . | nindent 2 }}{{ end }}
{{- end }}
