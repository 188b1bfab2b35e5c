{{- define "shop.image" -}}
{{ .root.Values.registry }}/shop/{{ .name }}:{{ .tag | default .root.Chart.AppVersion }}
{{- end -}}

{{- define "shop.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
