//! Charts from people who mean harm: each ends with an error that says why. The bounds are on counts and sizes, so
//! that what they hold back does not depend on how fast this machine is.

use std::path::Path;

use omk::chart::{ChartError, RenderOptions, Setting, load, load_archive, release_name, render};

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        // Written past the checks of the crate: a hostile archive has not been through them.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, *data).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

const CHART: &[u8] = b"apiVersion: v2\nname: x\nversion: 1.0.0\n";

fn refused(files: &[(&str, &[u8])]) -> String {
    match load_archive("x.tgz", &archive(files)) {
        Ok(chart) => render(&chart, &RenderOptions::default()).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn rendered(dir: &Path) -> Result<String, ChartError> {
    Ok(render(&load(dir)?, &RenderOptions::default())?.to_manifest())
}

#[test]
fn archives_do_not_lead_out_and_do_not_grow_without_bounds() {
    for name in ["x/../../etc/passwd", "x//etc/x", "x/a/../../../b"] {
        let error = refused(&[("x/Chart.yaml", CHART), (name, b"")]);
        assert!(error.contains("chart"), "{name}: {error}");
    }
    let large = vec![0; 6 << 20];
    assert!(refused(&[("x/Chart.yaml", CHART), ("x/big", &large)]).contains("maximum file size"));
    let part = vec![0; 5 << 20];
    let names: Vec<String> = (0..21).map(|i| format!("x/{i}")).collect();
    let mut files: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &part[..])).collect();
    files.push(("x/Chart.yaml", CHART));
    assert!(refused(&files).contains("maximum size"));
    // Packed within each other, they count together.
    let inner = archive(&files[..10].iter().copied().chain([("x/Chart.yaml", CHART)]).collect::<Vec<_>>());
    let error = refused(&[
        ("x/Chart.yaml", CHART),
        ("x/charts/a.tgz", &inner),
        ("x/charts/b.tgz", &inner),
        ("x/charts/c.tgz", &inner),
    ]);
    assert!(error.contains("maximum size"), "{error}");
    let mut nested = archive(&[("x/Chart.yaml", CHART)]);
    for _ in 0..30 {
        nested = archive(&[("x/Chart.yaml", CHART), ("x/charts/x.tgz", &nested)]);
    }
    assert!(load_archive("x.tgz", &nested).unwrap_err().to_string().contains("nested deeper"));
    let names: Vec<String> = (0..50_001).map(|i| format!("x/{i}")).collect();
    let many: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b""[..])).collect();
    assert!(refused(&many).contains("files"));
}

#[test]
fn links_do_not_lead_out_and_circles_end() {
    let chart = ("Chart.yaml", "apiVersion: v2\nname: x\nversion: 1.0.0\n");
    let dir = folder(&[chart]);
    std::os::unix::fs::symlink("/etc/hostname", dir.path().join("name")).unwrap();
    assert!(rendered(dir.path()).unwrap_err().to_string().contains("leads out of the chart"));
    let dir = folder(&[chart]);
    for name in ["a", "b", "c"] {
        std::os::unix::fs::symlink(".", dir.path().join(name)).unwrap();
    }
    let error = rendered(dir.path()).unwrap_err().to_string();
    assert!(["nested deeper", "files", "Too many levels"].iter().any(|e| error.contains(e)), "{error}");
}

#[test]
fn yaml_that_grows_is_refused() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..12 {
        bomb += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(","));
    }
    let metadata =
        format!("apiVersion: v2\nname: x\nversion: 1.0.0\nannotations:\n  {}", bomb.replace('\n', "\n  "));
    for (file, text) in [("values.yaml", &bomb), ("Chart.yaml", &metadata), ("Chart.lock", &bomb)] {
        let mut files = vec![("x/Chart.yaml", CHART)];
        files.retain(|(name, _)| *name != format!("x/{file}"));
        let name = format!("x/{file}");
        files.push((&name, text.as_bytes()));
        let error = refused(&files);
        assert!(error.contains(file), "{file}: {error}");
    }
    let deep = format!("a: {}1{}", "[".repeat(5000), "]".repeat(5000));
    assert!(refused(&[("x/Chart.yaml", CHART), ("x/values.yaml", deep.as_bytes())]).contains("values.yaml"));
    let mut options = RenderOptions::default();
    options.values.files.push(("mine".into(), bomb));
    let chart = load_archive("x.tgz", &archive(&[("x/Chart.yaml", CHART)])).unwrap();
    assert!(render(&chart, &options).unwrap_err().to_string().contains("mine"));
    for huge in ["a[65537]=1", "a[60000][60000][60000][60000]=1", &"a.".repeat(40)] {
        let mut options = RenderOptions::default();
        options.values.settings.push(Setting::Set(huge.to_owned()));
        assert!(render(&chart, &options).is_err() || huge.contains("60000"), "{huge}");
    }
}

