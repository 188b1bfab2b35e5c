//! What the parser reads, and where it fails.

use super::*;

fn one(text: &str) -> Result<Node, YamlError> {
    parse_one(text, &Limits::default())
}

#[test]
fn a_first_character_that_begins_as_a_byte_order_mark_does_is_read() {
    for text in ["\u{fdf7}1", "\u{fdf7}1\n", "\u{feff}\u{fdf7}1\n"] {
        let node = one(text).unwrap();
        assert_eq!((node.as_str(), node.line, node.column), (Some("\u{fdf7}1"), 1, 1), "{text:?}");
    }
    let node = one("\u{fdf7}: |\n  \u{fdf7}").unwrap();
    assert_eq!(node.get("\u{fdf7}").and_then(Node::as_str), Some("\u{fdf7}"));
}

#[test]
fn marks_are_those_of_the_file() {
    let docs = parse_stream("# c\na: 1\n---\n\nb:\n  - x\n  - k: z\n", &Limits::default());
    assert_eq!(docs.len(), 2);
    assert_eq!((docs[0].index, docs[0].line), (0, 2));
    assert_eq!((docs[1].index, docs[1].line), (1, 5));
    let b = docs[1].result.as_ref().unwrap().get("b").unwrap();
    let k = b.as_seq().unwrap()[1].get("k").unwrap();
    assert_eq!((k.line, k.column, k.as_str()), (7, 8, Some("z")));
}

#[test]
fn one_bad_document_does_not_lose_the_others() {
    let docs = parse_stream("a: 1\n---\nb: {{ x }}\n---\nc: 3\n---\n# nothing\n", &Limits::default());
    assert_eq!(docs.len(), 3);
    let err = docs[1].result.as_ref().unwrap_err();
    assert_eq!(err.line, 3, "{err}");
    assert_eq!(docs[2].index, 2);
}

#[test]
fn markers_inside_block_scalars_end_the_document() {
    let docs = parse_stream("a: |\n  x\n---\nb: |\n  ---\n  y\n", &Limits::default());
    assert_eq!(docs.len(), 2);
    assert_eq!(docs[1].result.as_ref().unwrap().get("b").unwrap().as_str(), Some("---\ny\n"));
}

#[test]
fn directives_ends_and_json_are_read() {
    let docs = parse_stream("%YAML 1.1\n---\na: 1\n...\n---\nb: 2\n", &Limits::default());
    assert!(docs.iter().all(|d| d.result.is_ok()), "{docs:?}");
    assert_eq!(docs.len(), 2);
    assert_eq!(one("{\"a\": [1, 2.5, \"x\"]}").unwrap().get("a").unwrap().as_seq().unwrap().len(), 3);
}

#[test]
fn merge_keys_and_aliases() {
    let n = one("base: &b {x: 1, z: 2}\nd:\n  <<: *b\n  z: 3\n").unwrap();
    let d = n.get("d").unwrap();
    assert_eq!(d.get("x").unwrap().value, Value::Int(1));
    assert_eq!(d.get("z").unwrap().value, Value::Int(3));
    assert_eq!(d.get("x").unwrap().line, 1);
}

#[test]
fn duplicate_keys_are_refused_unless_allowed() {
    let err = one("a: 1\nb: 2\na: 3\n").unwrap_err();
    assert_eq!((err.line, err.reason.as_str()), (3, "key \"a\" is already set on line 1"));
    let lenient = Limits { allow_duplicate_keys: true, ..Limits::default() };
    assert_eq!(parse_one("a: 1\na: 3\n", &lenient).unwrap().get("a").unwrap().value, Value::Int(3));
}

#[test]
fn keys_are_strings_as_in_json() {
    let n = one("1: a\nyes: b\n1.5: c\n").unwrap();
    assert_eq!(n.as_map().unwrap().keys().collect::<Vec<_>>(), ["1", "true", "1.5"]);
}

#[test]
fn bombs_are_refused() {
    let mut text = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
    for (prev, name) in ('a'..='y').zip('b'..='z') {
        text += &format!("{name}: &{name} [*{prev},*{prev},*{prev},*{prev},*{prev},*{prev},*{prev}]\n");
    }
    assert!(one(&text).unwrap_err().reason.contains("aliases"));
    assert!(one(&"[".repeat(5000)).unwrap_err().reason.contains("deeper"));
    assert!(one("a: &a [*a]").unwrap_err().reason.contains("contains itself"));
}

