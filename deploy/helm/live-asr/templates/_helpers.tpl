{{- define "live-asr.name" -}}
{{- printf "%s-%s" .Release.Name "live-asr" | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "live-asr.labels" -}}
app.kubernetes.io/name: live-asr
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "live-asr.gateway" -}}
app.kubernetes.io/name: live-asr
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end }}

{{- /* KubeRay labels all pods of a cluster so. */ -}}
{{- define "live-asr.ray" -}}
ray.io/cluster: {{ include "live-asr.name" . }}-ray
{{- end }}

{{- define "live-asr.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "live-asr.rayToken" -}}
- {name: RAY_AUTH_MODE, value: token}
- name: RAY_AUTH_TOKEN
  valueFrom: {secretKeyRef: {name: {{ .Values.secretName }}, key: ray-token}}
{{- end }}

{{- define "live-asr.settings" -}}
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- define "live-asr.unprivileged" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
runAsNonRoot: true
runAsUser: 10001
{{- end }}