#[test]
fn dependencies_that_multiply_are_refused() {
    // Every level has the one below it twice.
    let mut files: Vec<(String, String)> = Vec::new();
    let mut path = String::new();
    for i in 0..18 {
        let deps = "dependencies: [{name: n, version: '*', alias: a}, {name: n, version: '*', alias: b}]";
        let name = if i == 0 { "x" } else { "n" };
        files.push((
            format!("{path}Chart.yaml"),
            format!("apiVersion: v2\nname: {name}\nversion: 1.0.0\n{deps}\n"),
        ));
        path += "charts/n/";
    }
    files.push((format!("{path}Chart.yaml"), "apiVersion: v2\nname: n\nversion: 1.0.0\n".into()));
    let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    let error = rendered(folder(&files).path()).unwrap_err().to_string();
    assert!(error.contains("charts once every alias is followed"), "{error}");
    // Every level takes over all of the values below it, twenty times.
    let imports: Vec<String> = (0..20).map(|i| format!("{{child: all, parent: 'all.k{i}'}}")).collect();
    let mut files: Vec<(String, String)> = Vec::new();
    let mut path = String::new();
    for i in 0..10 {
        let name = if i == 0 { "x" } else { "n" };
        let deps =
            format!("dependencies: [{{name: n, version: '*', import-values: [{}]}}]", imports.join(","));
        files.push((
            format!("{path}Chart.yaml"),
            format!("apiVersion: v2\nname: {name}\nversion: 1.0.0\n{deps}\n"),
        ));
        path += "charts/n/";
    }
    files.push((format!("{path}Chart.yaml"), "apiVersion: v2\nname: n\nversion: 1.0.0\n".into()));
    files.push((format!("{path}values.yaml"), "all: {a: 1, b: 2, c: 3}\n".into()));
    let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    let error = rendered(folder(&files).path()).unwrap_err().to_string();
    assert!(error.contains("values"), "{error}");
    // A large global table for many charts.
    let mut files = vec![("Chart.yaml".to_owned(), "apiVersion: v2\nname: x\nversion: 1.0.0\n".to_owned())];
    let table: Vec<String> = (0..20_000).map(|i| format!("k{i}: 1")).collect();
    files.push(("values.yaml".into(), format!("global: {{{}}}\n", table.join(", "))));
    for i in 0..200 {
        files.push((
            format!("charts/c{i}/Chart.yaml"),
            format!("apiVersion: v2\nname: c{i}\nversion: 1.0.0\n"),
        ));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    let error = rendered(folder(&files).path()).unwrap_err().to_string();
    assert!(error.contains("copied into all dependencies"), "{error}");
}

#[test]
fn patterns_that_explode_end() {
    let chart = ("Chart.yaml", "apiVersion: v2\nname: x\nversion: 1.0.0\n");
    let long = format!("{}b", "a".repeat(3000));
    let file = ("files/".to_owned() + &"a".repeat(200), "x");
    for pattern in ["*a".repeat(500), "**/".repeat(500), "{a,".repeat(200), "[a-".repeat(300), long] {
        let template =
            format!("{{{{ range $p, $_ := .Files.Glob {pattern:?} }}}}- {{{{ $p }}}}\n{{{{ end }}}}");
        let dir = folder(&[chart, ("templates/x.yaml", &template), (&file.0, file.1)]);
        let out = rendered(dir.path());
        assert!(out.is_ok() || out.as_ref().is_err_and(|e| !e.to_string().is_empty()), "{out:?}");
    }
    for (template, reason) in [
        (r#"{{ define "a" }}{{ include "a" . }}{{ end }}{{ include "a" . }}"#, "nested"),
        (r#"{{ range until 100000000 }}x{{ end }}"#, "until"),
        (r#"{{ regexMatch "((a{1000}){1000}){1000}" "a" }}"#, ""),
    ] {
        let dir = folder(&[chart, ("templates/x.yaml", template)]);
        let error = rendered(dir.path()).map(|t| t.len()).unwrap_err().to_string();
        assert!(error.contains(reason), "{template}: {error}");
    }
}

/// What a chart of one template is refused with; a debug build is slow, and a tenth of the steps shows the same.
fn refusal(template: &str, more: &[(&str, &str)]) -> String {
    let mut files =
        vec![("Chart.yaml", "apiVersion: v2\nname: x\nversion: 1.0.0\n"), ("templates/x.yaml", template)];
    files.extend(more);
    let dir = folder(&files);
    let mut options = RenderOptions::default();
    options.limits.max_calls /= 10;
    options.limits.max_held /= 8;
    match render(&load(dir.path()).unwrap(), &options) {
        Ok(rendered) => panic!("{template} gave {} bytes", rendered.to_manifest().len()),
        Err(error) => error.to_string(),
    }
}

/// `body` again and again, with a variable to change.
fn again(start: &str, body: &str, times: u32) -> String {
    format!("{{{{ $x := {start} }}}}{{{{ range $i := until {times} }}}}{{{{ {body} }}}}{{{{ end }}}}")
}

#[test]
fn texts_that_grow_are_refused_before_they_are_made() {
    let many = "%[1]s".repeat(200);
    let groups = "${0}".repeat(100);
    for body in [
        r#"$x = printf "%s%s" $x $x"#,
        &format!("$x = printf {many:?} $x"),
        "$x = print $x $x",
        "$x = cat $x $x",
        "$x = quote $x",
        r#"$x = replace "x" $x $x"#,
        r#"$x = regexReplaceAll "x" $x "xxxxxxxxxx""#,
        &format!("$x = regexReplaceAll \".+\" $x {groups:?}"),
        "$x = join $x (list $x $x $x)",
        "$x = nindent 1000000 $x",
        r#"$x = wrapWith 1 (repeat 100000 "y") (repeat 100000 "x")"#,
    ] {
        let error = refusal(&again("\"xx\"", body, 60), &[]);
        assert!(error.contains("bytes") || error.contains("steps"), "{body}: {error}");
    }
}

#[test]
fn what_is_held_is_counted_whatever_it_is() {
    for (start, body) in [
        ("list 1", "$x = concat $x $x"),
        ("dict", r#"$_ := set $x (toString $i) (repeat 100000 "x")"#),
        ("dict", r#"$_ := set $x (toString $i) (dict "a" 1)"#),
        ("list", "$x = list $x"),
        ("1", r#"$y := dict "a" (repeat 1000 "x") | $_ := set $y "b" $y"#),
        ("1", r#"$_ := set $.Values (printf "%d" $i) $i"#),
        ("dict", r#"$_ := set $x (toString $i) (fromYamlArray (repeat 1000 "- {a: 1}\n"))"#),
        ("dict", r#"$_ := set $x (toString $i) ($.Files.Get "big")"#),
        ("dict", r#"$_ := set $x (toString $i) (splitList "" (repeat 10000 "x"))"#),
        ("1", r#"$y := tpl (printf "%s%d" (repeat 100000 "x") $i) $"#),
    ] {
        let body = body.replace(" | ", " }}{{ ");
        let error = refusal(&again(start, &body, 200_000), &[("big", &"x".repeat(1_000_000))]);
        assert!(error.contains("at once") || error.contains("steps"), "{body}: {error}");
    }
    // What is dropped makes room again.
    let template = again("1", r#"$x = printf "%s" (repeat 1000000 "x")"#, 100) + "{{ len $x }}";
    let dir = folder(&[
        ("Chart.yaml", "apiVersion: v2\nname: x\nversion: 1.0.0\n"),
        ("templates/NOTES.txt", &template),
    ]);
    rendered(dir.path()).unwrap();
}

#[test]
fn long_branches_cost_no_more_than_is_counted() {
    // Every branch knows the variables before it.
    let name = "a".repeat(1 << 20);
    let branch = format!("{{{{ if 0 }}}}{}{{{{ end }}}}", "{{ 0 }}".repeat(8));
    let text = format!("{{{{ ${name} := 1 }}}}{}", branch.repeat(5000));
    let dir =
        folder(&[("Chart.yaml", "apiVersion: v2\nname: x\nversion: 1.0.0\n"), ("templates/x.yaml", &text)]);
    assert_eq!(rendered(dir.path()).unwrap().trim(), "");
    // A template of long branches within each other, in itself.
    let open = "{{ if 1 }}{{ 0 }}{{ 0 }}{{ 0 }}{{ 0 }}{{ 0 }}{{ 0 }}{{ 0 }}{{ 0 }}".repeat(40);
    let text = format!(r#"{{{{ define "r" }}}}{open}{{{{ include "r" . }}}}{}"#, "{{ end }}".repeat(41));
    let error = refusal(r#"{{ include "r" . }}"#, &[("templates/_r.tpl", &text)]);
    assert!(error.contains("nested reference name"), "{error}");
    // What cannot be lowered is tried once.
    let text = format!(r#"{{{{ define "r" }}}}{}{{{{ ($q := 1) }}}}{{{{ end }}}}"#, "{{ .a }}".repeat(1000));
    let error = refusal(r#"{{ include "r" . }}"#, &[("templates/_r.tpl", &text)]);
    assert!(error.contains("within parentheses"), "{error}");
}

#[test]
fn what_is_printed_is_bounded_while_it_is_printed() {
    let long = "x".repeat(5000);
    let error = refusal(&format!("{{{{ range until 50000 }}}}{long}{{{{ end }}}}"), &[]);
    assert!(error.contains("at once") || error.contains("prints more"), "{error}");
    let nested = format!(
        "{{{{ define \"a\" }}}}{}{{{{ include \"a\" . }}}}{{{{ end }}}}{{{{ include \"a\" . }}}}",
        "x".repeat(500_000)
    );
    let error = refusal(&nested, &[]);
    assert!(error.contains("at once"), "{error}");
    let mut lists = again("list 1", "$x = list $x $x", 40);
    for function in ["toYaml", "toYamlPretty", "toJson", "toPrettyJson", "toToml", "toString", "deepCopy"] {
        let error = refusal(&format!("{lists}{{{{ {function} $x | len }}}}"), &[]);
        assert!(error.contains("contains itself"), "{function}: {error}");
    }
    lists += "{{ $x }}";
    assert!(refusal(&lists, &[]).contains("contains itself"));
    // Deep lines: a byte each, but indented by hundreds.
    let deep = again(r#"dict "a" (repeat 1000000 "\n")"#, r#"$x = dict "a" $x"#, 190);
    assert!(refusal(&(deep + "{{ toYaml $x | len }}"), &[]).contains("bytes"));
}

#[test]
fn what_takes_long_is_counted() {
    for template in [
        "{{ range until 9999 }}{{ range $i, $a := until 9999 }}{{ end }}{{ end }}",
        "{{ uniq (until 10000) | len }}",
        r#"{{ $x := repeat 1000000 "x" }}{{ range until 100000 }}{{ $y := sha256sum $x }}{{ end }}"#,
        r#"{{ regexFindAll ".*[^A-Z]|[A-Z]" (repeat 100000 "A") -1 | len }}"#,
        r#"{{ range until 1000 }}{{ regexMatch "([a-q][^u-z]{13}x){70}" (repeat 100000 "ab") }}{{ end }}"#,
        r#"{{ range $i := until 100000 }}{{ regexMatch (printf "(a{100}|%d){10}" $i) "a" }}{{ end }}"#,
        r#"{{ trimAll (repeat 1000000 "y") (repeat 1000000 "x") | len }}"#,
        r#"{{ range $i := until 100000 }}{{ $y := tpl (printf "{{ add %d 1 }}" $i) $ }}{{ end }}"#,
    ] {
        let error = refusal(template, &[]);
        assert!(error.contains("steps"), "{template}: {error}");
    }
}

#[test]
fn templates_too_large_to_be_read_are_refused() {
    for (template, reason) in [
        ("{{.}}".repeat(200_000), "words"),
        ("{{ ".to_owned() + &"(".repeat(100_000) + "1" + &")".repeat(100_000) + " }}", "nested deeper"),
        ("{{ 1".to_owned() + &" | add 1".repeat(3_000) + " }}", "recursion"),
        ("{{ if 0 }}".to_owned() + &"{{ else if 0 }}".repeat(10_000) + "{{ end }}", "nested deeper"),
    ] {
        let error = refusal(&template, &[]);
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn names_of_releases_are_templates_too() {
    let template = r#"{{ define "a" }}{{ include "a" . }}{{ end }}{{ include "a" . }}"#;
    assert!(release_name(template).unwrap_err().to_string().contains("nested"));
}

#[test]
fn edges_of_numbers_are_no_way_around() {
    for (template, reason) in [
        ("{{ untilStep -9223372036854775808 9223372036854775807 1 }}", "allowed"),
        ("{{ seq 1 9223372036854775807 }}", "allowed"),
        ("{{ range 9223372036854775807 }}{{ end }}", "allowed"),
        (r#"{{ repeat 9223372036854775807 "xx" }}"#, "bytes"),
        (r#"{{ indent 9223372036854775807 "xx" }}"#, "bytes"),
    ] {
        let error = refusal(template, &[]);
        assert!(error.contains(reason), "{template}: {error}");
    }
}

#[test]
fn schemas_that_explode_are_refused() {
    let patterns: Vec<String> =
        (0..3000).map(|i| format!(r#""p{i}": {{"pattern": "(a{{1000}}|{i}){{20}}"}}"#)).collect();
    let doubling: Vec<String> = (0..60)
        .map(|i| {
            format!(
                r##""d{i}": {{"allOf": [{{"$ref": "#/$defs/d{0}"}}, {{"$ref": "#/$defs/d{0}"}}]}}"##,
                i + 1
            )
        })
        .collect();
    let long = format!("a: {}\n", "ab".repeat(500_000));
    let large = r#"{"pattern": "([a-q][^u-z]{13}x){70}"}"#;
    let large = format!(r#"{{"properties": {{"a": {{"allOf": [{}]}}}}}}"#, [large; 8].join(","));
    for (schema, values, reason) in [
        (format!(r#"{{"x": [{}[]]}}"#, "[],".repeat(1_000_000)), "a: 1\n", "schema has more than"),
        (format!(r#"{{"properties": {{{}}}}}"#, patterns.join(",")), "a: 1\n", "patterns"),
        (
            format!(r##"{{"$defs": {{{},"d60": {{}}}}, "$ref": "#/$defs/d0"}}"##, doubling.join(",")),
            "a: 1\n",
            "steps",
        ),
        (r##"{"$ref": "#"}"##.to_owned(), "a: 1\n", "itself"),
        (r#"{"$ref": "file:///etc/passwd"}"#.to_owned(), "a: 1\n", "file"),
        (large, &long, "steps"),
        ("{\"not\":".repeat(5000) + "{}" + &"}".repeat(5000), "a: 1\n", "recursion"),
    ] {
        let error = refusal("", &[("values.schema.json", &schema), ("values.yaml", values)]);
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn values_of_many_maps_are_refused() {
    let maps = format!("a:\n{}", "- {a: 1}\n".repeat(100_000));
    let anchors: String = (0..150).map(|i| format!("&a{i} [")).collect();
    let anchors = format!("a: {anchors}{}{}", "1,".repeat(50_000), "]".repeat(150));
    for values in [maps, anchors] {
        let error = refused(&[("x/Chart.yaml", CHART), ("x/values.yaml", values.as_bytes())]);
        assert!(error.contains("values.yaml") && error.contains("more than"), "{error}");
    }
    assert!(refusal("a: [{{ repeat 500000 \"{},\" }}]", &[]).contains("more than"));
}
