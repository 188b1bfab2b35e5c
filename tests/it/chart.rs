//! Charts against goldens that real Helm made; see `tests/fixtures/charts/GOLDENS.md`.

use std::path::{Path, PathBuf};

use omk::chart::{ChartError, KubeVersion, RenderOptions, Setting, load, render};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/charts")
}

/// What a line of cases.tsv asks for; the arguments are those of `helm template`.
fn run(chart: &str, args: &str) -> Result<String, ChartError> {
    let mut options = RenderOptions { release_name: "rel".into(), ..RenderOptions::default() };
    let mut only = Vec::new();
    let mut strings = Vec::new();
    let mut words = args.split_whitespace();
    while let Some(word) = words.next() {
        let mut next = || words.next().unwrap().to_owned();
        match word {
            "--set" => options.values.settings.push(Setting::Set(next())),
            "--set-string" => strings.push(Setting::SetString(next())),
            "-n" => options.namespace = next(),
            "-s" => only.push(next()),
            "--kube-version" => options.kube_version = KubeVersion::parse(&next()).unwrap(),
            "--no-hooks" => options.no_hooks = true,
            "--skip-tests" => options.skip_tests = true,
            "--skip-schema-validation" => options.values.skip_schema = true,
            "--is-upgrade" => options.is_upgrade = true,
            "--include-crds" => options.include_crds = true,
            other => panic!("the test does not know {other}"),
        }
    }
    options.values.settings.extend(strings);
    let rendered = render(&load(&fixtures().join(chart))?, &options)?;
    if only.is_empty() { Ok(rendered.to_manifest()) } else { rendered.show_only(&only) }
}

