{{/*
What the Deployments of webhook and controller have in common, which is nearly everything. Takes `root`, `component`, and what
differs: `args` and `ports` of the container, and `volumes`, `volumeMounts` and further `annotations` of the Pod.
*/}}
{{- define "pullcred.deployment" -}}
{{- $values := index .root.Values .component -}}
{{- $name := printf "%s-%s" (include "pullcred.name" .root) .component -}}
{{- $hostNetwork := dig "hostNetwork" false $values -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace | quote }}
  labels: {{- include "pullcred.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  {{- with $values.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  replicas: {{ $values.replicas }}
  selector:
    matchLabels: {{- include "pullcred.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
  strategy:
    rollingUpdate:
      {{- if $hostNetwork }}
      # A node has each port once, so a new Pod may find no place until an old one is gone.
      maxUnavailable: 1
      maxSurge: 0
      {{- else }}
      maxUnavailable: 0
      maxSurge: 1
      {{- end }}
  template:
    metadata:
      labels: {{- include "pullcred.selector" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
        {{- with merge (dict) (default dict .root.Values.labels) (default dict $values.podLabels) }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with merge (dict) .annotations (default dict $values.podAnnotations) }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ $name }}
      # The account itself mounts no token, so that no other Pod gets it by naming the account alone.
      automountServiceAccountToken: true
      terminationGracePeriodSeconds: {{ .gracePeriod }}
      enableServiceLinks: false
      {{- if $hostNetwork }}
      hostNetwork: true
      dnsPolicy: ClusterFirstWithHostNet
      {{- end }}
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . | quote }}
      {{- end }}
      # The user is the image's own, a number above 65,000; OpenShift gives another.
      securityContext:
        runAsNonRoot: true
        seccompProfile: {type: RuntimeDefault}
      {{- with $values.initContainers }}
      initContainers: {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "pullcred.image" .root | quote }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          args:
            - {{ .component }}
            {{- range .args }}
            - {{ . | quote }}
            {{- end }}
          {{- with $values.env }}
          env: {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            {{- range $port, $number := .ports }}
            - {name: {{ $port }}, containerPort: {{ $number }}, protocol: TCP}
            {{- end }}
          # Every two seconds, so that a rolling update does not wait for a Pod that has long been ready.
          readinessProbe:
            httpGet: {path: /readyz, port: admin}
            periodSeconds: 2
            timeoutSeconds: 2
          livenessProbe:
            httpGet: {path: /livez, port: admin}
            periodSeconds: 10
            timeoutSeconds: 5
          resources: {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            runAsNonRoot: true
            capabilities: {drop: [ALL]}
          {{- with .volumeMounts }}
          volumeMounts: {{- toYaml . | nindent 12 }}
          {{- end }}
      {{- with .volumes }}
      volumes: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      affinity:
        {{- with $values.affinity }}
        {{- toYaml . | nindent 8 }}
        {{- else }}
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              podAffinityTerm:
                topologyKey: kubernetes.io/hostname
                labelSelector:
                  matchLabels: {{- include "pullcred.selector" .root | nindent 20 }}
                    app.kubernetes.io/component: {{ .component }}
        {{- end }}
      # Preferences only: a cluster of one node runs all of them there.
      topologySpreadConstraints:
        {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - topologyKey: {{ . }}
          maxSkew: 1
          whenUnsatisfiable: ScheduleAnyway
          matchLabelKeys: [pod-template-hash]
          labelSelector:
            matchLabels: {{- include "pullcred.selector" $.root | nindent 14 }}
              app.kubernetes.io/component: {{ $.component }}
        {{- end }}
{{- end -}}
