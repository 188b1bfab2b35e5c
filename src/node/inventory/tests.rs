use super::*;

fn parse(text: &str) -> Result<Inventory, InventoryError> {
    Inventory::parse(text, Path::new("/inv/nodes.yaml"), Some(Path::new("/home/u")))
}

fn refused(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn what_people_write_is_read() {
    let inventory = parse(
        "defaults: {user: admin, port: 2222, identity: ~/.ssh/id, platform: linux/arm64}\n\
         nodes:\n\
         - {name: a, host: 10.0.0.1}\n\
         - {name: b, host: '[2001:db8::1]', port: 22, user: root, identity: keys/b, staging: /data/omk}\n\
         - {name: c, local: true}\n\
         - {name: d, host: local}\n",
    )
    .unwrap();
    assert_eq!(inventory.nodes.len(), 4);
    let first = Address::Ssh {
        host: "10.0.0.1".into(),
        port: 2222,
        user: "admin".into(),
        identity: Some("/home/u/.ssh/id".into()),
    };
    assert_eq!(inventory.nodes[0].address, first);
    assert_eq!(inventory.nodes[0].platform.as_ref().map(ToString::to_string), Some("linux/arm64".into()));
    assert_eq!(inventory.nodes[1].address.to_string(), "[2001:db8::1]:22");
    let Address::Ssh { identity, .. } = &inventory.nodes[1].address else { panic!("not ssh") };
    assert_eq!(identity.as_deref(), Some(Path::new("/inv/keys/b")));
    assert_eq!(inventory.nodes[1].staging.as_deref(), Some("/data/omk"));
    assert_eq!(inventory.nodes[2].address, Address::Local);
    assert_eq!(inventory.nodes[3].address, Address::Local);
}

#[test]
fn an_unknown_field_is_named_with_file_and_line() {
    let text = refused("nodes:\n  - name: a\n    host: h\n    user: u\n    idenity: x\n");
    assert!(
        text.contains("/inv/nodes.yaml") && text.contains("idenity") && text.contains("line 5"),
        "{text}"
    );
    assert!(
        text.contains("unknown field `idenity` (did you mean identity?), expected one of `name`"),
        "{text}"
    );
    assert!(refused("nodes: []\nnode: 1\n").contains("unknown field `node` (did you mean nodes?)"));
    assert!(refused("nodes: []\nzzz: 1\n").contains("unknown field `zzz`, expected"));
}

#[test]
fn a_value_that_cannot_be_meant_is_named_with_file_field_and_line() {
    let with = |text: &str| {
        let fallback = Fallback { runtimes: &["auto", "containerd", "docker"], ..Fallback::default() };
        Inventory::parse_with(text, Path::new("/inv/nodes.yaml"), &fallback)
    };
    let refused = |text: &str| with(text).unwrap_err().to_string();
    insta::assert_snapshot!(refused("nodes:\n- {name: a, host: h, user: u}\n- name: b\n  local: true\n  runtime: containrd\n"), @r#"inventory /inv/nodes.yaml: nodes[1] (b), line 5: runtime: "containrd" is no runtime (did you mean containerd?): use one of auto, containerd, docker"#);
    insta::assert_snapshot!(refused("defaults:\n  user: u\n  runtime: runc\nnodes: [{name: a, host: h}]\n"), @r#"inventory /inv/nodes.yaml: nodes[0] (a), line 3: runtime: "runc" is no runtime: use one of auto, containerd, docker"#);
    insta::assert_snapshot!(refused("nodes:\n- name: a\n  host: h\n  user: u\n  staging: omk\n"), @r#"inventory /inv/nodes.yaml: nodes[0] (a), line 5: staging: "omk" is not absolute: begin it with /"#);
    insta::assert_snapshot!(refused("nodes:\n\n- name: a\n  host: h\n"), @"inventory /inv/nodes.yaml: nodes[0] (a), line 3: user is missing, here and in defaults; --user names one for all");
    insta::assert_snapshot!(refused("[w]\nw1\n\n[w:vars]\nansible_user=u\nomk_runtime=containrd\n"), @r#"inventory /inv/nodes.yaml: nodes[0] (w1), line 6: runtime: "containrd" is no runtime (did you mean containerd?): use one of auto, containerd, docker"#);
    let good = "nodes: [{name: a, local: true, runtime: docker}]";
    assert!(with(good).is_ok());
    assert!(parse(&good.replace("docker", "anything")).is_ok(), "words are for whoever knows runtimes");
}

#[test]
fn a_node_that_cannot_be_meant_is_refused() {
    for (bad, why) in [
        ("[{name: a, host: h, user: u}, {name: a, host: i, user: u}]", "taken"),
        ("[]", "at least one"),
        ("[{name: 'a b', host: h, user: u}]", "a name has"),
        ("[{name: ../a/b, host: h, user: u}]", "a name has"),
        ("[{name: a, user: u}]", "host is missing"),
        ("[{name: a, host: h}]", "user is missing"),
        ("[{name: a, host: -oProxyCommand=x, user: u}]", "no host"),
        ("[{name: a, host: 'h:22', user: u}]", "own field"),
        ("[{name: a, host: 'h*', user: u}]", "no host"),
        (
            "[{name: a, host: h, user: u, port: 0}]",
            "nodes[0].port: found the number `0`, expected a port: a number from 1",
        ),
        (
            "[{name: a, host: h, user: u, port: 99999}]",
            "nodes[0].port: found the number `99999`, expected a port",
        ),
        (
            "[{name: a, host: h, user: u, port: '22'}]",
            "nodes[0].port: found the text \"22\", expected a port",
        ),
        ("[{name: a, host: h, user: u, port: -1}]", "nodes[0].port: found the number `-1`, expected a port"),
        ("[{name: [a], host: h, user: u}]", "nodes[0].name: found a list, expected text: put it in quotes"),
        ("[{name: a, local: 'yes'}]", "nodes[0].local: found the text \"yes\", expected true or false"),
        ("[worker-1]", "nodes[0]: found the text \"worker-1\", expected a node with fields"),
        ("{name: a}", "nodes: found fields, expected a list"),
        ("worker-1", "nodes: found the text \"worker-1\", expected a list"),
        ("[{name: a, host: h, user: u, staging: relative}]", "staging"),
        ("[{name: a, host: h, user: u, staging: /var/../etc}]", "staging"),
        ("[{name: a, host: h, user: u, staging: /}]", "staging"),
        ("[{name: a, host: h, user: u, platform: nonsense/}]", "platform"),
        ("[{name: a, host: h, user: u, identity: ~root/x}]", "other users"),
        ("[{name: a, host: h, local: true}]", "exclude"),
    ] {
        let text = refused(&format!("nodes: {bad}\n"));
        assert!(text.contains(why), "{bad}: {text}");
    }
}

#[test]
fn a_file_that_is_no_inventory_is_told_in_words() {
    for text in ["- worker-1\n", "", "hello", "defaults: 5\nnodes: []\n"] {
        let text = refused(text);
        assert!(!text.contains("struct") && !text.contains("Raw"), "{text}");
        assert!(text.contains("expected") || text.contains("missing field `nodes`"), "{text}");
    }
}

#[test]
fn a_missing_key_file_is_named_before_anything_is_connected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.yaml");
    std::fs::write(folder.path().join("good"), "key").unwrap();
    let text = "defaults: {user: u, identity: good}\nnodes: [{name: a, host: h}, {name: b, host: i, identity: gone}]";
    let inventory = Inventory::parse(text, &path, None).unwrap();
    let error = inventory.check_identities(&path).unwrap_err().to_string();
    assert!(
        error.contains("the identity of b (") && error.contains("/gone cannot be read: No such file"),
        "{error}"
    );
    let only_a = Fallback { limit: vec!["a".into()], ..Fallback::default() };
    assert!(Inventory::parse_with(text, &path, &only_a).unwrap().check_identities(&path).is_ok());
    let folder = Inventory::parse("nodes: [{name: a, host: h, user: u, identity: .}]", &path, None).unwrap();
    assert!(folder.check_identities(&path).unwrap_err().to_string().contains("is no file"));
}

#[test]
fn a_password_shows_nowhere() {
    let inventory = parse("nodes: [{name: a, host: h, user: u, sudo_password: s3cret}]").unwrap();
    assert!(!format!("{inventory:?}").contains("s3cret"));
    let text = refused("nodes: [{name: a, host: h, user: u, sudo_password: 48151623}]");
    assert!(!text.contains("48151623"), "{text}");
    let text = refused("nodes: [{name: a, host: h, user: u, sudo_password: [s3cret]}]");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn a_readable_file_with_a_password_gets_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("i.yaml");
    std::fs::write(&path, "nodes: [{name: a, host: h, user: u, sudo_password: x}]").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(Inventory::load(&path, None).unwrap().warnings.len(), 1);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(Inventory::load(&path, None).unwrap().warnings.is_empty());
}

fn with_config(text: &str, config: &str) -> Result<Inventory, InventoryError> {
    let config = SshConfig::parse(config, Path::new("cfg"), Some(Path::new("/home/u"))).unwrap();
    let fallback = Fallback {
        login_for_all: false,
        home: Some("/home/u".into()),
        login: Some("me".into()),
        ssh_config: Some(Arc::new(config)),
        ..Fallback::default()
    };
    Inventory::parse_with(text, Path::new("/inv/nodes.yaml"), &fallback)
}

#[test]
fn ssh_config_fills_in_what_the_inventory_leaves_open() {
    let config = "Host w*\nHostName %h.lan\nUser core\nPort 2222\nProxyJump b1,adm@b2:2200\nIdentityFile ~/.ssh/w\n\
                  Host b1\nHostName 192.0.2.1\nProxyCommand nc %h %p\nUserKnownHostsFile /kh/%h\nHost *\nUser everyone\n";
    let text = "nodes: [{name: a, host: w1}, {name: b, host: w2, user: root, port: 22, proxy_jump: none, identity: k}]";
    let inventory = with_config(text, config).unwrap();
    let [a, b] = &inventory.nodes[..] else { panic!() };
    let address = |host: &str, port, user: &str, identity: Option<&str>| Address::Ssh {
        host: host.into(),
        port,
        user: user.into(),
        identity: identity.map(Into::into),
    };
    assert_eq!(a.address, address("w1.lan", 2222, "core", None));
    assert_eq!(a.route.identities, [PathBuf::from("/home/u/.ssh/w")]);
    assert_eq!(a.route.way(), ["`nc 192.0.2.1 22`", "everyone@192.0.2.1:22", "adm@b2:2200"]);
    assert!(a.route.why.iter().any(|w| w.what == "user" && w.from == "cfg:3"), "{:?}", a.route.why);
    assert_eq!(b.address, address("w2.lan", 22, "root", Some("/inv/k")));
    assert!(b.route.way().is_empty());
    let endless = with_config("nodes: [{name: a, host: a, user: u}]", "Host *\nProxyJump b\n").unwrap_err();
    assert!(endless.to_string().contains("Host * !b"), "{endless}");
    let command = "Host *\nProxyCommand ssh -W %h:%p %r@bastion\n";
    for user in ["x;id>pwn", "a$(id)", "`id`", "a|b"] {
        let text = format!("nodes: [{{name: a, host: a, user: '{user}'}}]");
        let error = with_config(&text, command).unwrap_err().to_string();
        assert!(error.contains("must not be put into a ProxyCommand (%r)"), "{error}");
    }
    let kept =
        with_config("nodes: [{name: a, host: a, user: u}]", "Host *\nUserKnownHostsFile none\n").unwrap();
    let kept = kept.nodes[0].route.known_hosts.as_ref().unwrap();
    assert_eq!(kept[0], Path::new("/dev/null"), "a new key must not go into the system's file: {kept:?}");
    // Without a name of a user anywhere omk's own inventory is refused as before.
    assert!(
        with_config("nodes: [{name: a, host: h}]", "").unwrap_err().to_string().contains("user is missing")
    );
}

#[test]
fn passwords_come_from_fields_and_files_and_never_show() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pw"), "hunter2\nrest\n").unwrap();
    let text = "defaults: {user: u, password_file: pw}\nnodes: [{name: a, host: a}, {name: b, host: b, password: 'own one'}]";
    let file = folder.path().join("nodes.yaml");
    let inventory = Inventory::parse(text, &file, None).unwrap();
    let passwords: Vec<&str> =
        inventory.nodes.iter().map(|n| n.route.password.as_ref().unwrap().expose()).collect();
    assert_eq!(passwords, ["hunter2", "own one"]);
    let shown = format!("{inventory:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("own one"), "{shown}");
}

#[test]
fn an_ssh_config_is_an_inventory_of_its_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    std::fs::write(&file, "Host w1 w2\n  HostName %h.lan\nHost *\n  User core\n").unwrap();
    let inventory = Inventory::load_with(&file, &Fallback::default()).unwrap();
    let names: Vec<&str> = inventory.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["w1", "w2"]);
    assert_eq!(inventory.nodes[1].address.to_string(), "w2.lan:22");
}

#[test]
fn what_the_limit_takes_away_need_not_be_usable() {
    let limited = |text: &str, limit: &str| {
        let limit = vec![limit.to_owned()];
        Inventory::parse_with(text, Path::new("n"), &Fallback { limit, ..Fallback::default() })
    };
    let text = "nodes: [{name: w1, host: a, user: u}, {name: w2, host: b}, {name: w3, host: '?', user: u}]";
    let one = limited(text, "w1").unwrap();
    assert_eq!((one.nodes.len(), one.left_out.len()), (1, 2));
    assert_eq!(one.left_out[0].name, "w2");
    let error = limited(text, "!w3").unwrap_err();
    assert!(matches!(&error, InventoryError::User { index: 1, name, .. } if name == "w2"), "{error}");
    assert!(limited(text, "w3").unwrap_err().to_string().contains("nodes[2] (w3)"));
}
