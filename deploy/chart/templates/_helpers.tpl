{{- define "scan-login.labels" -}}
{{ include "scan-login.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "scan-login.selector" -}}
app.kubernetes.io/name: scan-login
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "scan-login.secret" -}}
{{ .Values.secret.name | default .Release.Name }}
{{- end }}

{{- define "scan-login.tls-secret" -}}
{{ .Values.ingress.tlsSecretName | default (printf "%s-tls" .Release.Name) }}
{{- end }}

{{- define "scan-login.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "scan-login.pod-security" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "scan-login.security" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end }}

{{- define "scan-login.mounts" -}}
- {name: data, mountPath: /var/lib/scan-login}
- {name: secrets, mountPath: /run/secrets/scan-login, readOnly: true}
- {name: temporary, mountPath: /tmp}
{{- end }}

{{- define "scan-login.volumes" -}}
- {name: data, emptyDir: {}}
- {name: secrets, secret: {secretName: {{ include "scan-login.secret" . }}}}
- {name: temporary, emptyDir: {}}
{{- end }}

{{- /* Key files must belong to the broker's user, and the files of a Secret do not. */}}
{{- define "scan-login.init" -}}
- name: keys
  image: {{ include "scan-login.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command:
    - install
    - -m
    - "600"
    - -t
    - /var/lib/scan-login
    - /run/secrets/scan-login/keys.json
    - /run/secrets/scan-login/seal.json
  securityContext:
    {{- include "scan-login.security" . | nindent 4 }}
  volumeMounts:
    {{- include "scan-login.mounts" . | nindent 4 }}
{{- end }}

{{- define "scan-login.environment" -}}
- name: SCAN_LOGIN_INSTANCE
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: SCAN_LOGIN_ADMIN_HOST
  value: 0.0.0.0
{{- range $name, $value := .Values.settings }}
- name: SCAN_LOGIN_{{ upper $name }}
  {{- if kindIs "slice" $value }}
  value: {{ join "," $value | quote }}
  {{- else if kindIs "string" $value }}
  value: {{ quote $value }}
  {{- else }}
  value: {{ toJson $value | quote }}
  {{- end }}
{{- end }}
{{- range $name, $entry := .Values.secret.settings }}
- name: SCAN_LOGIN_{{ upper $name }}_FILE
  value: /run/secrets/scan-login/{{ $entry }}
{{- end }}
{{- range $name, $value := .Values.environment }}
- name: {{ $name }}
  value: {{ quote $value }}
{{- end }}
{{- range $name, $entry := .Values.secret.environment }}
- name: {{ $name }}
  valueFrom: {secretKeyRef: {name: {{ include "scan-login.secret" $ }}, key: {{ $entry }}}}
{{- end }}
{{- end }}
