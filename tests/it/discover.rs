//! `omk image discover` as users run it: the program, real files, its output and exit code.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs omk in the folder of the fixtures; the command, both outputs and the exit code as one text.
fn omk(arguments: &[&str], input: &str) -> String {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut child = Command::new(env!("CARGO_BIN_EXE_omk"))
        .args(["image", "discover"])
        .args(arguments)
        .current_dir(fixtures)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let mut text = String::from_utf8(done.stdout).unwrap();
    let _ = write!(text, "-- {}\n{}", done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap());
    text
}

#[test]
fn a_folder_as_a_table() {
    insta::assert_snapshot!(omk(&["manifests/good"], ""), @r##"
    IMAGE                                                                                                  WHERE
    docker.io/library/busybox:1.36                                                                         manifests/good/db.yml:11 StatefulSet shop/db spec.template.spec.initContainers[0].image (+2 more)
    docker.io/library/nginx:1.27                                                                           manifests/good/jobs/export.json:10 Pod shop/debug items[0].spec.containers[0].image (+1 more)
    docker.io/library/postgres:16@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  manifests/good/db.yml:14 StatefulSet shop/db spec.template.spec.containers[0].image
    quay.io/shop/log-forwarder:v2.4.1                                                                      manifests/good/shop.yaml:36 Deployment shop/web spec.template.spec.containers[1].image
    registry.example:5000/shop/backup:1.4                                                                  manifests/good/jobs/night.yaml:12 CronJob shop/backup spec.jobTemplate.spec.template.spec.containers[0].image
    registry.example:5000/shop/site:2025-06                                                                manifests/good/shop.yaml:40 Deployment shop/web spec.template.spec.volumes[0].image.reference
    -- 0
    6 images in 6 documents; 1 document without a kind skipped
    "##);
}

#[test]
fn bad_documents_cost_only_themselves() {
    insta::assert_snapshot!(omk(&["manifests/bad", "manifests/nowhere.yaml"], ""), @r##"
    IMAGE                 WHERE
    good.example/fine:1   manifests/bad/mixed.yaml:17 Pod wrong spec.containers[2].image
    good.example/first:1  manifests/bad/mixed.yaml:4 Pod first spec.containers[0].image
    good.example/last:1   manifests/bad/mixed.yaml:22 Pod last spec.containers[0].image
    -- 3
    error: manifests/bad/mixed.yaml:9:1: not YAML: did not find expected ',' or '}' while parsing a flow mapping
    error: manifests/bad/mixed.yaml:15:26: spec.containers[0].image: "good.example/Upper:1" is not an image reference: the repository name must be lower case; did you mean "good.example/upper:1"?
    error: manifests/bad/mixed.yaml:16:26: spec.containers[1].image: no image is named, and Kubernetes refuses the object without one
    error: manifests/bad/template.yaml:4:10: "{{ .Release.Name }}" looks like an unrendered template; render it, or give the chart itself as the source
    error: manifests/nowhere.yaml: cannot be read: No such file or directory (os error 2)
    3 images in 6 documents; 4 documents could not be read in full
    "##);
}

#[test]
fn patterns_stand_for_what_they_match() {
    assert_eq!(
        omk(&["manifests/good/*.y*ml"], ""),
        omk(&["manifests/good/db.yml", "manifests/good/shop.yaml", "manifests/good/values.yaml"], "")
    );
    let none = omk(&["manifests/good/*.toml"], "");
    assert!(none.contains("-- 1\n") && none.contains("*.toml: nothing here matches this pattern"), "{none}");
}

#[test]
fn bytes_that_are_no_text_cost_only_their_document() {
    let pod = |name: &str, label: &[u8]| {
        let head = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{a: ");
        let tail = format!("}}}}\nspec: {{containers: [{{name: a, image: '{name}:1'}}]}}\n");
        [head.as_bytes(), label, tail.as_bytes()].concat()
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("two.yaml");
    let told = |bytes: Vec<u8>| {
        std::fs::write(&file, bytes).unwrap();
        let text = omk(&[file.to_str().unwrap(), "-o", "refs"], "");
        text.replace(file.to_str().unwrap(), "FILE")
    };
    let (first, second) = (pod("one", b"caf\xe9"), pod("two", b"b"));
    insta::assert_snapshot!(told([&first[..], b"---\n", &second].concat()), @r"
    docker.io/library/one:1
    docker.io/library/two:1
    -- 3
    error: FILE:3:38: this is not UTF-8 text; what is left of the document is read, and images may be missing: save it as UTF-8
    2 images in 2 documents; 1 document could not be read in full
    ");
    insta::assert_snapshot!(told([b"# \xe9\n---\n", &second[..], b"--- # \xe9\n", b"a: [\n---\n", &first, b"---\n# \xe9\n"].concat()), @r"
    docker.io/library/one:1
    docker.io/library/two:1
    -- 3
    error: FILE:1:3: this is not UTF-8 text; what is left of the document is read, and images may be missing: save it as UTF-8
    error: FILE:15:3: this is not UTF-8 text; what is left of the document is read, and images may be missing: save it as UTF-8
    error: FILE:7:7: this is not UTF-8 text; what is left of the document is read, and images may be missing: save it as UTF-8
    error: FILE:12:38: this is not UTF-8 text; what is left of the document is read, and images may be missing: save it as UTF-8
    2 images in 3 documents; 2 documents could not be read in full
    ");
}

#[test]
fn json_is_for_programs() {
    insta::assert_snapshot!(omk(&["manifests/bad/mixed.yaml", "--image", "pause:3.9", "-o", "json"], ""), @r##"
    {
      "images": [
        {
          "image": "docker.io/library/pause:3.9",
          "confidence": "certain",
          "origins": [
            {
              "source": "argument",
              "document": null,
              "line": null,
              "column": null,
              "kind": null,
              "namespace": null,
              "name": null,
              "field": null,
              "rule": "argument",
              "switch": null,
              "confidence": "certain"
            }
          ]
        },
        {
          "image": "good.example/fine:1",
          "confidence": "certain",
          "origins": [
            {
              "source": "file",
              "path": "manifests/bad/mixed.yaml",
              "document": 3,
              "line": 17,
              "column": 25,
              "kind": "Pod",
              "namespace": null,
              "name": "wrong",
              "field": "spec.containers[2].image",
              "rule": "container",
              "switch": null,
              "confidence": "certain"
            }
          ]
        },
        {
          "image": "good.example/first:1",
          "confidence": "certain",
          "origins": [
            {
              "source": "file",
              "path": "manifests/bad/mixed.yaml",
              "document": 1,
              "line": 4,
              "column": 38,
              "kind": "Pod",
              "namespace": null,
              "name": "first",
              "field": "spec.containers[0].image",
              "rule": "container",
              "switch": null,
              "confidence": "certain"
            }
          ]
        },
        {
          "image": "good.example/last:1",
          "confidence": "certain",
          "origins": [
            {
              "source": "file",
              "path": "manifests/bad/mixed.yaml",
              "document": 4,
              "line": 22,
              "column": 38,
              "kind": "Pod",
              "namespace": null,
              "name": "last",
              "field": "spec.containers[0].image",
              "rule": "container",
              "switch": null,
              "confidence": "certain"
            }
          ]
        }
      ],
      "conflicts": [],
      "problems": [
        {
          "source": "file",
          "path": "manifests/bad/mixed.yaml",
          "document": 2,
          "line": 9,
          "column": 1,
          "field": null,
          "reason": "not YAML: did not find expected ',' or '}' while parsing a flow mapping",
          "severity": "error"
        },
        {
          "source": "file",
          "path": "manifests/bad/mixed.yaml",
          "document": 3,
          "line": 15,
          "column": 26,
          "field": "spec.containers[0].image",
          "reason": "\"good.example/Upper:1\" is not an image reference: the repository name must be lower case; did you mean \"good.example/upper:1\"?",
          "severity": "error"
        },
        {
          "source": "file",
          "path": "manifests/bad/mixed.yaml",
          "document": 3,
          "line": 16,
          "column": 26,
          "field": "spec.containers[1].image",
          "reason": "no image is named, and Kubernetes refuses the object without one",
          "severity": "error"
        }
      ],
      "documents": {
        "read": 2,
        "without_images": 0,
        "skipped": 0,
        "failed": 2
      }
    }
    -- 3
    error: manifests/bad/mixed.yaml:9:1: not YAML: did not find expected ',' or '}' while parsing a flow mapping
    error: manifests/bad/mixed.yaml:15:26: spec.containers[0].image: "good.example/Upper:1" is not an image reference: the repository name must be lower case; did you mean "good.example/upper:1"?
    error: manifests/bad/mixed.yaml:16:26: spec.containers[1].image: no image is named, and Kubernetes refuses the object without one
    4 images in 4 documents; 2 documents could not be read in full
    "##);
}

#[test]
fn standard_input_is_a_source_and_why_names_every_place() {
    let pod = "kind: Pod\nmetadata: {name: piped}\nspec: {containers: [{image: 'nginx:1.27'}]}\n";
    insta::assert_snapshot!(omk(&["-", "manifests/good", "--why", "nginx:1.27"], pod), @r##"
    manifests/good/jobs/export.json:10 Pod shop/debug items[0].spec.containers[0].image [container, certain]
    manifests/good/shop.yaml:34 Deployment shop/web spec.template.spec.containers[0].image [container, certain]
    standard input:3 Pod piped spec.containers[0].image [container, certain]
    -- 0
    1 image in 7 documents; 1 document without a kind skipped
    "##);
}

#[test]
fn nothing_to_read_is_a_failure_and_nothing_given_a_usage_error() {
    let missing = omk(&["nowhere.yaml"], "");
    assert!(missing.contains("-- 1\n") && missing.contains("nowhere.yaml"), "{missing}");
    let near = omk(&["manifests/good", "--why", "ngnix"], "");
    let hint = "hint: there is nginx:1.27; --include-disabled also looks for what other values switch on\n";
    assert!(near.contains("-- 1\n") && near.contains(hint), "{near}");
    let all = omk(&["manifests/good", "--include-disabled", "--why", "unheard.of/x:1"], "");
    assert!(all.contains("-- 1\n") && !all.contains("hint:"), "{all}");
    let unknown = omk(&["manifests/good", "--why", "unheard.of/x:1"], "");
    assert!(unknown.contains("-- 1\n") && unknown.contains("nothing names unheard.of/x:1"), "{unknown}");
    let none = omk(&[], "");
    assert!(
        none.contains("-- 2\n") && none.contains("--image REF") && none.contains("--component NAME"),
        "{none}"
    );
    let image = omk(&["nginx:1.27"], "");
    let hint =
        "nginx:1.27: there is no such file or folder; for the image of that name write --image nginx:1.27\n";
    assert!(image.contains("-- 1\n") && image.contains(hint), "{image}");
    let hello = omk(&["-"], "hello\n");
    assert!(
        hello.contains("-- 0\n")
            && hello.contains("warning: standard input: nothing in it is a Kubernetes object"),
        "{hello}"
    );
    assert!(omk(&["--image", "Not An Image"], "").contains("-- 2\n"));
}

#[test]
fn why_takes_a_name_as_people_write_it() {
    let all = omk(&["manifests/good", "--why", "nginx:1.27"], "");
    assert_eq!(omk(&["manifests/good", "--why", "nginx"], ""), all);
    assert_eq!(omk(&["manifests/good", "--why", "docker.io/library/nginx"], ""), all);
    insta::assert_snapshot!(omk(&["manifests/good", "--why", "backup"], ""), @r##"
    IMAGE                                  WHERE
    registry.example:5000/shop/backup:1.4  manifests/good/jobs/night.yaml:12 CronJob shop/backup spec.jobTemplate.spec.template.spec.containers[0].image [container, certain]
    -- 0
    1 image in 6 documents; 1 document without a kind skipped
    "##);
}

#[test]
fn charts_are_told_their_release_and_their_places_are_rendered_ones() {
    let chart = omk(&["charts/lang", "-n", "prod", "--release-name", "live", "--kube-version", "1.31"], "");
    assert!(!chart.contains("chart charts/lang"), "{chart}");
    let useless = omk(&["manifests/good", "-n", "prod"], "");
    assert!(
        useless.contains("-- 0\n") && useless.contains("warning: chart options: a namespace was given"),
        "{useless}"
    );
    let empty = omk(&["-"], "# nothing\n");
    assert!(empty.contains("warning: standard input: there is no document in it"), "{empty}");
}

const OPERATOR: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: op}
spec:
  template:
    spec:
      containers:
      - name: op
        image: quay.io/op/op:1
        env: [{name: RELATED_IMAGE_DB, value: 'op/db:2'}]
---
apiVersion: op.example.net/v1
kind: Db
metadata: {name: main}
spec: {image: 'op/db:3', proxy: {image: latest.example.net/op/proxy}}
";

#[test]
fn every_grade_has_its_place_in_the_table() {
    insta::assert_snapshot!(omk(&["-"], OPERATOR), @r##"
    IMAGE                               CONFIDENCE  WHERE
    docker.io/op/db:2                   likely      standard input:10 Deployment op spec.template.spec.containers[0].env[RELATED_IMAGE_DB].value [env]
    docker.io/op/db:3                   strong      standard input:15 Db main spec.image [custom-field]
    latest.example.net/op/proxy:latest  strong      standard input:15 Db main spec.proxy.image [custom-field]
    quay.io/op/op:1                     certain     standard input:9 Deployment op spec.template.spec.containers[0].image [container]
    -- 0
    note: docker.io/op/db is wanted with 2 tags: 2, 3
    4 images in 2 documents
    "##);
    insta::assert_snapshot!(omk(&["-", "--why", "db:2"], OPERATOR), @r##"
    IMAGE              WHERE
    docker.io/op/db:2  standard input:10 Deployment op spec.template.spec.containers[0].env[RELATED_IMAGE_DB].value [env, likely]
    -- 0
    1 image in 2 documents
    "##);
}

#[test]
fn references_and_tables_for_scripts() {
    insta::assert_snapshot!(omk(&["-", "-o", "refs", "--min-confidence", "strong"], OPERATOR), @r##"
    docker.io/op/db:3
    latest.example.net/op/proxy:latest
    quay.io/op/op:1
    -- 0
    3 images in 2 documents
    "##);
    insta::assert_snapshot!(omk(&["-", "-o", "csv", "--exclude", "op/*", "--exclude", "quay.io/op/op"], OPERATOR), @r##"
    image,confidence,rule,source,document,line,kind,namespace,name,field,switch
    latest.example.net/op/proxy:latest,strong,custom-field,standard input,2,15,Db,,main,spec.proxy.image,
    -- 0
    1 image in 2 documents
    "##);
    let yaml = omk(&["-", "-o", "yaml", "--without-rule", "env"], OPERATOR);
    assert!(
        yaml.contains("- image: docker.io/op/db:3\n  confidence: strong\n  origins:\n  - source: stdin\n"),
        "{yaml}"
    );
    assert!(!yaml.contains("op/db:2"), "{yaml}");
}

#[test]
fn images_that_are_not_pinned_have_an_exit_code() {
    let latest = omk(&["-", "-o", "refs", "--fail-on-latest"], OPERATOR);
    assert!(
        latest.contains("-- 7\n") && latest.contains("error: latest.example.net/op/proxy:latest has no tag"),
        "{latest}"
    );
    let unpinned = omk(&["-", "-o", "refs", "--fail-on-unpinned"], OPERATOR);
    assert_eq!(unpinned.matches(" has no digest").count(), 4, "{unpinned}");
    assert!(omk(&["--image", "a:1", "--fail-on-latest"], "").contains("-- 0\n"));
    assert!(omk(&["-", "--min-confidence", "sure"], OPERATOR).contains("-- 2\n"));
    assert!(omk(&["-", "--without-rule", "nothing"], OPERATOR).contains("-- 2\n"));
}