#[test]
fn every_golden_is_met_byte_for_byte() {
    let cases = std::fs::read_to_string(fixtures().join("cases.tsv")).unwrap();
    let mut wrong = Vec::new();
    for case in cases.lines().filter(|l| !l.is_empty()) {
        let mut fields = case.split('\t');
        let (golden, chart) = (fields.next().unwrap(), fields.next().unwrap());
        let want = std::fs::read_to_string(fixtures().join("goldens").join(golden)).unwrap();
        let got = match run(chart, fields.next().unwrap_or_default()) {
            Ok(text) => text,
            // Our messages say what to do about it after Helm's words.
            Err(e) => match want.trim().strip_prefix("Error: ") {
                Some(words) if e.to_string().contains(words) => want.clone(),
                _ => format!("Error: {e}\n"),
            },
        };
        if got != want {
            let line = got.lines().zip(want.lines()).position(|(a, b)| a != b).unwrap_or(0);
            let (a, b) = (got.lines().nth(line), want.lines().nth(line));
            wrong.push(format!("{golden} line {}:\n  got  {a:?}\n  want {b:?}", line + 1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A chart of one template, in a folder that goes away with the first of the two.
fn chart_of(template: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("hc");
    std::fs::create_dir_all(at.join("templates")).unwrap();
    std::fs::write(at.join("Chart.yaml"), "apiVersion: v2\nname: hc\nversion: 0.1.0\n").unwrap();
    std::fs::copy(fixtures().join("snippets/values.yaml"), at.join("values.yaml")).unwrap();
    std::fs::write(at.join("templates/t.txt"), template).unwrap();
    (dir, at)
}

#[test]
fn one_line_templates_give_what_helm_gives_errors_included() {
    let golden = std::fs::read_to_string(fixtures().join("snippets/golden.txt")).unwrap();
    let mut wrong = Vec::new();
    let mut count = 0;
    for block in golden.split("== ").filter(|b| !b.is_empty()) {
        let (template, want) = block.split_once('\n').unwrap();
        let (_dir, at) = chart_of(template);
        let options = RenderOptions { release_name: "rel".into(), ..RenderOptions::default() };
        let got = match load(&at).and_then(|c| render(&c, &options)) {
            Ok(rendered) => rendered.to_manifest(),
            Err(e) => format!("Error: {e}\n"),
        };
        let shown = |l: &&str| !l.is_empty() && *l != "---" && !l.starts_with("# Source");
        let got: Vec<&str> = got.lines().filter(shown).map(str::trim_end).collect();
        let want: Vec<&str> = want.lines().map(str::trim_end).collect();
        count += 1;
        // Of what is no YAML omk tells the column too, after Helm's words.
        let told = want.first().is_some_and(|w| w.contains("YAML parse error"))
            && got.len() == want.len()
            && got.iter().zip(&want).all(|(got, want)| got.starts_with(want));
        if got != want && !told {
            wrong.push(format!("{template}\n  got  {got:?}\n  want {want:?}"));
        }
    }
    assert!(count > 100);
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn settings_make_the_values_that_they_make_for_helm() {
    let golden = std::fs::read_to_string(fixtures().join("snippets/settings-golden.txt")).unwrap();
    let (_dir, at) = chart_of("{{ .Values | toJson }}");
    std::fs::remove_file(at.join("values.yaml")).unwrap();
    let chart = load(&at).unwrap();
    let mut wrong = Vec::new();
    let mut count = 0;
    for block in golden.split("== ").filter(|b| !b.is_empty()) {
        let (setting, want) = block.split_once('\n').unwrap();
        let (flag, text) = setting.split_once('\t').unwrap();
        let given = match flag {
            "--set" => Setting::Set(text.into()),
            "--set-string" => Setting::SetString(text.into()),
            "--set-json" => Setting::Json(text.into()),
            "--set-literal" => match text.split_once('=') {
                Some((key, value)) => Setting::Literal(key.into(), value.into()),
                // The command line says so before there are values.
                None => continue,
            },
            other => panic!("the test does not know {other}"),
        };
        let mut options = RenderOptions { release_name: "rel".into(), ..RenderOptions::default() };
        options.values.settings.push(given);
        let got = match render(&chart, &options) {
            Ok(rendered) => rendered.to_manifest().lines().last().unwrap_or_default().to_owned(),
            Err(e) => format!("Error: {e}"),
        };
        count += 1;
        // Where it fails, omk goes on to say more.
        let same = if want.starts_with("Error") { got.starts_with(want.trim()) } else { got == want.trim() };
        if !same {
            wrong.push(format!("{setting}\n  got  {got:?}\n  want {want:?}"));
        }
    }
    assert!(count > 60);
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_function_stands_in_a_chart_with_a_golden() {
    // Only within actions, and only in charts that helm has rendered.
    let mut actions = String::new();
    let cases = std::fs::read_to_string(fixtures().join("cases.tsv")).unwrap();
    for case in cases.lines() {
        let (golden, chart) = case.split_once('\t').unwrap();
        assert!(fixtures().join("goldens").join(golden).exists(), "{golden}");
        let path = fixtures().join(chart.split('\t').next().unwrap()).join("templates/all.yaml");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // A template that is given to `tpl` stands within an action.
        let upto = |a: &str| a.rsplit_once("}}").map_or(a, |(action, _)| action).to_owned() + "\n";
        actions.extend(text.split("{{").skip(1).map(upto));
    }
    let actions = actions.lines().filter(|a| !a.trim_start_matches('-').trim_start().starts_with("/*"));
    let actions = actions.collect::<Vec<_>>().join("\n");
    let words: std::collections::HashSet<&str> =
        actions.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    let missing: Vec<_> =
        omk::template::functions().into_iter().filter(|f| !words.contains(f.name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Each would go on for ages, or fill the memory, if nothing stopped it.
#[test]
fn charts_that_ask_for_too_much_end_in_an_error() {
    let hostile = [
        r#"{{ define "a" }}{{ include "a" . }}{{ end }}{{ include "a" . }}"#,
        r#"{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}"#,
        r#"{{ $t := "{{ tpl .t . }}" }}{{ tpl $t (dict "t" $t) }}"#,
        r#"{{ define "a" }}{{ if gt . 0 }}{{ include "a" (sub . 1) }}{{ include "a" (sub . 1) }}{{ end }}{{ end }}{{ include "a" 60 }}"#,
        r#"{{ repeat 2000000000 "x" }}"#,
        r#"{{ $s := "x" }}{{ range until 60 }}{{ $s = print $s $s }}{{ end }}"#,
        r#"{{ $l := list 1 }}{{ range until 60 }}{{ $l = concat $l $l }}{{ end }}"#,
        r#"{{ $d := dict "x" (repeat 1000 "y") }}{{ range until 60 }}{{ $d = dict "a" $d "b" $d }}{{ end }}{{ toYaml $d }}"#,
        r#"{{ $d := dict }}{{ $_ := set $d "a" $d }}{{ $_ := set $d "b" $d }}{{ toJson $d }}"#,
        r#"{{ $d := dict }}{{ $_ := set $d "a" $d }}{{ $_ := set $d "b" $d }}{{ $d }}"#,
        r#"{{ $d := dict }}{{ $_ := set $d "a" $d }}{{ $_ := set $d "b" $d }}{{ deepCopy $d }}"#,
        r#"{{ until 2000000000 }}"#,
        r#"{{ range 2000000000 }}{{ end }}"#,
        r#"{{ seq 1 2000000000 }}"#,
        r#"{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}"#,
        r#"{{ nindent 1000000000 "x" }}"#,
        r#"{{ indent 100000 (repeat 100000 "\n") }}"#,
        r#"{{ randAlphaNum 2000000000 }}"#,
        r#"{{ printf "%999999999d" 1 | len }}{{ join (repeat 1000000 "x") (until 100000) }}"#,
        r#"{{ regexMatch "((a{100}){100}){100}" "a" }}{{ mustRegexMatch "((a{100}){100}){100}" "a" }}"#,
        r#"{{ range until 1000 }}{{ bcrypt "x" }}{{ end }}"#,
    ];
    for template in hostile {
        let (_dir, at) = chart_of(template);
        let mut options = RenderOptions::default();
        // A debug build is slow: a tenth of the steps shows the same.
        options.limits.max_calls /= 10;
        options.limits.max_costly = 3;
        let result = load(&at).and_then(|c| render(&c, &options));
        assert!(result.is_err(), "{template} gave {} bytes", result.unwrap().to_manifest().len());
    }
}

/// OpenSSL judges what `genCA`, `genSignedCert` and `genSelfSignedCert` make.
#[test]
fn openssl_accepts_the_certificates() {
    let template = r#"{{ $ca := genCA "the-ca" 30 }}{{ $leaf := genSignedCert "web" (list "10.0.0.1") (list "web.example.com") 30 $ca }}{{ $own := genSelfSignedCert "own" nil (list "own.example.com") 30 -}}
ca: {{ $ca.Cert | b64enc }}
leaf: {{ $leaf.Cert | b64enc }}
key: {{ $leaf.Key | b64enc }}
own: {{ $own.Cert | b64enc }}
{{ $ec := genCAWithKey "ec-ca" 30 (genPrivateKey "ecdsa") -}}
ec: {{ $ec.Cert | b64enc }}
"#;
    let (dir, at) = chart_of(template);
    let rendered = render(&load(&at).unwrap(), &RenderOptions::default()).unwrap().to_manifest();
    for line in rendered.lines().filter(|l| l.contains(": ") && !l.starts_with('#')) {
        use base64::Engine as _;
        let (name, packed) = line.split_once(": ").unwrap();
        let pem = base64::engine::general_purpose::STANDARD.decode(packed).unwrap();
        std::fs::write(dir.path().join(name), pem).unwrap();
    }
    let openssl = |args: &[&str]| {
        let done = std::process::Command::new("openssl").args(args).current_dir(dir.path()).output().unwrap();
        let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert!(done.status.success(), "openssl {args:?}: {text}");
        text
    };
    openssl(&["verify", "-x509_strict", "-CAfile", "ca", "-verify_hostname", "web.example.com", "leaf"]);
    openssl(&["verify", "-CAfile", "ca", "-verify_ip", "10.0.0.1", "leaf"]);
    openssl(&["verify", "-CAfile", "own", "-verify_hostname", "own.example.com", "own"]);
    openssl(&["verify", "-CAfile", "ec", "ec"]);
    openssl(&["rsa", "-check", "-noout", "-in", "key"]);
    let (of_key, of_cert) = (
        openssl(&["rsa", "-modulus", "-noout", "-in", "key"]),
        openssl(&["x509", "-modulus", "-noout", "-in", "leaf"]),
    );
    assert_eq!(of_key.lines().next_back(), of_cert.lines().next_back());
    let refused = std::process::Command::new("openssl")
        .args(["verify", "-CAfile", "own", "leaf"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(!refused.status.success(), "another authority must not do");
}

/// Where there is a helm of the version that made the goldens (`HELM`, else `helm` on the path), it is asked again.
#[test]
fn helm_says_the_same_where_it_is_installed() {
    let helm = std::env::var("HELM").unwrap_or_else(|_| "helm".into());
    let ask = |args: &[&str]| std::process::Command::new(&helm).args(args).output();
    let version = ask(&["version", "--template", "{{.Version}}"]);
    let version = version.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default();
    let made_by = std::fs::read_to_string(fixtures().join("GOLDENS.md")).unwrap();
    if version.is_empty() || !made_by.contains(version.trim_start_matches('v')) {
        eprintln!("left out: helm is {version:?}, the goldens are not of that version");
        return;
    }
    let cases = std::fs::read_to_string(fixtures().join("cases.tsv")).unwrap();
    let mut compared = 0;
    for case in cases.lines().filter(|l| !l.is_empty()) {
        let mut fields = case.split('\t').skip(1);
        let (chart, args) = (fields.next().unwrap(), fields.next().unwrap_or_default());
        let at = fixtures().join(chart);
        let words =
            [&["template", "rel", at.to_str().unwrap()][..], &args.split_whitespace().collect::<Vec<_>>()];
        let done = ask(&words.concat()).unwrap();
        match run(chart, args) {
            Ok(text) => assert_eq!(String::from_utf8_lossy(&done.stdout), text, "{chart} {args}"),
            Err(e) => assert!(!done.status.success(), "{chart} {args}: only omk fails: {e}"),
        }
        compared += 1;
    }
    assert!(compared > 10);
}

/// As scripts written for Helm pass them.
#[test]
fn flags_of_helm_take_the_values_that_helm_takes() {
    let (_dir, chart) = chart_of(
        "ns: {{ .Release.Namespace }} {{ .Release.IsUpgrade }} {{ pick .Values \"m\" \"b\" | toJson }}",
    );
    std::fs::write(chart.join("x.txt"), "text").unwrap();
    let ask = |args: &[&str]| {
        let omk = std::process::Command::new(env!("CARGO_BIN_EXE_omk"))
            .current_dir(&chart)
            .args(["chart", "template"])
            .args(args)
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8(omk.stdout).unwrap(), String::from_utf8(omk.stderr).unwrap());
        (omk.status.code(), out.lines().find(|l| l.starts_with("ns:")).unwrap_or(&err).to_owned())
    };
    let told = |text: &str| (Some(0), text.to_owned());
    assert_eq!(ask(&[".", "--is-upgrade=true", "-n", ""]), told("ns: default true {}"));
    assert_eq!(ask(&[".", "--is-upgrade=F", "--namespace=a", "--kube-version="]), told("ns: a false {}"));
    assert_eq!(ask(&["--is-upgrade", "--", "web", "."]), told("ns: default true {}"));
    assert_eq!(
        ask(&[".", "--set-file", r"m.x\.yaml=x.txt,b=,"]).1,
        r#"ns: default false {"b":"","m":{"x.yaml":"text"}}"#
    );
    let (code, error) = ask(&[".", "--is-upgrade=maybe"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("write true or false"), "{error}");
    let (code, error) = ask(&["web", "-g", "."]);
    assert_eq!(code, Some(2));
    assert!(error.contains("cannot set --generate-name and also specify a name"), "{error}");
}
