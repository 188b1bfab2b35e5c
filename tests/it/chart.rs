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
            "--skip-schema-validation" => options.skip_schema_validation = true,
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