#[test]
fn a_last_line_without_end_is_read_as_it_stands() {
    for (text, want) in [
        ("a: |\n  x", "x"),
        ("a: |+\n  x", "x"),
        ("a: |-\n  x", "x"),
        ("a: |\n  x\n", "x\n"),
        ("a: |\n  x\n  ", "x\n"),
        ("a: >\n  x\n  y", "x y"),
    ] {
        assert_eq!(one(text).unwrap().get("a").unwrap().as_str(), Some(want), "{text:?}");
    }
}

#[test]
fn errors_at_a_last_line_without_end_name_that_line_as_go_yaml_does() {
    // The line that helm 4.3.1 names of a template whose output this is; none on the first.
    for (text, told) in [
        ("a: b\n;x\n y", "yaml: line 3: could not find expected ':'"),
        ("a: b\n;x\n y\n", "yaml: line 4: could not find expected ':'"),
        ("a: b\n;x", "yaml: line 3: could not find expected ':'"),
        ("a: \"b", "yaml: found unexpected end of stream"),
        ("a: \"b\n", "yaml: line 2: found unexpected end of stream"),
        ("a:\n  b: 'c", "yaml: line 2: found unexpected end of stream"),
        ("a: [\n b", "yaml: line 2: did not find expected ',' or ']'"),
    ] {
        let said = one(text).unwrap_err().upstream();
        let said = said.strip_prefix("error converting YAML to JSON: ").unwrap();
        assert_eq!(said.split(" (").next(), Some(told), "{text}");
    }
}

#[test]
fn what_the_parser_panics_on_is_one_bad_document() {
    let docs = parse_stream("b: 1\n---\na: [!,\n---\nc: 1\n", &Limits::default());
    assert_eq!(docs.iter().map(|d| d.result.is_ok()).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(docs[1].result.as_ref().unwrap_err().line, 3);
}

proptest::proptest! {
    #[test]
    fn never_panics_on_lines(text in "((- |  )?(a|b: |\\|[+-]?|>|\"x|'|#c|\\[|\\{|\\}|&a |\\*a|\t| )\n?){0,12}") {
        parse_stream(&text, &Limits::default());
    }
    #[test]
    fn never_panics(text in "[-a:\\[\\]{}&*!|>'\"%@`#,? \n\t\r0-9.\u{0}\u{e9}\u{feff}\\\\]{0,80}") {
        parse_stream(&text, &Limits::default());
    }
    #[test]
    fn never_panics_on_any_text(text in ".{0,60}") {
        parse_stream(&text, &Limits::default());
    }
}

#[test]
fn what_is_skimmed_fails_where_it_would_fail() {
    let limits = Limits { allow_duplicate_keys: true, max_depth: 5, max_nodes: 60, ..Limits::default() };
    let texts = [
        "kind: A\nspec: {a: [1, {b: c}], <<: {d: 1}}\nmetadata: {name: x}",
        "spec: &s {a: 1}\nkind: A\nmetadata: *s",
        "spec: {x: &s {a: 1}}\nkind: A\nmetadata: {annotations: *s}",
        "spec: {a: *nosuch}",
        "spec: {a: !!int x}",
        "spec: {<<: 1}",
        "spec: {<<: [1]}",
        "spec: {? [a] : 1}",
        "spec: {~: 1}",
        "spec: {null: 1}",
        "spec: [[[[[[1]]]]]]",
        "spec: {a: {b: {c: {d: {e: {f: 1}}}}}}",
        "spec: [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]",
        "spec: [{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}]",
        "spec: &a [*a]",
        "spec: {a: 1, a: 2}\nkind: [B]",
        "spec: {a: [}",
        "spec:\n  a: 1\n b: 2",
        "- a\n- b",
        "text",
        "",
    ];
    for text in texts {
        let (whole, part) =
            (parse_one(text, &limits), super::parse_keys(text, &limits, &["kind", "metadata"]));
        match (whole, part) {
            (Ok(whole), Ok(part)) => {
                assert_eq!(
                    (whole.get("kind"), whole.get("metadata")),
                    (part.get("kind"), part.get("metadata")),
                    "{text}"
                );
                assert_eq!(whole.kind(), part.kind(), "{text}");
                assert!(part.get("spec").is_none());
            }
            (whole, part) => assert_eq!(whole.err(), part.err(), "{text}"),
        }
    }
}
