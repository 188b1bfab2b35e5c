use super::*;
use proptest::prelude::*;

const FILE: &str = r#"
server = "https://registry-1.docker.io"
ca = "own.pem"

[host."https://z.lan:5000"]
  capabilities = ["pull", "resolve"]
  ca = ["/etc/a.pem", "b.pem"]
  client = [["c.cert", "c.key"]]
  dial_timeout = "3s"
[host."http://a.lan/proxy/docker"]
  capabilities = ["pull"]
  override_path = true
  [host."http://a.lan/proxy/docker".header]
    x-key = ["hunter2"]
[host."m.lan"]
  skip_verify = true
  client = "both.pem"
"#;

#[test]
fn hosts_toml_is_read_as_containerd_reads_it() {
    let rules = parse_hosts_toml(FILE, Path::new("/d")).unwrap();
    let urls: Vec<&str> = rules.mirrors.iter().map(|h| h.url.as_str()).collect();
    assert_eq!(urls, ["https://z.lan:5000/v2", "http://a.lan/proxy/docker", "https://m.lan/v2"], "in order");
    let [z, a, m] = rules.mirrors.as_slice() else { panic!() };
    assert_eq!(z.tls.ca_files, [PathBuf::from("/etc/a.pem"), "/d/b.pem".into()]);
    assert_eq!(z.tls.client, Some(("/d/c.cert".into(), "/d/c.key".into())));
    assert_eq!((z.name().as_str(), z.connect_timeout), ("z.lan:5000", Some(Duration::from_secs(3))));
    assert!(z.resolve && a.pull && !a.resolve);
    assert_eq!(a.headers, [("x-key".to_owned(), Secret::new("hunter2"))]);
    assert!(m.tls.skip_verify && m.pull && m.resolve, "everything, unless it is said");
    let server = rules.server.as_ref().unwrap();
    assert_eq!((server.name().as_str(), server.url.path()), ("docker.io", "/v2"));
    assert_eq!(server.tls.ca_files, [PathBuf::from("/d/own.pem")]);
    assert!(!format!("{rules:?}").contains("hunter2"));
}

#[test]
fn what_cannot_be_meant_is_told_without_secrets() {
    for (text, word) in [
        ("[host.\"ftp://a\"]", "http or https"),
        ("[host.\"https://u:hunter2@a\"]", "login in it"),
        ("[host.\"https://a\"]\ncapabilities = [\"fly\"]", "capability"),
        ("\n[host.\"https://a\"]\nheader = {x = 5, y = \"hunter2\"}", "not valid"),
        ("[host.\"https://a\"]\ndial_timeout = \"long\"", "duration"),
        ("x = hunter2", "line 1"),
    ] {
        let error = parse_hosts_toml(text, Path::new("/")).unwrap_err();
        assert!(error.contains(word) && !error.contains("hunter2"), "{text}: {error}");
    }
}

#[test]
fn folders_are_looked_for_as_containerd_does() {
    let root = tempfile::tempdir().unwrap();
    let put = |folder: &str, file: &str, text: &str| {
        std::fs::create_dir_all(root.path().join(folder)).unwrap();
        std::fs::write(root.path().join(folder).join(file), text).unwrap();
    };
    put("r.lan_5000_", "hosts.toml", "[host.\"https://one\"]");
    put("docker.io", "hosts.toml", "[host.\"https://two\"]");
    put("certs.lan", "ca.crt", "");
    put("certs.lan", "x.cert", "");
    put("certs.lan", "x.key", "");
    let hosts = Hosts::default().with_folder(root.path());
    let first = |registry: &str| hosts.find(registry).unwrap().mirrors.first().map(Host::name);
    assert_eq!(first("r.lan:5000").as_deref(), Some("one"));
    assert_eq!(first("docker.io").as_deref(), Some("two"));
    assert_eq!(first("other.lan"), None);
    let tls = hosts.find("certs.lan").unwrap().tls;
    assert!(tls.ca_files[0].ends_with("ca.crt") && tls.client.unwrap().1.ends_with("x.key"));
    put("_default", "hosts.toml", "[host.\"https://any\"]");
    assert_eq!(first("other.lan").as_deref(), Some("any"));
    let own = hosts.clone().with_rules("other.lan", HostRules::default());
    assert!(own.find("other.lan").unwrap().mirrors.is_empty(), "own rules go first");
    put("broken.lan", "hosts.toml", "[[");
    assert!(hosts.find("broken.lan").unwrap_err().to_string().contains("broken.lan/hosts.toml"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,300}") {
        let _ = parse_hosts_toml(&text, Path::new("/"));
    }
}
