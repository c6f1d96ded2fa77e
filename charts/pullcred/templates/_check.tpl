{{/* What values contradict each other in, told before anything is rendered. What a single value may be is in values.schema.json. */}}
{{- define "pullcred.check" -}}
{{- if eq (toString .Values.enabled) "false" -}}
{{- fail "enabled is false, and no chart that has this one as a part reads it: add `condition: pullcred.enabled` to the dependency there, or remove it" -}}
{{- end -}}

{{- $certificates := list .Values.certificates.tlsSecretName .Values.certificates.caSecretName -}}
{{- $mode := .Values.certificates.mode -}}

{{/* A copy named like a certificate would make that certificate readable and writable in every namespace. */}}
{{- $copies := include "pullcred.secretNames" . | fromJsonArray -}}
{{- range concat $copies (include "pullcred.sourceNames" . | fromJsonArray) -}}
{{- if has . $certificates -}}
{{- fail (printf "rbac, pullSecrets: %s is the Secret of a certificate (certificates.tlsSecretName, caSecretName): copies and sources need another name" .) -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.certificates.tlsSecretName .Values.certificates.caSecretName -}}
{{- fail "certificates: tlsSecretName and caSecretName are the same, and the webhook must not read the authority's key: name two Secrets" -}}
{{- end -}}

{{- if and (eq $mode "existingSecret") (not .Values.certificates.caBundle) -}}
{{- fail "certificates: mode existingSecret needs caBundle, the authority (PEM) by which the API server knows the certificate" -}}
{{- end -}}
{{- if and (ne $mode "existingSecret") .Values.certificates.caBundle -}}
{{- fail (printf "certificates: caBundle is for mode existingSecret; in mode %s it is written by somebody else: remove it" $mode) -}}
{{- end -}}
{{- if and (ne $mode "certManager") .Values.certificates.certManager.issuerRef -}}
{{- fail (printf "certificates: certManager.issuerRef is for mode certManager, and the mode is %s: change one of them" $mode) -}}
{{- end -}}

{{/* What the controller refuses at its start: the bounds of src/cli/controller.rs. */}}
{{- if eq $mode "managed" -}}
{{- $managed := .Values.certificates.managed -}}
{{- $authority := include "pullcred.milliseconds" $managed.caLifetime | int64 -}}
{{- $leaf := include "pullcred.milliseconds" $managed.leafLifetime | int64 -}}
{{- $soak := include "pullcred.milliseconds" $managed.soak | int64 -}}
{{- if lt $soak 1000 -}}
{{- fail (printf "certificates: managed.soak %s is shorter than 1 s: choose a longer one, such as 10m" $managed.soak) -}}
{{- end -}}
{{- if lt $leaf (mul $soak 3) -}}
{{- fail (printf "certificates: managed.leafLifetime %s is shorter than three times soak %s, and its renewal, in the last third of its life, may have to wait that long: raise it" $managed.leafLifetime $managed.soak) -}}
{{- end -}}
{{- if lt $authority (mul $leaf 2) -}}
{{- fail (printf "certificates: managed.caLifetime %s is shorter than twice leafLifetime %s, and what signs must outlive what it signs: raise it" $managed.caLifetime $managed.leafLifetime) -}}
{{- end -}}
{{- if gt $authority 3153600000000 -}}
{{- fail (printf "certificates: managed.caLifetime %s is longer than 100 years: choose 876000h or less" $managed.caLifetime) -}}
{{- end -}}
{{- end -}}
{{- $lease := .Values.controller.leaseDuration -}}
{{- if lt (include "pullcred.milliseconds" $lease | int64) 2000 -}}
{{- fail (printf "controller: leaseDuration %s is shorter than 2 s: choose a longer one, such as 10s" $lease) -}}
{{- end -}}
{{- $certManager := .Values.certificates.certManager -}}
{{- if and (eq $mode "certManager") (ge (include "pullcred.milliseconds" $certManager.renewBefore | int64) (include "pullcred.milliseconds" $certManager.duration | int64)) -}}
{{- fail (printf "certificates: certManager.renewBefore %s is not shorter than duration %s, and cert-manager refuses that: lower it" $certManager.renewBefore $certManager.duration) -}}
{{- end -}}

{{- if not (regexMatch "^[a-z]" (include "pullcred.name" .)) -}}
{{- fail (printf "the release is called %s, and names of Services begin with a letter: choose another name, or set fullnameOverride" .Release.Name) -}}
{{- end -}}

