{{/* A HorizontalPodAutoscaler by CPU: sluice.scaler (list $ deployment autoscaling). */}}
{{- define "sluice.scaler" }}
{{- $name := index . 1 }}
{{- $scaling := index . 2 }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  namespace: {{ (index . 0).Release.Namespace }}
  labels:
    app: {{ $name }}
    {{- include "sluice.labels" (index . 0) | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ $name }}}
  minReplicas: {{ $scaling.minReplicas }}
  maxReplicas: {{ $scaling.maxReplicas }}
  metrics:
  - type: Resource
    resource:
      name: cpu
      target: {type: Utilization, averageUtilization: {{ $scaling.targetCPUUtilizationPercentage }}}
{{- end }}
