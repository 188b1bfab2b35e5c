use super::*;

fn parse(spec: &str) -> Result<Definition, DefinitionError> {
    let text = format!("apiVersion: omk/v1\nkind: Bundle\nmetadata: {{name: lab}}\nspec:\n{spec}");
    Definition::parse(Path::new("d/bundle.yaml"), text)
}

#[test]
fn entries_are_short_or_long() {
    let definition = parse(
        "  images: [nginx, {image: busybox:1, groups: [edge]}]\n  components: [cilium@1.18]\n  manifests: [deploy/]\n  \
         kubeVersion: '1.33'\n  minConfidence: strong\n  exclude: ['quay.io/*']\n",
    )
    .unwrap();
    let images = &definition.spec.images;
    assert_eq!(images[0].0.image.to_string(), "docker.io/library/nginx:latest");
    assert!(images[1].0.groups.contains("edge"));
    assert_eq!(definition.spec.min_confidence, Some(Confidence::Strong));
    assert_eq!(definition.spec.platforms()[0].to_string(), "linux/amd64");
    assert_eq!(definition.lock_path(), Path::new("d/bundle.lock"));
    assert_eq!(definition.folder(), Path::new("d"));
    assert!(parse("  platforms: [all]\n").unwrap().spec.platforms().is_empty());
}

#[test]
fn what_is_wrong_is_told_with_file_line_and_field() {
    for (spec, told) in [
        ("  images: [nginx, 'a b']\n", "d/bundle.yaml:5: spec.images[1]: "),
        (
            "  images:\n  - nginx\n  - {image: x, group: [a]}\n",
            "d/bundle.yaml:7: spec.images[1].group: unknown field `group`",
        ),
        ("  chart: []\n", "d/bundle.yaml:5: spec.chart: unknown field `chart`, expected one of"),
        ("  kubeVersion: 1.33\n", "spec.kubeVersion: invalid type: floating point"),
        ("  platforms: [linux]\n", "spec.platforms[0]: "),
        ("  platforms: [all, linux/amd64]\n", "spec.platforms[0]: "),
        ("  files: [{path: a, url: b}]\n", "spec.files[0]: a file has either a path or a url"),
        ("  files: [{path: a, as: ../b}]\n", "is no path for a file in a bundle"),
        ("  files: [{path: a, as: /b}]\n", "is no path for a file in a bundle"),
        ("  files: [{path: x/a}, {path: y/a}]\n", "spec.files[1]: a is there twice"),
        ("  files: [{url: 'https://x/a', sha256: abc}]\n", "is not 64 hexadecimal digits"),
        ("  charts: [{name: A, chart: ./a}]\n", "spec.charts[0].name: "),
        ("  charts: [{name: a}]\n", "missing field `chart`"),
    ] {
        let error = parse(spec).unwrap_err().to_string();
        assert!(error.contains(told), "{spec}: {error}");
    }
    let other = Definition::parse(Path::new("x"), "kind: Pod\n".into()).unwrap_err().to_string();
    assert!(other.contains("begins with apiVersion: omk/v1"), "{other}");
}

proptest::proptest! {
    #[test]
    fn any_text_is_taken_or_refused(text in "[ a-z:\\[\\]{},\n'-]{0,80}") {
        let _ = parse(&text);
    }
}
