{{/* The longest suffix is `-controller`, and some names may have 63 characters, and no dot, which a release's name may. */}}
{{- define "pullcred.name" -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "pullcred" $release -}}
{{- $release | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-pullcred" ($release | trunc 43 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* A version may have a `+`, which no label may: Flux adds one, with the digest of the artifact. */}}
{{- define "pullcred.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimAll "-_." -}}
{{- end -}}

{{- define "pullcred.labels" -}}
{{ include "pullcred.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ include "pullcred.chart" . }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* By which Pods of this release are found. A Deployment's cannot change, so these never do. */}}
{{- define "pullcred.selector" -}}
app.kubernetes.io/name: pullcred
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* `global.imageRegistry` takes the place of the registry in `image.repository`; a first part without dot or colon is none. */}}
{{- define "pullcred.image" -}}
{{- $repository := .Values.image.repository -}}
{{- with (default dict .Values.global).imageRegistry -}}
{{- $parts := splitList "/" $repository -}}
{{- if and (gt (len $parts) 1) (regexMatch "[.:]|^localhost$" (first $parts)) -}}
{{- $parts = rest $parts -}}
{{- end -}}
{{- $repository = printf "%s/%s" . (join "/" $parts) -}}
{{- end -}}
{{- if .Values.image.digest -}}
{{- printf "%s%s@%s" $repository (ternary "" (printf ":%s" .Values.image.tag) (empty .Values.image.tag)) .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* A value that somebody unsets (`null`) is as it is by default, or the schema refuses that. */}}
{{- define "pullcred.testNamespace" -}}
{{- (default dict .Values.test).namespace | default "default" -}}
{{- end -}}

{{/* Whether Pods of `test.namespace` are shown to the webhook, as far as names say: empty if not. */}}
{{- define "pullcred.testIsShown" -}}
{{- if not (has (include "pullcred.testNamespace" .) (prepend (default list .Values.webhook.excludedNamespaces) .Release.Namespace)) }}yes{{ end -}}
{{- end -}}

{{/* How many milliseconds a duration is, which the schema has looked at. */}}
{{- define "pullcred.milliseconds" -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9.]+[hms]" . -1 -}}
{{- $unit := substr (int (sub (len .) 1)) (len .) . -}}
{{- $sum = addf $sum (mulf (trimSuffix $unit .) (get (dict "h" 3600000 "m" 60000 "s" 1000) $unit)) -}}
{{- end -}}
{{- int64 $sum -}}
{{- end -}}

{{/* The names that copies may have, as JSON. A rule that nobody fills (`unmanaged`) has none. */}}
{{- define "pullcred.secretNames" -}}
{{- $names := list -}}
{{- range .Values.pullSecrets -}}
{{- if not (hasKey (default dict .source) "unmanaged") -}}
{{- $names = append $names (default .name .secretName) -}}
{{- end -}}
{{- end -}}
{{- concat $names (default list .Values.rbac.secretNames) | uniq | toJson -}}
{{- end -}}

{{/* The Secrets beside pullcred that are sources and not named like a copy, as JSON. */}}
{{- define "pullcred.sourceNames" -}}
{{- $names := list -}}
{{- range .Values.pullSecrets -}}
{{- $source := default (dict "secretRef" (dict "name" .name)) .source -}}
{{- with $source.secretRef }}{{ $names = append $names .name }}{{ end -}}
{{- with $source.googleServiceAccountKey }}{{ $names = append $names .secretRef.name }}{{ end -}}
{{- end -}}
{{- $copies := include "pullcred.secretNames" . | fromJsonArray -}}
{{- $sources := list -}}
{{- range concat $names (default list .Values.rbac.sourceNames) | uniq -}}
{{- if not (has . $copies) }}{{ $sources = append $sources . }}{{ end -}}
{{- end -}}
{{- toJson $sources -}}
{{- end -}}
