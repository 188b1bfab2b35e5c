#!/usr/bin/env python3
"""What omk says beside what helm says where a chart cannot be rendered.

  failures.py OMK HELM [FOLDER] [--each 8] [--random 0] [--seed 1] [--out FILE] [--only REGEX]

Charts made to fail are in this script; with FOLDER, every chart below it is spoilt in `--each` ways too (values of another
kind, a value taken away, a mistake put into a template, into Chart.yaml, values.yaml or the schema), chosen by the seed.
With --random so many templates of random words are tried, most of which are no templates.
For each case it is asked whether both fail, and if so whether helm's message stands in omk's:

  words      the whole message of helm, trace and positions included, but for white space
  reason     not the whole, but helm's reason: what stands behind the last place that it names
  different  another reason

Where both render, their output is compared too: `helm varies` if it differs in no line but those in which helm's own output
does when it is asked again (random passwords, certificates, dates). What helm says differently when asked again (the order of
Go's maps) is asked up to four times. Exit code 1 unless both fail or both render everywhere, with the same reason. Needs PyYAML.
"""
import argparse, collections, hashlib, json, os, random, re, shutil, subprocess, sys, tempfile

import yaml

CHART = "apiVersion: v2\nname: x\nversion: 1.0.0\n"

# What is put into a template; each ends with a line break, so that the text after it stays on its own line.
MISTAKES = [
    "{{ nosuchfunction 1 }}", "{{ .Values.nosuch.deep.field }}", "{{ .Values.nosuch.deep.field.further | quote }}", "{{ fail \"stop here\" }}",
    "{{ required \"a value is needed\" .Values.nosuchvalue }}", "{{ include \"nosuch\" . }}", "{{ template \"nosuch\" . }}",
    "{{ index .Values.nosuch \"a\" \"b\" }}", "{{ index (list 1 2) 7 }}", "{{ tpl \"{{ .Values.nosuch.a.b }}\" . }}",
    "{{ tpl \"{{ nosuchfunction }}\" . }}", "{{ tpl \"{{ if }}\" . }}", "{{ toYaml }}", "{{ quote | b64dec 1 2 }}", "{{ if }}{{ end }}", "{{ end }}", "{{ if true }}",
    "{{ \"unterminated }}", "{{ 'ab' }}", "{{ $nosuch }}", "{{ .Values | nosuchfunction }}", "{{ range 1.5 }}{{ end }}", "{{ break }}", "{{ else }}",
    "{{ len 3 }}", "{{ lt 1 \"a\" }}", "{{ eq .Values 1 }}", "{{ slice \"abc\" 5 }}", "{{ semverCompare \"x\" \"y\" }}", "{{ regexMatch \"(\" \"a\" }}",
    "{{ mustRegexMatch \"(\" \"a\" }}", "{{ fromYaml 3 }}", "{{ mustToJson (dict \"a\") }}", "{{ dict 1 2 }}", "{{ set \"a\" \"b\" 1 }}", "{{ merge 1 2 }}",
    "{{ .Chart.Nosuch }}", "{{ .Release.Nosuch.x }}", "{{ .Capabilities.Nosuch }}", "{{ .Files.Nosuch.x }}", "{{ .Template.Nosuch.y }}", "{{ .Nosuch.y }}",
    "{{ $x := 1 }}{{ $x.y }}", "{{ \"text\".field }}", "{{ (list 1).field }}", "{{ 1 | 2 }}", "{{ .Values.a.b.c := 1 }}", "{{ $y = 2 }}", "{{ range $a, $b, $c := . }}{{ end }}",
    "{{ with $z := .Values.nosuch.b }}{{ end }}", "{{ define \"q\" }}", "{{ block \"q\" }}{{ end }}", "{{ /* open }}", "{{- /* a */ x }}", "{{ 0xZ }}", "{{ () }}",
    "{{ printf 1 }}", "{{ add \"x\" nil | required \"r\" }}", "{{ derivePassword 1 \"bad\" \"p\" \"u\" \"s\" }}", "{{ genPrivateKey \"bad\" | fail }}", "{{ atoi }}", "{{ substr 1 }}",
    "{{ splitList 1 \"a\" }}", "{{ until \"x\" }}", "{{ first 3 }}", "{{ mustFirst 3 }}", "{{ mustLast \"x\" }}", "{{ has 1 2 }}", "{{ without 1 2 }}", "{{ pick 1 \"a\" }}", "{{ mustMerge 1 }}",
    "{{ toDate \"2006\" \"x\" }}", "{{ mustToDate \"2006\" \"x\" }}", "{{ mustDateModify \"x\" now }}", "{{ urlParse \"http://[\" }}", "{{ urlJoin 1 }}", "{{ get 1 \"a\" }}",
    "{{ lookup 1 }}", "{{ encryptAES \"a\" }}", "{{ decryptAES \"a\" \"b\" }}", "{{ buildCustomCert \"a\" \"b\" }}", "{{ genSignedCert \"a\" nil nil 1 2 }}", "{{ call 1 }}", "{{ call nil }}",
    "a: b: c", "a: [", "\ta: 1", "a: 1\na: 2\n- b", "{{ toYaml (list 1) }}\na: 1", "a: *nosuch", "a: !!int x", "a: \"unclosed", "{a: 1", "- a\nb: 1", "%TAG x", "a: 'b' c", "a: |\nb",
    "{{ cat 1 }} : : :\n  - a\n b: c", "kind: [\n", "{{ mustFromJson \"{\" }}", "{{ mustFromYaml \"a: [\" }}", "{{ fromJsonArray 1 }}", "{{ mustChunk 0 (list 1) }}", "{{ chunk 0 (list 1) }}", "{{ mustUniq 1 }}",
    "{{ sortAlpha }}", "{{ dig \"a\" 1 }}", "{{ dig \"a\" \"b\" \"d\" (dict \"a\" 1) }}", "{{ coalesce }}{{ ternary 1 }}", "{{ ternary 1 2 \"x\" }}", "{{ div 1 0 }}", "{{ mod 1 0 }}", "{{ repeat -1 \"x\" }}",
    "{{ nindent \"x\" \"y\" }}", "{{ indent -1 \"y\" }}", "{{ trunc \"x\" \"y\" }}", "{{ bcrypt }}", "{{ htpasswd \"a:b\" \"c\" | fail }}", "{{ not }}", "{{ and }}", "{{ or }}", "{{ include 1 . }}", "{{ include }}",
    "{{ tpl 1 . }}", "{{ tpl \"x\" }}", "{{ required 1 .Values.nosuchvalue }}", "{{ fail 1 }}", "{{ fail }}", "{{ include \"x\" | quote }}", "{{ .Values.nosuch | required \"inner\" | quote }}", "{{ .Files.Get }}", "{{ .Files.Get 1 }}",
    "{{ .Files.Glob \"[\" }}", "{{ .Capabilities.APIVersions.Has }}", "{{ .Capabilities.APIVersions.Has 1 }}", "{{ .Values.nosuch.method 1 }}", "{{ .Release.Name.x }}", "{{ (index .Values \"nosuch\").x.y }}",
]