{{- $names := list -}}
{{- range $index, $rule := .Values.pullSecrets -}}
{{- if has $rule.name $names -}}
{{- fail (printf "pullSecrets: two rules are called %s: give one another name" $rule.name) -}}
{{- end -}}
{{- $names = append $names $rule.name -}}
{{- if and (omit $rule "name" "images") (not (hasKey $rule "namespaceSelector")) -}}
{{- fail (printf "pullSecrets: %s has more than a name and images and no namespaceSelector, which decides who can read the credential: write it ({} is every namespace)" $rule.name) -}}
{{- end -}}
{{- $source := default dict $rule.source -}}
{{- range $rule.images -}}
{{- if and (contains "*" .) (or $source.credentialProvider $source.googleServiceAccountKey) -}}
{{- fail (printf "pullSecrets: %s has the image %s, and its source asks for the credential of one registry: name each registry in full, without *" $rule.name .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if eq .Values.webhook.failurePolicy "Fail" -}}
{{- if lt (int .Values.webhook.replicas) 2 -}}
{{- fail "webhook: with failurePolicy Fail one replica is not enough: no Pod could be created while it restarts. Set replicas to 2 or more" -}}
{{- end -}}
{{- if not .Values.webhook.podDisruptionBudget -}}
{{- fail "webhook: with failurePolicy Fail the PodDisruptionBudget must stay: a drain could take all replicas at once. Set podDisruptionBudget to true" -}}
{{- end -}}
{{- range list "kube-system" "kube-node-lease" "kube-public" -}}
{{- if not (has . $.Values.webhook.excludedNamespaces) -}}
{{- fail (printf "webhook: with failurePolicy Fail the cluster could not repair itself without its own namespaces: put %s back into excludedNamespaces" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- range $key, $port := dict "port" (int .Values.webhook.port) "adminPort" (int .Values.webhook.adminPort) -}}
{{- if and $.Values.webhook.hostNetwork (has $port (list 10248 10249 10250 10255 10256)) -}}
{{- fail (printf "webhook: with hostNetwork port %d is taken on every node (kubelet, kube-proxy): choose another %s%s" $port $key (eq $key "port" | ternary ", and let the API server reach it" "")) -}}
{{- end -}}
{{- end -}}
{{- if eq (int .Values.webhook.port) (int .Values.webhook.adminPort) -}}
{{- fail "webhook: port and adminPort are the same: choose two" -}}
{{- end -}}
{{- $service := .Values.webhook.service -}}
{{- if and (eq $service.ipFamilyPolicy "SingleStack") (gt (len $service.ipFamilies) 1) -}}
{{- fail "webhook: service.ipFamilyPolicy SingleStack takes one of ipFamilies: name one, or choose PreferDualStack" -}}
{{- end -}}

{{- $providers := .Values.controller.credentialProviders -}}
{{- range .Values.controller.volumes -}}
{{- if and (eq .name "credential-providers") $providers.config -}}
{{- fail "controller: volumes has one called credential-providers, which is the chart's own, with credentialProviders.config in it: choose another name" -}}
{{- end -}}
{{- end -}}
{{- range .Values.controller.initContainers -}}
{{- if eq .name "controller" -}}
{{- fail "controller: initContainers has one called controller, as the container itself is: choose another name" -}}
{{- end -}}
{{- end -}}
{{- if ne (empty $providers.config) (empty $providers.binDir) -}}
{{- fail "controller: credentialProviders needs both config and binDir, the file and the programs that it names" -}}
{{- end -}}
{{- range .Values.pullSecrets -}}
{{- with (default dict .source).credentialProvider -}}
{{- $wanted := .name -}}
{{- $known := list -}}
{{- range $providers.config.providers }}{{ $known = append $known .name }}{{ end -}}
{{- if not (has $wanted $known) -}}
{{- fail (printf "pullSecrets: the credential provider %s is not in controller.credentialProviders.config, which has %s" $wanted (empty $known | ternary "none" (join ", " $known))) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- range list "apiServerCIDRs" "metricsFrom" "controllerEgress" -}}
{{- if and (get $.Values.networkPolicy .) (not $.Values.networkPolicy.enabled) -}}
{{- fail (printf "networkPolicy: %s does nothing while enabled is false: change one of them" .) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.networkPolicy.apiServerCIDRs .Values.webhook.hostNetwork -}}
{{- fail "networkPolicy: apiServerCIDRs does nothing while webhook.hostNetwork is true, for NetworkPolicies do not count there: remove it, and keep others away by a firewall" -}}
{{- end -}}
{{- $own := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" -}}
{{- range $value, $labels := dict "labels" .Values.labels "webhook.podLabels" .Values.webhook.podLabels "controller.podLabels" .Values.controller.podLabels "metrics.serviceMonitor.labels" .Values.metrics.serviceMonitor.labels "metrics.prometheusRule.labels" .Values.metrics.prometheusRule.labels -}}
{{- range $key, $_ := $labels -}}
{{- if has $key $own -}}
{{- fail (printf "%s: %s is a label that the chart sets itself: remove it" $value $key) -}}
{{- end -}}
{{- if and (ne $value "labels") (hasKey (default dict $.Values.labels) $key) -}}
{{- fail (printf "%s: %s is in labels too: write it in one place" $value $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
