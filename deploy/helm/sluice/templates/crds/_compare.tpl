{{/* What the schema `here` has and the schema `there` lacks, a path in each line: sluice.lacks (list here there path). */}}
{{- define "sluice.lacks" -}}
{{- $here := index . 0 -}}
{{- $there := index . 1 -}}
{{- $path := index . 2 -}}
{{- if not (get $there "x-kubernetes-preserve-unknown-fields") -}}
{{- $known := $there.properties | default dict -}}
{{- range $name, $field := $here.properties -}}
{{- if hasKey $known $name -}}
{{- include "sluice.lacks" (list $field (get $known $name) (printf "%s.%s" $path $name)) -}}
{{- else -}}
{{- printf "%s.%s\n" $path $name -}}
{{- end -}}
{{- end -}}
{{- with $here.items -}}
{{- include "sluice.lacks" (list . ($there.items | default dict) (printf "%s[]" $path)) -}}
{{- end -}}
{{- with $here.additionalProperties -}}
{{- if and (kindIs "map" .) (kindIs "map" $there.additionalProperties) -}}
{{- include "sluice.lacks" (list . $there.additionalProperties (printf "%s.*" $path)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The same for two definitions: versions, and the spec of the version that is stored. */}}
{{- define "sluice.definitionLacks" -}}
{{- $there := dict -}}
{{- $versions := list -}}
{{- range (index . 1).spec.versions -}}
{{- $versions = append $versions .name -}}
{{- if .storage -}}{{- $there = dig "schema" "openAPIV3Schema" "properties" "spec" dict . -}}{{- end -}}
{{- end -}}
{{- range (index . 0).spec.versions -}}
{{- if and .served (not (has .name $versions)) -}}{{- printf "version %s\n" .name -}}{{- end -}}
{{- if .storage -}}
{{- include "sluice.lacks" (list (dig "schema" "openAPIV3Schema" "properties" "spec" dict .) $there "spec") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
What to do about a definition: sluice.definition (list $ path). JSON: name; install; why: new, update, asked, newer
(ours would take away fields), foreign; refuses: what ours takes and the one that is there does not.
Without a cluster (helm template) nothing is there.
*/}}
{{- define "sluice.definition" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 | base | trimSuffix ".yaml" -}}
{{- $there := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" $name -}}
{{- $answer := dict "name" $name "install" false "why" "new" "refuses" list -}}
{{- if not $there -}}
{{- $_ := set $answer "install" true -}}
{{- else -}}
{{- $marks := dig "metadata" "annotations" dict $there -}}
{{- $isOurs := and (eq (get $marks "meta.helm.sh/release-name") $root.Release.Name) (eq (get $marks "meta.helm.sh/release-namespace") $root.Release.Namespace) -}}
{{- $here := $root.Files.Get (index . 1) | fromYaml -}}
{{- $isLess := include "sluice.definitionLacks" (list $there $here) | trim -}}
{{- if eq $root.Values.crds.install "always" -}}
{{- $_ := set $answer "install" true -}}{{- $_ := set $answer "why" "asked" -}}
{{- else if $isLess -}}
{{- $_ := set $answer "why" "newer" -}}
{{- else if or $isOurs $root.Values.crds.adopt -}}
{{- $_ := set $answer "install" true -}}{{- $_ := set $answer "why" "update" -}}
{{- else -}}
{{- $_ := set $answer "why" "foreign" -}}
{{- end -}}
{{- if not $answer.install -}}
{{- $_ := set $answer "refuses" (include "sluice.definitionLacks" (list $here $there) | trim | splitList "\n" | compact) -}}
{{- end -}}
{{- end -}}
{{- toJson $answer -}}
{{- end -}}