GOOD = ("words", "both render", "helm varies")

# What random templates are made of.
WORDS = """{{ {{ {{ {{ {{- }} }} }} }} -}} if else end end end range with define template block break continue nil true upper quote list dict nosuch | | ( ) ) := := = ,
$ $x $x $y . . .a .a .b .Values.a .Values.l .Values.m.x "a" "b" "a 'c' `r` 1 -2 0x1f 1.5e3 1e 0b12 99999999999999999999 1_0 5.x + % & ! ? @ [ ; : é § /* */ text""".split() + [" "] * 30 + ["\n"] * 6
OPENED = ["{{ if .Values.a }}", "{{- if and .x .Values.a -}}", "{{ range $x, $y := .Values.m }}", "{{ range $x := .Values.l }}", "{{ range .Values.l }}", "{{ range 3 }}", "{{ with .Values.m }}", "{{ with $x := .Values.m.y }}", "{{ block \"b\" . }}", "{{ define \"a\" }}"]
ALONE = ["{{ else }}", "{{ else if .Values.b }}", "{{ else with $ }}", "{{ $x := 1 }}", "{{ $x = 2 }}", "{{ $x }}", "{{ .Values.a | quote }}", "{{ template \"a\" . }}", "{{ include \"b\" $ }}", "{{/* no */}}", "{{ break }}", "{{ continue }}", "text\n",
         "{{ . }}", "{{ (list 1 .x).y }}", "{{ index .Values.l 1 }}", "{{ $.Values.m.y.z }}", "{{- 1.5 | print -}}", "{{ printf \"%v %d\" .Values.l 1 }}", "{{ len .Values.l }}", "{{ $.Values.l | toYaml }}", "{{ .z }}", "{{ $y := .Values.m.x | add 1 }}{{ $y }}"]
