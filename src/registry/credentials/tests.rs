use super::file::{Found, look_up};
use super::helper::{ask, get as ask_helper};
use super::*;
use proptest::prelude::*;

fn login(user: &str, password: &str) -> Found {
    Found::Login(Login { user: user.to_owned(), password: Secret::new(password) })
}

#[test]
fn docker_and_podman_files_are_read() {
    let file = br#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
            "quay.io": {"auth": "cTpwOndpdGg6Y29sb25z"},
            "quay.io/team": {"username": "team", "password": "t"},
            "http://plain:5000": {"username": "p", "password": "w"},
            "empty.io": {}},
            "credHelpers": {"gcr.io": "gcloud"}}"#;
    let at = |registry: &str, repository: &str| look_up(file, registry, repository).unwrap();
    assert_eq!(at("docker.io", "library/nginx"), login("hub", "pw"));
    assert_eq!(at("quay.io", "a/b"), login("q", "p:with:colons"));
    assert_eq!(at("quay.io", "team/b"), login("team", "t"));
    assert_eq!(at("quay.io", "teamwork/b"), login("q", "p:with:colons"));
    assert_eq!(at("plain:5000", "a"), login("p", "w"));
    assert_eq!(at("empty.io", "a"), Found::Nothing);
    assert_eq!(at("gcr.io", "a"), Found::Helper("gcloud".to_owned()));
    assert_eq!(at("other.io", "a"), Found::Nothing);
    let store = br#"{"auths": {"a.io": {}}, "credsStore": "desktop"}"#;
    assert_eq!(look_up(store, "a.io", "x").unwrap(), Found::Helper("desktop".to_owned()));
}

#[test]
fn nothing_secret_is_in_debug_or_errors() {
    let held = Credentials::anonymous()
        .with_login("a.io", Login { user: "u".to_owned(), password: Secret::new("hunter2") });
    assert!(!format!("{held:?}").contains("hunter2"));
    for bad in [
        r#"{"auths": {"a.io": {"auth": ["hunter2"]}}}"#,
        r#"{"auths": {"a.io": "hunter2"}}"#,
        r#"{"auths": {"a.io": {"auth": "hunter2!"}}}"#,
    ] {
        let error = look_up(bad.as_bytes(), "a.io", "x").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_login_is_for_its_registry_only() {
    let user = Login { user: "u".to_owned(), password: Secret::new("p") };
    let held = Credentials::anonymous().with_login("Index.docker.io", user.clone());
    assert_eq!(held.find("docker.io", "library/x").await.unwrap(), Some(user));
    assert_eq!(held.find("quay.io", "library/x").await.unwrap(), None);
}

#[tokio::test]
async fn helper_names_are_names() {
    for bad in ["", "../x", "a b", "/bin/sh"] {
        assert!(ask_helper(bad, "a.io").await.is_err(), "{bad}");
    }
    let missing = ask_helper("omk-none-such", "a.io").await.unwrap_err();
    assert!(missing.contains("docker-credential-omk-none-such"), "{missing}");
}

#[tokio::test]
async fn helpers_are_asked_by_their_protocol() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let helper = folder.path().join("helper");
    // Written by another process: a file that this one had open for writing may still be open in a child that
    // another test forks, and cannot be executed then.
    let script = r#"#!/bin/sh
read -r server
[ "$1" = get ] || exit 2
case $server in
  https://index.docker.io/v1/) echo '{"ServerURL": "x", "Username": "hub", "Secret": "pw"}' ;;
  token.io) echo '{"Username": "<token>", "Secret": "hunter2"}' ;;
  none.io) echo 'credentials not found in native keychain'; exit 1 ;;
  *) echo 'the keychain is locked'; exit 1 ;;
esac"#;
    let source = folder.path().join("source");
    std::fs::write(&source, script).unwrap();
    std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o700)).unwrap();
    let copied = std::process::Command::new("cp").arg("-p").arg(&source).arg(&helper).status().unwrap();
    assert!(copied.success());
    let program = helper.display().to_string();
    let hub = Login { user: "hub".to_owned(), password: Secret::new("pw") };
    assert_eq!(ask(&program, "docker.io").await, Ok(Some(hub)));
    assert_eq!(ask(&program, "none.io").await, Ok(None));
    let token = ask(&program, "token.io").await.unwrap().unwrap();
    assert!(token.is_identity() && !format!("{token:?}").contains("hunter2"));
    let locked = ask(&program, "other.io").await.unwrap_err();
    assert!(locked.contains("(the keychain is locked)"), "{locked}");
}

proptest! {
    #[test]
    fn any_file_is_read_or_refused(text in "\\PC{0,200}", registry in "[a-z.:/]{0,20}") {
        let _ = look_up(text.as_bytes(), &registry, "a/b");
    }

    #[test]
    fn what_docker_writes_is_read(user in "[^:\\x00]{1,20}", password in "[^\\x00]{0,30}") {
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let file = serde_json::json!({"auths": {"a.io": {"auth": auth}}}).to_string();
        prop_assert_eq!(look_up(file.as_bytes(), "a.io", "x").unwrap(), login(&user, &password));
    }
}

#[test]
fn names_cover_what_kubelet_says() {
    let fits = |key: &str, registry: &str, repository: &str| covers(key, registry, repository).is_some();
    assert!(fits("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu.amazonaws.com", "x"));
    assert!(!fits("*.amazonaws.com", "1.dkr.ecr.eu.amazonaws.com", "x"));
    assert!(fits("https://index.docker.io/v1/", "docker.io", "library/x"));
    assert!(fits("[::1]:5000", "[::1]:5000", "x") && !fits("[::1]", "[::1]:5000", "x"));
    assert!(fits("a*c.io", "abc.io", "x") && fits("a*.io", "a.io", "x") && !fits("a*c.io", "ab.io", "x"));
    assert!(covers("a.io/team", "a.io", "team/x") > covers("a.io", "a.io", "team/x"));
}
