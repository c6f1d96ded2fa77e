{{/* The longest suffix is `-controller`, and some names may have 63 characters. */}}
{{- define "pullcred.name" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "pullcred" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-pullcred" (.Release.Name | trunc 43 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "pullcred.labels" -}}
app.kubernetes.io/name: pullcred
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* A copy named like a certificate would make that certificate readable and writable in every namespace. */}}
{{- define "pullcred.check" -}}
{{- range list .Values.certificates.tlsSecretName .Values.certificates.caSecretName -}}
{{- if has . (concat $.Values.rbac.secretNames $.Values.rbac.sourceNames) -}}
{{- fail (printf "rbac: %s is the Secret of a certificate (certificates.tlsSecretName, caSecretName): copies and sources need another name" .) -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.certificates.tlsSecretName .Values.certificates.caSecretName -}}
{{- fail "certificates: tlsSecretName and caSecretName are the same, and the webhook must not read the authority's key: name two Secrets" -}}
{{- end -}}
{{- end -}}