VALUES = "a: 1\nl: [1, two, 3.5]\nm: {x: 1, y: {z: 2}}\n"


def sentences(pick, depth=0):
    for _ in range(pick.randrange(1, 4)):
        if depth < 3 and pick.random() < 0.4:
            yield from (pick.choice(OPENED), *sentences(pick, depth + 1), "{{ end }}")
        else:
            yield pick.choice(ALONE)


def random_template(pick):
    """Whole actions, in which some words were put, taken away or changed; or words only."""
    if pick.random() < 0.1:
        return "".join(pick.choice(WORDS) for _ in range(pick.randrange(2, 30)))
    text = "".join(sentences(pick))
    for _ in range(pick.choice([0, 0, 0, 1, 1, 2, 3])):
        at, more = pick.randrange(len(text) + 1), pick.choice(WORDS)
        text = text[:at] + (pick.choice(["", " "]) + more + pick.choice(["", " "])) + text[at + pick.choice([0, 0, 1, 2]):]
    return text


# Files of whole charts, arguments.
OWN = {
    "no Chart.yaml": ({"Chart.yaml": None, "values.yaml": ""}, []), "empty Chart.yaml": ({"Chart.yaml": ""}, []), "Chart.yaml is a list": ({"Chart.yaml": "- a\n"}, []),
    "Chart.yaml is no YAML": ({"Chart.yaml": CHART + "a: [\n"}, []), "tab in Chart.yaml": ({"Chart.yaml": CHART + "\tx: 1\n"}, []), "no name": ({"Chart.yaml": "apiVersion: v2\nversion: 1.0.0\n"}, []),
    "no version": ({"Chart.yaml": "apiVersion: v2\nname: x\n"}, []), "no apiVersion": ({"Chart.yaml": "name: x\nversion: 1.0.0\n"}, []), "bad version": ({"Chart.yaml": "apiVersion: v2\nname: x\nversion: one\n"}, []),
    "bad apiVersion": ({"Chart.yaml": "apiVersion: v9\nname: x\nversion: 1.0.0\n"}, []), "type": ({"Chart.yaml": CHART + "type: bogus\n"}, []), "library": ({"Chart.yaml": CHART + "type: library\n"}, []),
    "name is a number": ({"Chart.yaml": "apiVersion: v2\nname: 1\nversion: 1.0.0\n"}, []), "name is a map": ({"Chart.yaml": "apiVersion: v2\nname: {a: 1}\nversion: 1.0.0\n"}, []),
    "keywords is a text": ({"Chart.yaml": CHART + "keywords: a\n"}, []), "kubeVersion": ({"Chart.yaml": CHART + "kubeVersion: '>= 99.0'\n"}, []), "kubeVersion is no constraint": ({"Chart.yaml": CHART + "kubeVersion: 'x y z'\n"}, []),
    "kube-version": ({"Chart.yaml": CHART + "kubeVersion: '>= 1.20.0-0'\n"}, ["--kube-version", "1.19.3"]), "kube-version is none": ({}, ["--kube-version", "abc"]),
    "dependency missing": ({"Chart.yaml": CHART + "dependencies: [{name: d, version: 1.0.0, repository: 'https://r.example'}]\n"}, []),
    "two dependencies missing": ({"Chart.yaml": CHART + "dependencies: [{name: d, version: 1.0.0, repository: 'https://r.example'}, {name: e, version: 2.0.0, repository: ''}]\n"}, []),
    "dependency bad alias": ({"Chart.yaml": CHART + "dependencies: [{name: d, version: 1.0.0, alias: 'a/b'}]\n", "charts/d/Chart.yaml": CHART.replace("name: x", "name: d")}, []),
    "dependency without name": ({"Chart.yaml": CHART + "dependencies: [{version: 1.0.0}]\n"}, []), "dependencies is a map": ({"Chart.yaml": CHART + "dependencies: {a: 1}\n"}, []),
    "a null dependency": ({"Chart.yaml": CHART + "dependencies: [null]\n"}, []), "subchart without Chart.yaml": ({"charts/d/values.yaml": "a: 1\n"}, []), "subchart bad": ({"charts/d/Chart.yaml": "a: ["}, []),
    "subchart kubeVersion": ({"charts/d/Chart.yaml": CHART.replace("name: x", "name: d") + "kubeVersion: '< 1.0.0'\n"}, []), "subchart is no archive": ({"charts/d.tgz": "no archive"}, []),
    "values.yaml no YAML": ({"values.yaml": "a: [\n"}, []), "values.yaml a list": ({"values.yaml": "- a\n"}, []), "values.yaml a text": ({"values.yaml": "a\n"}, []), "values.yaml twice": ({"values.yaml": "a: 1\na: 2\n"}, []),
    "values.yaml tab": ({"values.yaml": "a:\n\tb: 1\n"}, []), "values.yaml alias": ({"values.yaml": "a: *b\n"}, []), "values.yaml indentation": ({"values.yaml": "a:\n  b: 1\n c: 2\n"}, []),
    "-f missing": ({}, ["-f", "nosuch.yaml"]), "-f no YAML": ({"v.yaml": "a: b: c\n"}, ["-f", "v.yaml"]), "-f a list": ({"v.yaml": "- 1\n"}, ["-f", "v.yaml"]),
    "--set bad": ({}, ["--set", "a.b[x]=1"]), "--set no value": ({}, ["--set", "a"]), "--set no key": ({}, ["--set", "=1"]), "--set brackets": ({}, ["--set", "a[=1"]), "--set negative": ({}, ["--set", "a[-1]=1"]),
    "--set into text": ({"values.yaml": "a: text\n", "templates/t.yaml": "x: {{ .Values.a.b }}\n"}, ["--set", "a.b=1"]), "--set large index": ({}, ["--set", "a[99999999]=1"]), "--set-json bad": ({}, ["--set-json", "a={"]), "--set-json list": ({}, ["--set-json", "[1]"]),
    "--set-file missing": ({}, ["--set-file", "a=nosuch"]), "--set-string no value": ({}, ["--set-string", "a"]), "--set-literal no value": ({}, ["--set-literal", "a"]), "--set open list": ({}, ["--set", "a={1,2"]),
    "--show-only missing": ({"templates/t.yaml": "a: 1\n"}, ["-s", "templates/nosuch.yaml"]), "--show-only empty": ({"templates/t.yaml": "{{ if false }}a{{ end }}\n"}, ["-s", "templates/t.yaml"]), "bad release name": ({}, ["--name-template", "A_B"]),
    "name template": ({}, ["--name-template", "{{ nosuch }}"]), "name template fails": ({}, ["--name-template", "{{ .x.y.z }}"]), "schema no JSON": ({"values.schema.json": "{"}, []), "schema bad type": ({"values.schema.json": '{"type": "bogus"}'}, []),
    "schema type": ({"values.schema.json": '{"properties": {"a": {"type": "string"}}}', "values.yaml": "a: 1\n"}, []), "schema required": ({"values.schema.json": '{"required": ["a", "b"]}'}, []),
    "schema enum": ({"values.schema.json": '{"properties": {"a": {"enum": ["x", 1, null, true]}}}', "values.yaml": "a: y\n"}, []), "schema const": ({"values.schema.json": '{"properties": {"a": {"const": {"b": [1]}}}}', "values.yaml": "a: y\n"}, []),
    "schema pattern": ({"values.schema.json": '{"properties": {"a": {"pattern": "^[a-z]+$"}}}', "values.yaml": "a: Y1\n"}, []), "schema format": ({"values.schema.json": '{"properties": {"a": {"format": "ipv4"}}}', "values.yaml": "a: x\n"}, []),
    "schema length": ({"values.schema.json": '{"properties": {"a": {"minLength": 3}, "b": {"maxLength": 1}, "c": {"minItems": 2}, "d": {"maxItems": 0}, "e": {"minProperties": 1}, "f": {"maxProperties": 0}}}', "values.yaml": "a: x\nb: xx\nc: [1]\nd: [1]\ne: {}\nf: {a: 1}\n"}, []),
    "schema bounds": ({"values.schema.json": '{"properties": {"a": {"minimum": 3}, "b": {"exclusiveMaximum": 1}, "c": {"exclusiveMinimum": 1}, "d": {"multipleOf": 2}}}', "values.yaml": "a: 1\nb: 1\nc: 1\nd: 3\n"}, []),
    "schema propertyNames": ({"values.schema.json": '{"propertyNames": {"pattern": "^a"}}', "values.yaml": "b: 1\n"}, []), "schema contains": ({"values.schema.json": '{"properties": {"a": {"contains": {"const": 1}}}}', "values.yaml": "a: [2]\n"}, []),
    "schema contains count": ({"values.schema.json": '{"$schema": "https://json-schema.org/draft/2020-12/schema", "properties": {"a": {"contains": {"const": 1}, "minContains": 2}, "b": {"contains": {"const": 1}, "maxContains": 1}}}', "values.yaml": "a: [1]\nb: [1, 1]\n"}, []),
    "schema dependentRequired": ({"values.schema.json": '{"$schema": "https://json-schema.org/draft/2020-12/schema", "dependentRequired": {"a": ["b"]}, "unevaluatedProperties": false}', "values.yaml": "a: 1\n"}, []),
    "schema draft 4": ({"values.schema.json": '{"$schema": "http://json-schema.org/draft-04/schema#", "properties": {"a": {"minimum": 1, "exclusiveMinimum": true, "type": ["integer", "null"]}}}', "values.yaml": "a: 1\n"}, []),
    "schema unknown draft": ({"values.schema.json": '{"$schema": "http://json-schema.org/draft-99/schema#"}'}, []), "schema lost reference": ({"values.schema.json": '{"properties": {"a": {"$ref": "#/definitions/nosuch"}}}', "values.yaml": "a: 1\n"}, []),
    "schema bad pattern": ({"values.schema.json": '{"properties": {"a": {"pattern": "("}}}', "values.yaml": "a: 1\n"}, []), "schema false": ({"values.schema.json": "false"}, []), "schema is a list": ({"values.schema.json": "[]"}, []),
    "duplicate template": ({"templates/a.yaml": "{{ define \"a\" }}1{{ end }}{{ define \"a\" }}2{{ end }}a: {{ include \"a\" . }}\n"}, []), "output no map": ({"templates/a.yaml": "text\n"}, []), "output a list": ({"templates/a.yaml": "- a\n"}, []),
    "kind is a number": ({"templates/a.yaml": "kind: 1\n"}, []), "metadata is a text": ({"templates/a.yaml": "kind: A\nmetadata: x\n"}, []), "name is a list": ({"templates/a.yaml": "kind: A\nmetadata: {name: []}\n"}, []),
    "annotations of numbers": ({"templates/a.yaml": "kind: A\nmetadata: {annotations: {helm.sh/hook: 1}}\n"}, []), "hook weight": ({"templates/a.yaml": "kind: A\nmetadata: {name: a, annotations: {helm.sh/hook: pre-install, helm.sh/hook-weight: x}}\n"}, []),
    "unknown hook": ({"templates/a.yaml": "kind: A\nmetadata: {name: a, annotations: {helm.sh/hook: nosuch}}\n"}, []), "helper fails": ({"templates/_h.tpl": "{{ define \"h\" }}\n{{ .a.b.c }}\n{{ end }}\n", "templates/a.yaml": "a:\n  {{ include \"h\" . | nindent 2 }}\n"}, []),
    "helper within helper": ({"templates/_h.tpl": "{{ define \"h\" }}{{ include \"i\" (dict \"x\" nil) }}{{ end }}{{ define \"i\" }}{{ required \"x must be set\" .x }}{{ end }}\n", "templates/a.yaml": "a: {{ include \"h\" . }}\n"}, []),
    "tpl within values": ({"values.yaml": "t: '{{ .Values.nosuch.x.y }}'\n", "templates/a.yaml": "a: {{ tpl .Values.t . }}\n"}, []), "tpl with include": ({"values.yaml": "t: '{{ include \"nosuch\" . }}'\n", "templates/a.yaml": "a: {{ tpl .Values.t $ | quote }}\n"}, []),
    "a bad helper": ({"templates/_h.tpl": "{{ define \"h\" }}\n{{ if }}\n{{ end }}\n"}, []), "NOTES fails": ({"templates/NOTES.txt": "{{ fail \"from the notes\" }}\n"}, []), "a bad partial in a subchart": ({"charts/d/Chart.yaml": CHART.replace("name: x", "name: d"), "charts/d/templates/t.yaml": "a: {{ .Values.x.y.z }}\n"}, []),
    "global is a text": ({"values.yaml": "global: x\n", "charts/d/Chart.yaml": CHART.replace("name: x", "name: d"), "charts/d/templates/t.yaml": "a: {{ .Values.global.x }}\n"}, []), "subchart values a text": ({"values.yaml": "d: text\n", "charts/d/Chart.yaml": CHART.replace("name: x", "name: d"), "charts/d/templates/t.yaml": "a: {{ .Values.a }}\n"}, []),
    "import-values missing": ({"Chart.yaml": CHART + "dependencies: [{name: d, version: 1.0.0, import-values: [nosuch]}]\n", "charts/d/Chart.yaml": CHART.replace("name: x", "name: d"), "templates/t.yaml": "a: {{ .Values.a.b }}\n"}, []),
    "version does not fit": ({"Chart.yaml": CHART + "dependencies: [{name: d, version: 2.0.0}]\n", "charts/d/Chart.yaml": CHART.replace("name: x", "name: d")}, []), "range over text": ({"values.yaml": "l: text\n", "templates/t.yaml": "{{ range .Values.l }}\na: {{ . }}\n{{ end }}\n"}, []),
    "field of text": ({"values.yaml": "l: text\n", "templates/t.yaml": "a:\n  - b: {{ .Values.l.x | default \"y\" }}\n"}, []), "field of number": ({"values.yaml": "l: 1\n", "templates/t.yaml": "a: {{ .Values.l.x }}\n"}, []), "field of list": ({"values.yaml": "l: [a]\n", "templates/t.yaml": "a: {{ .Values.l.x }}\n"}, []),
    "in a pipe over lines": ({"templates/t.yaml": "a:\n  b: {{ list 1\n    | first\n    | fail }}\n"}, []), "in an argument": ({"templates/t.yaml": "a: {{ printf \"%s\" (required \"needed\" .Values.x) | quote }}\n"}, []), "in with": ({"templates/t.yaml": "{{ with .Values.x.y }}\na: 1\n{{ end }}\n"}, []),
    "in a variable": ({"templates/t.yaml": "{{ $a := .Values.x.y.z }}\na: 1\n"}, []), "in an assignment": ({"templates/t.yaml": "{{ $a := 1 }}{{ $a = index (list) 1 }}\na: 1\n"}, []), "in else if": ({"templates/t.yaml": "{{ if false }}{{ else if .Values.x.y.z }}{{ end }}\na: 1\n"}, []),
    "in a condition": ({"templates/t.yaml": "a: 1\n{{- if and .Values.x.y (eq .Values.x.y.z 1) }}\nb: 1\n{{- end }}\n"}, []), "in a template action": ({"templates/t.yaml": "{{ define \"a\" }}{{ .x.y.z }}{{ end }}a: {{ template \"a\" (dict \"x\" nil) }}\n"}, []), "in CRLF": ({"templates/t.yaml": "a: 1\r\nb: {{ .Values.x.y }}\r\n"}, []),
    "after a long text": ({"templates/t.yaml": "a: äöü {{ .Values.x.y }}\n"}, []), "a text with colons": ({"templates/t.yaml": "a: {{ fail \"one: two: three\" }}\n"}, []), "a text of lines": ({"templates/t.yaml": "a: {{ fail \"one\\n  two\\n\\nthree\" }}\n"}, []), "an empty fail": ({"templates/t.yaml": "a: {{ fail \"\" }}\n"}, []),
}


