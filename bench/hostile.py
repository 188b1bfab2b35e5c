"""Makes the charts of hostile.sh and runs omk on them."""

import gzip
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading

OMK, OUT, WANTED = sys.argv[1], sys.argv[2], sys.argv[3:]
SECONDS, MIB = 5.0, 300
CHART = "apiVersion: v2\nname: x\nversion: 1.0.0\n"
cases = []


def case(name, make, args=(), ends=True):
    """`make` fills a folder, or gives the path of an archive; with `ends`, an error is due."""
    cases.append((name, make, args, ends))


def files(**named):
    def make(at):
        for name, text in {"Chart.yaml": CHART, **named}.items():
            path = os.path.join(at, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as f:
                f.write(text if isinstance(text, bytes) else text.encode())
        return at
    return make


def template(name, text, ends=True, **more):
    # What need not be YAML stands in the notes.
    case(name, files(**{"templates/t.yaml" if ends else "templates/NOTES.txt": text}, **more), ends=ends)


def archive(members, level=1):
    """`members` are names with bytes, or headers with what follows them."""
    def make(at):
        path = at + ".tgz"
        with gzip.open(path, "wb", compresslevel=level) as gz:
            def put(header, data):
                gz.write(header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
                gz.write(data)
                gz.write(b"\0" * (-len(data) % 512))
            for name, data in [("x/Chart.yaml", CHART.encode()), *members()]:
                header = name
                if isinstance(name, str):
                    header = tarfile.TarInfo(name)
                    header.size = len(data)
                put(header, data)
            gz.write(b"\0" * 1024)
        return path
    return make


def link(name, target, kind=tarfile.SYMTYPE):
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, target
    return header


def bomb(levels=12, width=10):
    lines = ["a0: &a0 [" + ",".join(["x"] * width) + "]"]
    lines += [f"a{i}: &a{i} [" + ",".join([f"*a{i - 1}"] * width) + "]" for i in range(1, levels)]
    return "\n".join(lines) + "\n"


def loop(body, start='"x"', times=60):
    return f"{{{{ $x := {start} }}}}{{{{ range until {times} }}}}{body}{{{{ end }}}}"


# Values that double.
template("concat doubles", loop("{{ $x = concat $x $x }}", "list 1"))
template("concat of 50", loop("{{ $x = concat " + "$x " * 50 + "}}", "list 1"))
template("printf doubles", loop('{{ $x = printf "%s%s" $x $x }}'))
template("printf of 200", loop('{{ $x = printf "' + "%[1]s" * 200 + '" $x }}'))
template("print doubles", loop("{{ $x = print $x $x }}"))
template("cat doubles", loop("{{ $x = cat $x $x }}"))
template("replace grows", loop('{{ $x = replace "x" "xxxxxxxxxx" $x }}'))
template("replace by itself", loop('{{ $x = replace "x" $x $x }}', '"xxxx"'))
template("regexReplaceAll grows", loop('{{ $x = regexReplaceAll "x" $x "xxxxxxxxxx" }}'))
template("regexReplaceAll of groups", loop('{{ $x = regexReplaceAll ".+" $x "' + "${0}" * 100 + '" }}'))
template("join of itself", loop('{{ $x = join $x (list $x $x $x) }}'))
template("quote of quotes", loop("{{ $x = quote $x }}"))
template("toJson of toJson", loop("{{ $x = toJson $x }}", '"\\\\"'))
template("b64enc", loop("{{ $x = b64enc $x }}", "repeat 100000 \"x\"", 1000))
template("wrapWith", '{{ wrapWith 1 (repeat 100000 "y") (repeat 100000 "x") | len }}')
template("huge repeat", '{{ repeat 2000000000 "x" }}')
template("many repeats", '{{ $d := dict }}{{ range $i := until 100000 }}{{ $_ := set $d (toString $i) (repeat 100000 "x") }}{{ end }}')
template("many small texts", '{{ $d := dict }}{{ range $i := until 1000000 }}{{ $_ := set $d (toString $i) (repeat 200 "x") }}{{ end }}')
template("many small maps", '{{ $d := dict }}{{ range $i := until 1000000 }}{{ $_ := set $d (toString $i) (dict "a" 1) }}{{ end }}')
template("many lists", '{{ $d := dict }}{{ range $i := until 1000000 }}{{ $_ := set $d (toString $i) (list 1 2 3) }}{{ end }}')
template("a long chain of lists", '{{ $x := list }}{{ range until 1000000 }}{{ $x = list $x }}{{ end }}')
template("a long chain of maps", '{{ $x := dict }}{{ range until 1000000 }}{{ $y := dict }}{{ $_ := set $x "n" $y }}{{ $x = $y }}{{ end }}')
template("maps that contain themselves", '{{ range until 1000000 }}{{ $x := dict "a" (repeat 1000 "x") }}{{ $_ := set $x "b" $x }}{{ end }}')
template("values grow", '{{ range $i := until 1000000 }}{{ $_ := set $.Values (printf "%d" $i) $i }}{{ end }}')
template("append in a loop", loop("{{ $x = append $x 1 }}", "list", 1000000))
template("merge in a loop", '{{ $d := dict }}{{ range $i := until 100000 }}{{ $d = merge $d (dict (toString $i) (dict "a" $i)) }}{{ end }}')
template("split into characters", '{{ range until 50 }}{{ $x := splitList "" (repeat 8000000 "x") }}{{ end }}')
template("split into a map", '{{ split "" (repeat 8000000 "x") | len }}')
template("regexFindAll of characters", '{{ regexFindAll "." (repeat 8000000 "x") -1 | len }}')
template("seq and until", '{{ range until 10 }}{{ seq 1 1000000 | len }}{{ until 1000000 | len }}{{ end }}', ends=False)
template("until too far", '{{ until 2000000000 }}')
template("untilStep over the edge", '{{ untilStep -9223372036854775808 9223372036854775807 1 }}')
template("nested until", '{{ range until 99999 }}{{ range until 99999 }}{{ end }}{{ end }}')
template("nested until with calls", '{{ range until 99999 }}{{ range until 99999 }}{{ add 1 2 | toString | quote }}{{ end }}{{ end }}')
template("nested range of pairs", '{{ range $i, $a := until 99999 }}{{ range $k, $b := until 99999 }}{{ end }}{{ end }}')
template("chunks", '{{ range until 100 }}{{ chunk 1 (until 1000000) | len }}{{ end }}')
template("uniq", '{{ uniq (until 1000000) | len }}')
template("has in a loop", '{{ $l := until 100000 }}{{ range $l }}{{ has -1 $l }}{{ end }}')
template("sortAlpha", '{{ $l := until 300000 }}{{ range until 100 }}{{ $x := sortAlpha $l }}{{ end }}')
for f in ["toYaml", "toYamlPretty", "toJson", "toPrettyJson", "toToml", "toString", "deepCopy", "print", "quote"]:
    template(f"a list twice, {f}", loop("{{ $x = list $x $x }}", "list 1", 40) + f"{{{{ {f} $x | len }}}}")
template("a list twice, printed", loop("{{ $x = list $x $x }}", "list 1", 40) + "{{ $x }}")
template("a map twice, toToml", loop('{{ $x = dict "a" $x "b" $x }}', 'dict "a" 1', 40) + "{{ toToml $x }}")
template("a map twice, deepEqual", loop('{{ $x = dict "a" $x "b" $x }}', 'dict "a" 1', 40) + "{{ deepEqual $x (deepCopy $x) }}")
template("a map twice, merge", loop('{{ $x = dict "a" $x "b" $x }}', 'dict "a" 1', 40) + "{{ merge (dict) $x | len }}{{ merge $x $x | len }}")
template("toToml of deep values", loop('{{ $x = dict "a" $x }}', 'dict "a" 1', 150) + "{{ toToml $x }}", ends=False)
template("toToml of deeper values", loop('{{ $x = dict "a" $x }}', 'dict "a" 1', 100000) + "{{ mustToToml $x }}")
template("toYaml of deep lines", loop('{{ $x = dict "a" $x }}', 'dict "a" (repeat 4000000 "\\n")', 190) + "{{ toYaml $x | len }}")
template("toYaml of a long text", '{{ $x := repeat 4000000 "x\\n" }}{{ range until 1000 }}{{ $y := toYaml $x }}{{ end }}')
template("sha256sum of a long text", '{{ $x := repeat 4000000 "x" }}{{ range until 100000 }}{{ $y := sha256sum $x }}{{ end }}')
template("fromYaml of a bomb", "{{ (fromYaml .Values.b).Error }}", ends=False, **{"values.yaml": "b: |\n  " + bomb().replace("\n", "\n  ") + "\n"})
template("fromYaml of many maps", '{{ range until 20 }}{{ (fromYamlArray (repeat 800000 "- {a: 1}\\n")) | len }}{{ end }}')
template("fromYaml in a loop", '{{ $d := dict }}{{ range $i := until 1000 }}{{ $_ := set $d (toString $i) (fromYamlArray (repeat 10000 "- {a: 1}\\n")) }}{{ end }}')
template("fromJson of many lists", '{{ (fromJsonArray (print "[[]" (repeat 2600000 ",[]") "]")) | len }}', ends=False)
template("fromJson of deep lists", '{{ fromJsonArray (repeat 4000000 "[") | toJson }}', ends=False)
template("fromToml of dotted keys", '{{ (fromToml (print "a" (repeat 1000000 ".a") " = 1")) | len }}')
template("fromToml of deep lists", '{{ (fromToml (print "a = " (repeat 90000 "[") (repeat 90000 "]"))) | len }}', ends=False)
template("Files.Get of much", '{{ $d := dict }}{{ range $i := until 1000 }}{{ $_ := set $d (toString $i) ($.Files.Get "big") }}{{ end }}', **{"big": "x" * 5_000_000})
template("Files.Lines of much", '{{ range until 1000 }}{{ $x := $.Files.Lines "big" }}{{ end }}', **{"big": "\n" * 5_000_000})
template("Files.AsConfig of much", '{{ .Files.AsConfig }}', **{f"big{i}": "x" * 5_000_000 for i in range(10)})
template("Files.Glob in a loop", '{{ range until 100000 }}{{ $x := $.Files.Glob "**{a,b,c}*[a-z]*" }}{{ end }}', **{f"f{i}": "" for i in range(2000)})

# Depth.
template("include of itself", '{{ define "a" }}{{ include "a" . }}{{ end }}{{ include "a" . }}')
template("template of itself", '{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}')
template("tpl of itself", '{{ $t := "{{ tpl .t . }}" }}{{ tpl $t (dict "t" $t) }}')
template("include twice", '{{ define "a" }}{{ if gt . 0 }}{{ include "a" (sub . 1) }}{{ include "a" (sub . 1) }}{{ end }}{{ end }}{{ include "a" 60 }}')
template("deep includes with texts", '{{ define "a" }}' + "".join(f'{{{{ $v{i} := printf "%0250d" . }}}}' for i in range(50)) + '{{ include "a" (add . 1) }}{{ end }}{{ include "a" 1 }}')
template("deep includes that print", '{{ define "a" }}' + "x" * 200_000 + '{{ include "a" (add . 1) }}{{ end }}{{ include "a" 1 }}')
template("tpl that doubles", '{{ $t := "x" }}{{ range until 60 }}{{ $t = printf "{{ $a := 1 }}%s%s" $t $t }}{{ $y := tpl $t $ }}{{ end }}')
template("tpl of many texts", '{{ range $i := until 1000000 }}{{ $y := tpl (printf "{{ add %d 1 }}{{ add 1 2 | quote }}" $i) $ }}{{ end }}')
template("tpl of long texts", '{{ range $i := until 1000000 }}{{ $y := tpl (printf "%s%d" (repeat 100000 "x") $i) $ }}{{ end }}')
template("tpl of many actions", '{{ range $i := until 1000000 }}{{ $y := tpl (printf "%s%d" (repeat 20000 "{{ . }}") $i) 1 }}{{ end }}')
template("printing without end", '{{ range until 1000000 }}{{ range until 5 }}' + "x" * 5000 + "{{ end }}{{ end }}")
template("printing a text again and again", '{{ $x := repeat 1000000 "x" }}{{ range until 100000 }}{{ $x }}{{ end }}')
case("many files that print", files(**{f"templates/{i}.yaml": '{{ range until 1000000 }}' + "# 0123456789\n" * 2 + "{{ end }}" for i in range(20)}))
template("deep parentheses", "{{ " + "(" * 100000 + "1" + ")" * 100000 + " }}")
template("deep blocks", "{{ if 1 }}" * 100000 + "{{ end }}" * 100000)
template("a long pipeline", "{{ 1" + " | add 1" * 100000 + " }}")
template("a long and", "{{ and" + " 1" * 100000 + " }}")
template("a long chain of fields", "{{ $" + ".a" * 100000 + " }}")
template("a long else if", "{{ if 0 }}" + "{{ else if 0 }}" * 100000 + "{{ end }}")
template("many arguments", "{{ list" + " 1" * 1000000 + " | len }}")
template("many actions", "{{.}}" * 1_000_000)
case("many files of actions", files(**{f"templates/{i}.yaml": "{{ add 1 2 }}" * 30_000 for i in range(18)}))
template("many defines", "".join(f'{{{{ define "a{i}" }}}}{{{{ end }}}}' for i in range(100_000)))
template("many variables", "".join(f"{{{{ $a{i} := 1 }}}}" for i in range(100_000)))
template("deep values", loop('{{ $x = dict "a" $x }}', "dict", 10000) + "{{ mustToJson $x }}")

# Functions that grow what they are given, and values that hold themselves.
template("nindent too far", '{{ nindent 1000000000 "x" }}')
template("indent of many lines", '{{ indent 100000 (repeat 100000 "\\n") | len }}')
template("nindent in a loop", loop('{{ $x = nindent 1000 $x }}', '"x\\n"', 100000))
template("printf with a width", '{{ printf "%999999999d" 1 }}')
template("printf with a width of an argument", '{{ printf "%*d" 999999999 1 }}', ends=False)
template("printf with a precision", '{{ printf "%.999999999f" 1.5 }}')
template("substr in a loop", '{{ $x := repeat 4000000 "x" }}{{ range until 1000000 }}{{ $y := substr 0 -1 $x }}{{ end }}')
template("trunc and abbrev in a loop", '{{ $x := repeat 4000000 "é" }}{{ range until 1000000 }}{{ $y := trunc 3999999 $x | abbrev 3999998 }}{{ end }}')
template("upper, title, swapcase, initials", '{{ $x := repeat 2000000 "x " }}{{ range until 100000 }}{{ $y := upper $x }}{{ $y = title $x }}{{ $y = swapcase $x }}{{ $y = initials $x }}{{ end }}')
template("camelcase, kebabcase, snakecase", '{{ $x := repeat 2000000 "xY" }}{{ range until 100000 }}{{ $y := camelcase $x }}{{ $y = kebabcase $x }}{{ $y = snakecase $x }}{{ end }}')
template("wrap and shuffle in a loop", '{{ $x := repeat 2000000 "x " }}{{ range until 100000 }}{{ $y := wrap 1 $x }}{{ $y = shuffle $x }}{{ end }}')
template("contains in a loop", '{{ $x := repeat 4000000 "a" }}{{ $y := print (repeat 2000000 "a") "b" }}{{ range until 1000000 }}{{ contains $y $x }}{{ hasSuffix $y $x }}{{ end }}')
template("checksums in a loop", '{{ $x := repeat 4000000 "a" }}{{ range until 1000000 }}{{ $y := adler32sum $x }}{{ $y = sha1sum $x }}{{ $y = sha512sum $x }}{{ end }}')
template("b32enc of b32enc", loop("{{ $x = b32enc $x }}", '"x"', 1000))
template("urlquery of urlquery", loop("{{ $x = urlquery $x }}", '"%"', 1000), ends=False)
template("html of html", loop("{{ $x = html $x }}", '"&"', 1000), ends=False)
template("plural, atoi and float64 of much", '{{ atoi (repeat 4000000 "9") }}{{ float64 (repeat 4000000 "9") }}{{ int64 (print (repeat 4000000 "0") "1") }}', ends=False)
template("toDecimal in a loop", '{{ $x := repeat 4000000 "7" }}{{ range until 1000000 }}{{ $y := toDecimal $x }}{{ end }}')
template("fromJson of long numbers", '{{ fromJson (print "{\\"a\\":1" (repeat 4000000 "0") "}") | toJson | len }}', ends=False)
template("fromYaml of a long number", '{{ fromYaml (print "a: 1" (repeat 4000000 "0")) | toYaml | len }}', ends=False)
template("fromYaml of merges", '{{ range until 1000 }}{{ $y := fromYaml "a: &a {x: 1}\\nb: {<<: *a}" }}{{ $y = fromYaml (print "a: &a [" (repeat 100000 "1,") "]\\nb: [*a,*a,*a,*a,*a,*a,*a]") }}{{ end }}')
template("a map within itself", '{{ $d := dict }}{{ $_ := set $d "a" $d }}{{ $_ := set $d "b" $d }}{{ toYaml $d }}')
template("a map within itself, merged", '{{ $d := dict }}{{ $_ := set $d "a" $d }}{{ $_ := mergeOverwrite $d $d (deepCopy $d) }}{{ $d | len }}')
template("values within themselves", '{{ $_ := set .Values "a" .Values }}{{ $_ := set .Values "b" $ }}{{ . | toString | len }}')
template("values within themselves, tpl", '{{ $_ := set .Values "a" $ }}{{ tpl "{{ .Values.a.Values | toJson }}" . }}', ends=False)
template("keys, values and pick of many", '{{ $d := dict }}{{ range $i := until 100000 }}{{ $_ := set $d (toString $i) $i }}{{ end }}{{ range until 100000 }}{{ $y := keys $d }}{{ $y = values $d }}{{ $y = omit $d "1" }}{{ end }}')
template("dig in a loop", '{{ $d := dict "a" (dict "b" 1) }}{{ range until 100000 }}{{ range until 1000 }}{{ $y := dig "a" "b" 1 $d }}{{ end }}{{ end }}')
template("range over a number", '{{ range 2000000000 }}{{ end }}')
template("seq up and down", '{{ range until 1000 }}{{ $y := seq 1 99999 }}{{ $y = seq 99999 -1 1 }}{{ end }}')
template("reverse, rest and initial", '{{ $l := until 99999 }}{{ range until 1000000 }}{{ $y := reverse $l }}{{ $y = rest $l }}{{ $y = initial $l }}{{ end }}')
template("prepend and without", '{{ $l := until 99999 }}{{ range until 1000000 }}{{ $y := prepend $l 1 }}{{ $y = without $l 1 2 3 }}{{ $y = compact $l }}{{ end }}')
template("join and split", '{{ $l := until 99999 }}{{ range until 1000000 }}{{ $y := join "," $l | splitList "," }}{{ end }}')
template("eq of long texts", '{{ $x := repeat 4000000 "a" }}{{ $y := repeat 4000000 "a" }}{{ range until 1000000 }}{{ eq $x $y }}{{ end }}')
template("lookup, now and uuidv4 in a loop", '{{ range until 100000 }}{{ range until 1000 }}{{ $y := lookup "v1" "Pod" "a" "b" }}{{ $y = now }}{{ $y = uuidv4 }}{{ end }}{{ end }}')
template("define upon define in tpl", '{{ range $i := until 1000000 }}{{ $y := tpl (printf "{{ define \\"d%d\\" }}{{ add 1 2 }}{{ end }}" $i) $ }}{{ end }}')
template("regexReplaceAll of nothing", '{{ $x := repeat 1000000 "x" }}{{ range until 100 }}{{ $x = regexReplaceAll "" $x "yyyyyyyy" }}{{ end }}')
template("regexQuoteMeta in a loop", loop("{{ $x = regexQuoteMeta $x }}", '"."', 1000))
template("regexMatch of a counted pattern", '{{ regexMatch "(((a{10}){10}){10}){10}" (repeat 1000000 "a") }}')
template("a pattern of Files.Glob", '{{ .Files.Glob (print (repeat 20000 "{a,") "b" (repeat 20000 "}")) }}', ends=False, **{"a": "x"})
case("a long .helmignore", files(**{".helmignore": "".join(f"*a*b*c*{i}*\n" for i in range(20_000)), **{f"f{i}": "" for i in range(2_000)}}))
case("a star after the other in .helmignore", files(**{".helmignore": "*a" * 5_000 + "b\n", "a" * 200: ""}), ends=False)
case("many dependencies in Chart.yaml", files(**{"Chart.yaml": CHART + "dependencies:\n" + "".join(f"- {{name: a, alias: a{i}, version: 1.0.0}}\n" for i in range(10_000)), "charts/a/Chart.yaml": CHART.replace("name: x", "name: a"), "charts/a/values.yaml": "a: {b: {c: [1,2,3]}}\n" * 1 + "".join(f"k{i}: 1\n" for i in range(500))}))
case("dependencies within dependencies", files(**{"charts/a/" * n + "Chart.yaml": CHART.replace("name: x", "name: a") for n in range(1, 30)}))
case("global values for many", files(**{"values.yaml": "global:\n" + "".join(f"  k{i}: {{a: 1}}\n" for i in range(5_000)), **{f"charts/a{i}/Chart.yaml": CHART.replace("name: x", f"name: a{i}") for i in range(1_000)}}))
case("a long line of -s", files(**{"templates/t.yaml": "a: 1"}), ("-s", "templates/" + "*a" * 5_000 + "b"))
case("--set of a long text", files(**{"templates/t.yaml": "a: {{ .Values.a | len }}"}), ("--set-string", "a=" + "x" * 100_000), ends=False)
case("--name-template that does not end", files(), ("--name-template", '{{ range until 99999 }}{{ range until 99999 }}{{ end }}{{ end }}'))

# What is slow on purpose.
for f in ['bcrypt "x"', 'htpasswd "a" "b"', 'derivePassword 1 "long" "p" "u" "s"', 'genPrivateKey "rsa"', 'genPrivateKey "dsa"', 'genCA "x" 1', 'genPrivateKey "ecdsa"', 'genSelfSignedCert "x" nil nil 1']:
    template(f.split()[0] + " " + f.split()[1].strip('"') + " in a loop", f"{{{{ range until 100000 }}}}{{{{ $x := {f} }}}}{{{{ end }}}}")
template("encryptAES in a loop", '{{ $x := repeat 1000000 "x" }}{{ range until 100000 }}{{ $y := encryptAES "a" $x }}{{ end }}')
template("randAlphaNum in a loop", '{{ range until 100000 }}{{ $y := randAlphaNum 1000000 }}{{ end }}')
template("regexMatch that backtracks", '{{ regexMatch "^(a+)+$" (print (repeat 1000000 "a") "b") }}{{ regexMatch "(x+x+)+y" (repeat 1000000 "x") }}', ends=False)
template("regexMatch of a large pattern", '{{ range until 1000 }}{{ regexMatch "([a-q][^u-z]{13}x){70}" (repeat 1000000 "ab") }}{{ end }}')
template("regexMatch of many patterns", '{{ range $i := until 100000 }}{{ regexMatch (printf "(a{1000}|%d){30}" $i) "a" }}{{ end }}')
template("regexFindAll that looks ahead", '{{ regexFindAll ".*[^A-Z]|[A-Z]" (repeat 1000000 "A") -1 | len }}')
template("regexSplit that looks ahead", '{{ regexSplit ".*[^A-Z]|[A-Z]" (repeat 1000000 "A") -1 | len }}')
template("semver of much", '{{ semverCompare (repeat 100000 ">1 || ") "1.2.3" }}{{ semver (print "1.2.3-" (repeat 1000000 "a.")) }}')
template("snakecase of much", '{{ snakecase (print (repeat 80000 "a") (repeat 40000 "1a")) | len }}', ends=False)
template("trimAll of much", '{{ trimAll (repeat 1000000 "y") (repeat 1000000 "x") | len }}')
template("dates of much", '{{ dateModify (repeat 1000000 "1h") now }}{{ date (repeat 1000000 "2006") now | len }}', ends=False)

# YAML.
deep = "[" * 100_000
case("bomb in values.yaml", files(**{"values.yaml": bomb()}))
case("bomb in Chart.yaml", files(**{"Chart.yaml": CHART + "annotations:\n  " + bomb().replace("\n", "\n  ")}))
case("bomb in Chart.lock", files(**{"Chart.lock": bomb()}))
case("bomb in -f", files(**{"../bomb.yaml": bomb()}), ("-f", "{at}/../bomb.yaml"))
case("many maps in values.yaml", files(**{"values.yaml": "- {a: 1}\n" * 500_000}))
case("many maps below a key", files(**{"values.yaml": "a:\n" + "- {a: 1}\n" * 500_000}))
case("as many maps as allowed", files(**{"values.yaml": "a:\n" + "- {a: 1}\n" * 16_000, "templates/t.yaml": "a: {{ len .Values.a }}"}), ends=False)
case("many maps in Chart.yaml", files(**{"Chart.yaml": CHART + "annotations:\n  a:\n" + "  - {a: 1}\n" * 400_000}))
case("anchors within each other", files(**{"values.yaml": "a: " + "".join(f"&a{i} [" for i in range(150)) + "1," * 300_000 + "]" * 150}))
case("merges of merges", files(**{"values.yaml": "a0: &a0 {" + ",".join(f"k{i}: 1" for i in range(1000)) + "}\n" + "".join(f"a{i}: &a{i} {{<<: *a{i - 1}}}\n" for i in range(1, 3000))}))
case("deep values.yaml", files(**{"values.yaml": "a: " + deep}))
case("bomb in the output", files(**{"templates/t.yaml": bomb()}))
case("many values in the output", files(**{"templates/t.yaml": "a: [{{ repeat 3000000 \"{},\" }}]"}))
case("as many values as allowed", files(**{"templates/t.yaml": "a: [{{ repeat 90000 \"{},\" }}]"}), ends=False)
case("deep output", files(**{"templates/t.yaml": "a: " + deep}))
case("many documents in the output", files(**{"templates/t.yaml": '{{ repeat 700000 "---\\na: 1\\n" }}'}))

# Archives and folders.
case("archive: ..", archive(lambda: [("x/../../etc/x", b"1")]))
case("archive: absolute", archive(lambda: [("x//etc/x", b"1")]))
case("archive: a link", archive(lambda: [(link("x/templates/l.yaml", "/etc/passwd"), b"")]))
case("archive: a hard link", archive(lambda: [(link("x/l", "/etc/passwd", tarfile.LNKTYPE), b"")]))
case("archive: a device", archive(lambda: [(link("x/l", "", tarfile.CHRTYPE), b"")]))
case("archive: a huge file", archive(lambda: [("x/big", b"\0" * (200 << 20))]))
case("archive: large files", archive(lambda: (("x/%d" % i, b"\0" * (5 << 20)) for i in range(60))))
case("archive: as large as allowed", archive(lambda: (("x/f%d" % i, os.urandom(1 << 20) * 5) for i in range(19))), ends=False)
case("archive: many files", archive(lambda: (("x/%d" % i, b"") for i in range(100_000))))
case("archive: zeroes", archive(lambda: [(big_zero(), b"\0" * (400 << 20))], 9))
case("archive: a huge name", archive(lambda: [(long_name(90 << 20), b"x" * (90 << 20))]))


def big_zero():
    header = tarfile.TarInfo("x/zero")
    header.size = 400 << 20
    return header


def long_name(size):
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, size
    return header


def tgz(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def nest(count, wide):
    def make(at):
        inner = tgz([("x/Chart.yaml", CHART.encode())] + [(f"x/{i}", b"\0" * (4 << 20)) for i in range(wide)])
        for _ in range(count):
            inner = tgz([("x/Chart.yaml", CHART.encode()), ("x/charts/x.tgz", inner)])
        path = at + ".tgz"
        with open(path, "wb") as f:
            f.write(inner)
        return path
    return make


case("archive: in archives", nest(40, 0))
case("archive: large in archives", nest(5, 30))
case("100,000 files", files(**{f"d{i % 100}/f{i}": "" for i in range(100_000)}))
case("100,000 templates", files(**{f"templates/d{i % 100}/f{i}.yaml": "" for i in range(100_000)}))
case("40,000 templates", files(**{f"templates/d{i % 100}/f{i}.yaml": "a: {{ .Release.Name }}" for i in range(40_000)}))


def links(*made):
    def make(at):
        files()(at)
        for name, target in made:
            os.makedirs(os.path.dirname(os.path.join(at, name)), exist_ok=True)
            os.symlink(target, os.path.join(at, name))
        return at
    return make


case("a link out", links(("templates/l.yaml", "/etc/passwd")))
case("a link to a folder out", links(("templates", "/etc")))
case("links to itself", links(("a", "."), ("b", "."), ("c", ".")))
case("a device", links(("values.yaml", "/dev/zero")))

# Schemas.
def schema(name, text, values="a: 1\n", ends=True):
    case("schema: " + name, files(**{"values.schema.json": text, "values.yaml": values}), ends=ends)


schema("5 MB of properties", '{"properties": {' + ",".join(f'"p{i}": {{"type": "string", "enum": ["a", "b"]}}' for i in range(85_000)) + "}}")
schema("as large as allowed", '{"properties": {' + ",".join(f'"p{i}": {{"type": "string"}}' for i in range(60_000)) + "}}", ends=False)
schema("many empty lists", '{"x": [' + ",".join(["[]"] * 1_700_000) + "]}")
schema("of itself", '{"$ref": "#"}')
schema("of itself by another", '{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}')
schema("doubling", '{"$defs": {' + ",".join(f'"d{i}": {{"allOf": [{{"$ref": "#/$defs/d{i + 1}"}}, {{"$ref": "#/$defs/d{i + 1}"}}]}}' for i in range(60)) + ',"d60": {}}, "$ref": "#/$defs/d0"}')
schema("remote", '{"$ref": "https://example.com/x.json"}', ends=False)
schema("a file", '{"$ref": "file:///etc/passwd"}')
schema("deep", '{"not":' * 5000 + "{}" + "}" * 5000)
schema("a pattern that backtracks", '{"properties": {"a": {"pattern": "^(a+)+$"}}}', "a: " + "a" * 1_000_000 + "b\n")
schema("a large pattern", '{"properties": {"a": {"pattern": "([a-q][^u-z]{13}x){70}"}}}', "a: " + "ab" * 1_000_000 + "\n")
schema("a pattern too large", '{"properties": {"a": {"pattern": "((a{1000}){1000}){1000}"}}}', "a: b\n")
schema("many large patterns", '{"properties": {' + ",".join(f'"p{i}": {{"pattern": "(a{{1000}}|{i}){{20}}"}}' for i in range(20_000)) + "}}")
schema("many patterns", '{"patternProperties": {' + ",".join(f'"^p{i}[a-z]*$": {{"type": "string"}}' for i in range(30_000)) + "}}", "".join(f"p{i}: 1\n" for i in range(10_000)))
schema("unique items", '{"properties": {"a": {"uniqueItems": true}}}', "a: [" + ",".join(f"{{a: {i}}}" for i in range(15_000)) + "]\n", ends=False)
schema("many violations", '{"additionalProperties": {"type": "string"}}', "".join(f"p{i}: 1\n" for i in range(40_000)))

# Settings.
case("--set of large indices", files(), ("--set", "a[65536][65536]=1," * 200 + "b=1"), ends=False)
case("--set of many large lists", files(), ("--set", ",".join(f"a{i}[65536]=1" for i in range(3000))))
case("--set too deep", files(), ("--set", ".".join("a" * 40) + "=1"))
case("--set-json too deep", files(), ("--set-json", "a=" + "[" * 60_000))


def run(what, make, args, ends, at):
    os.makedirs(at, exist_ok=True)
    path = make(at)
    name = [] if "--name-template" in args else ["r"]
    command = [OMK, "chart", "template", *name, path, *(a.replace("{at}", at) for a in args)]
    # Asked of time(1): what wait4 tells a process that is large itself is at least its own size.
    command = ["/usr/bin/time", "-q", "-o", at + ".time", "-f", "%e %U %S %M", *command]
    with open(at + ".out", "wb") as out, open(at + ".err", "wb") as err:
        child = subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, start_new_session=True)
        killer = threading.Timer(120, os.killpg, (child.pid, signal.SIGKILL))
        killer.start()
        code = child.wait()
        killer.cancel()
    with open(at + ".time") as f:
        seconds, user, system, kib = map(float, (f.read().split() or ["999"] * 4)[-4:])
    cpu, mib = user + system, kib / 1024
    with open(at + ".err", "rb") as err:
        said = " ".join(err.read(4000).decode("utf-8", "replace").split())
    wrong = []
    if min(seconds, cpu) > SECONDS:
        wrong.append("slow")
    if mib > MIB:
        wrong.append("large")
    if code < 0 or code == 101 or code > 128 or "panicked" in said or "stopped unexpectedly" in said:
        wrong.append("crashed")
    elif (code != 0) != ends:
        wrong.append("no error" if ends else "an error")
    said = said if code else f"{os.path.getsize(at + '.out')} bytes of manifests {said}"
    said = said[:110] + ("..." + said[-60:] if len(said) > 175 else said[110:])
    print(f"| {what} | {said.replace('|', '/')} | {seconds:.2f} | {cpu:.2f} | {mib:.0f} | {', '.join(wrong)} |", flush=True)
    return not wrong


def main():
    print("| case | what it said | s | CPU s | MiB | beyond |\n|---|---|---|---|---|---|")
    good = True
    for i, (name, make, args, ends) in enumerate(cases):
        if WANTED and not any(w in name for w in WANTED):
            continue
        at = os.path.join(OUT, f"c{i}", "x")
        good &= run(name, make, args, ends, at)
        subprocess.run(["rm", "-rf", os.path.join(OUT, f"c{i}")], check=True)
    return 0 if good else 1


sys.exit(main())