class Says:
    def __init__(self, command, env, cwd):
        done = subprocess.run(command, capture_output=True, env=env, cwd=cwd, timeout=120)
        self.code, self.out = done.returncode, done.stdout
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        lines = [l for l in lines if not re.match(r"Use --debug|level=|time=|\d{4}/\d\d/\d\d |warning: |WARNING", l)]
        self.said = "\n".join(lines).strip()

    def message(self, cwd):
        """Without the word that introduces it, with white space made one, without the folder that the charts are in."""
        said = re.sub(r"^(omk: )?([Ee]rror: )?", "", self.said)
        said = re.sub(r"(?<![\w/])(/[^\s:\"']+)", lambda m: os.path.relpath(m[1], cwd) if m[1].startswith(cwd) else m[1], said)
        return re.sub(r"\s+", " ", said).strip()


def reason(said):
    """What stands behind the last place that helm names."""
    # The system's words, which Go writes small and with what it tried before them.
    said = re.sub(r"\b(open|read|stat) \S+: (?=[a-z])", "", said)
    last = said.splitlines()[-1] if "\n" in said else said
    last = re.split(r">: ", last)[-1]
    last = re.sub(r"^.*?execution error at \([^)]*\): ", "", last)
    last = re.sub(r"^.*error (calling \w+|converting YAML to JSON|unmarshaling JSON): ", "", last)
    return re.sub(r"\s+", " ", last).strip(" -")


def compare(helm, omk, cwd):
    if (helm.code == 0) != (omk.code == 0):
        return "only helm fails" if omk.code == 0 else "only omk fails"
    if helm.code == 0:
        return "both render" if helm.out == omk.out else "output differs"
    whole, ours = helm.message(cwd), omk.message(cwd)
    if whole in ours:
        return "words"
    return "reason" if (reason(helm.said) or whole).lower() in ours.lower() else "different"


def only_where(helm, again, omk):
    """Whether omk's output differs from helm's only in lines in which helm differs from itself."""
    rows = [said.out.splitlines() for said in (helm, again, omk)]
    return len({len(r) for r in rows}) == 1 and all(a == c or a != b for a, b, c in zip(*rows))


def paths(values, at=(), depth=3):
    if isinstance(values, dict):
        for k, v in values.items():
            if isinstance(k, str) and re.fullmatch(r"[\w-]+", k):
                yield at + (k,), v
                if depth > 1:
                    yield from paths(v, at + (k,), depth - 1)


def other_kind(value, pick):
    kinds = ["text", 7, True, ["a", {"b": 1}], {"nosuch": {"key": "x"}}, None]
    return pick.choice([k for k in kinds if type(k) is not type(value)])


def spoil(chart, copy, pick):
    """Spoils the copy; the name of what was done and the arguments that do the rest."""
    how = pick.choice(["values"] * 5 + ["template"] * 5 + ["cut"] * 2 + ["chart", "kube"])
    try:
        with open(os.path.join(chart, "values.yaml"), "rb") as f:
            known = list(paths(yaml.load(f, getattr(yaml, "CSafeLoader", yaml.SafeLoader))))
    except (OSError, yaml.YAMLError):
        known = []
    if how == "values" and known:
        path, value = pick.choice(known)
        setting = ".".join(path) + "=" + json.dumps(other_kind(value, pick))
        return f"--set-json {setting}", ["--set-json", setting]
    if how == "kube":
        return "--kube-version 1.9", ["--kube-version", "1.9"]
    templates = sorted(os.path.join(d, f) for d, _, fs in os.walk(os.path.join(copy, "templates")) for f in fs if f.endswith((".yaml", ".tpl", ".yml")))
    if how in ("template", "cut") and templates:
        name = pick.choice(templates)
        with open(name, encoding="utf-8", errors="surrogateescape", newline="") as f:
            text = f.read()
        if how == "template":
            lines = text.splitlines(keepends=True)
            line, mistake = pick.randrange(len(lines) + 1), pick.choice(MISTAKES)
            text = "".join(lines[:line] + [mistake + "\n"] + lines[line:])
            what = f"{mistake!r} before line {line + 1} of"
        else:
            cuts = [m.span() for m in re.finditer(r"\{\{-? *end *-?\}\}|\}\}|\{\{|\)| \||\"| end ", text)]
            if not cuts:
                return "nothing", []
            start, end = pick.choice(cuts)
            what = f"{text[start:end]!r} cut at {start} of"
            text = text[:start] + text[end:]
        os.unlink(name)
        with open(name, "w", encoding="utf-8", errors="surrogateescape", newline="") as f:
            f.write(text)
        return f"{what} {os.path.relpath(name, copy)}", []
    name = pick.choice(["Chart.yaml", "values.yaml"])
    more = pick.choice(["a: [\n", "\tb: 1\n", "name: {a: 1}\n", "- x\n", "dependencies: [{name: nosuch, version: 1.0.0}]\n", "version: one\n", "x: *y\n", "kubeVersion: '>= 99'\n", "type: bogus\n"])
    path = os.path.join(copy, name)
    text = open(path, encoding="utf-8", errors="surrogateescape").read() if os.path.exists(path) else ""
    if os.path.exists(path):
        os.unlink(path)
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as f:
        f.write(text.rstrip("\n") + "\n" + more)
    return f"{more!r} at the end of {name}", []


def charts(folder):
    for place, folders, names in os.walk(folder):
        folders.sort()
        if "Chart.yaml" in names:
            folders.clear()
            yield place


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("omk"), parser.add_argument("helm"), parser.add_argument("folder", nargs="?")
    parser.add_argument("--each", type=int, default=8)
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", help="write every case that is not `words` or `both render` there, as JSON")
    parser.add_argument("--only", default="", help="cases of that name")
    args = parser.parse_args()
    omk, helm = os.path.abspath(args.omk), os.path.abspath(args.helm)
    count, kept = {k: collections.Counter() for k in ("own", "spoilt", "random")}, []
    with tempfile.TemporaryDirectory() as work:
        env = os.environ | {f"HELM_{k}_HOME": work + "/home" for k in ("CACHE", "CONFIG", "DATA")} | {"OMK_OFFLINE": "true"}
        env |= {"KUBECONFIG": work + "/none"}

        def ask(group, name, cwd, arguments):
            names = [] if "--name-template" in arguments else ["rel"]
            for _ in range(4):
                said = [Says([helm, "template", *names, "x", *arguments], env, cwd), Says([omk, "chart", "template", *names, "x", *arguments], env, cwd)]
                result = compare(*said, cwd)
                if result == "output differs" and only_where(said[0], Says([helm, "template", *names, "x", *arguments], env, cwd), said[1]):
                    result = "helm varies"
                if result in GOOD:
                    break
            count[group][result] += 1
            if result not in GOOD:
                kept.append({"case": name, "result": result, "helm": said[0].message(cwd)[:1500], "omk": said[1].message(cwd)[:1500]})

        def own(name, made, arguments, group="own"):
            if not re.search(args.only, name):
                return
            cwd = tempfile.mkdtemp(dir=work)
            for file, text in {"Chart.yaml": CHART, **made}.items():
                if text is not None:
                    # What -f names lies beside the chart.
                    at = os.path.join(cwd, *(["x"] if "/" in file or file not in arguments else []), file)
                    os.makedirs(os.path.dirname(at), exist_ok=True)
                    with open(at, "w", newline="") as f:
                        f.write(text)
            ask(group, name, cwd, arguments)
            shutil.rmtree(cwd)

        for name, (made, arguments) in OWN.items():
            own(name, made, arguments)
        for mistake in MISTAKES:
            own(mistake, {"templates/t.yaml": f"a: 1\n{mistake}\n"}, [])
            own("in a helper: " + mistake, {"templates/_h.tpl": f"{{{{ define \"h\" }}}}\n{mistake}\n{{{{ end }}}}", "templates/t.yaml": "a: 1\nb:\n  {{- include \"h\" . | nindent 2 }}\n"}, [])
        pick = random.Random(args.seed)
        for _ in range(args.random):
            text = random_template(pick)
            own(repr(text), {"templates/t.txt": text, "values.yaml": VALUES}, [], "random")
        for chart in charts(args.folder) if args.folder else ():
            for n in range(args.each):
                short = os.path.relpath(chart, args.folder)
                if not re.search(args.only, short):
                    continue
                pick = random.Random(hashlib.sha256(f"{args.seed} {n} {short}".encode()).digest())
                cwd = tempfile.mkdtemp(dir=work)
                shutil.copytree(chart, os.path.join(cwd, "x"))
                what, arguments = spoil(chart, os.path.join(cwd, "x"), pick)
                ask("spoilt", f"{short}: {what}", cwd, arguments)
                shutil.rmtree(cwd)
    bad = 0
    for group, results in count.items():
        print(f"{group}: " + ", ".join(f"{k} {v}" for k, v in results.most_common()))
        bad += sum(v for k, v in results.items() if k not in (*GOOD, "reason"))
    for row in kept:
        if row["result"] != "reason":
            print(f"- {row['case']}: {row['result']}\n    helm: {row['helm'][:300]}\n    omk:  {row['omk'][:300]}")
    if args.out:
        with open(args.out, "w") as f:
            json.dump(kept, f, indent=1)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
