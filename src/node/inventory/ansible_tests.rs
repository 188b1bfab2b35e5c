use super::*;

const INI: &str = "\
# site
lone ansible_host=10.0.0.9 ansible_connection=ssh

[control]
cp[1:2].lan ansible_user=admin

[workers]
w01:2222 ansible_ssh_private_key_file='~/.ssh/k 1'   # comment
[2001:db8::7] ansible_port=22

[edge]
w01

[cluster:children]
control
workers

[cluster:vars]
ansible_user = core
ansible_become_password = \"s3 cret\"

[all:vars]
ansible_user=root
omk_platform=linux/arm64
";

fn by_name<'a>(all: &'a [RawNode], name: &str) -> &'a RawNode {
    all.iter().find(|n| n.name == name).unwrap()
}

#[test]
fn the_ini_form_is_read_with_its_precedence() {
    let all = ini(INI).unwrap();
    let names: Vec<&str> = all.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["lone", "cp1.lan", "cp2.lan", "w01", "2001:db8::7"]);
    let lone = by_name(&all, "lone");
    assert_eq!((lone.host.as_deref(), lone.user.as_deref()), (Some("10.0.0.9"), Some("root")));
    assert!(lone.groups.is_empty());
    let cp = by_name(&all, "cp1.lan");
    assert_eq!((cp.user.as_deref(), cp.platform.as_deref()), (Some("admin"), Some("linux/arm64")));
    let w = by_name(&all, "w01");
    assert_eq!((w.user.as_deref(), w.identity.as_deref()), (Some("core"), Some("~/.ssh/k 1")));
    assert_eq!(w.port.map(|p| p.0), Some(2222));
    let groups: Vec<&str> = w.groups.iter().map(String::as_str).collect();
    assert_eq!(groups, ["cluster", "edge", "workers"]);
    assert!(w.sudo_password.is_some());
}

#[test]
fn the_yaml_form_is_read_alike() {
    let text = "\
all:
  vars: {ansible_user: root}
  children:
    workers:
      hosts:
        w[1:2]: {ansible_port: 2222}
        here: {ansible_connection: local}
      vars: {ansible_user: core}
    empty:
";
    let all = read(text).unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!((all[1].name.as_str(), all[1].user.as_deref()), ("w2", Some("core")));
    assert!(by_name(&all, "here").local);
}

#[test]
fn options_of_ssh_are_taken_over() {
    let text = "a ansible_ssh_common_args='-o ProxyCommand=\"ssh -W %h:%p -q bastion\" -J b,c' ansible_password=geheim\n";
    let all = ini(text).unwrap();
    let options: Vec<(&str, &str)> =
        all[0].ssh_options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(options, [("ProxyCommand", "ssh -W %h:%p -q bastion"), ("proxyjump", "b,c")]);
    assert_eq!(all[0].password.as_ref().map(crate::node::Secret::expose), Some("geheim"));
}

#[test]
fn what_cannot_be_followed_is_told_with_its_line() {
    for (text, line, told) in [
        ("a ansible_user='x", 1, "is not closed"),
        ("a b", 1, "no NAME=VALUE"),
        ("[g:x]\n", 1, "is no section"),
        ("[g]\nn[3:1]\n", 2, "ends before it begins"),
        ("a ansible_port=x", 1, "is no port"),
        ("a ansible_host='{{ x }}'", 1, "is a template"),
    ] {
        let error = ini(text).unwrap_err();
        assert_eq!(error.line, line, "{text}");
        assert!(error.text.contains(told), "{text}: {}", error.text);
    }
    assert!(ini("a ansible_ssh_common_args='-F x'").unwrap_err().text.contains("--ssh-config"));
    let vault = "all: {hosts: {a: {ansible_become_password: \"$ANSIBLE_VAULT;1.1\"}}}\n";
    assert!(read(vault).unwrap_err().text.contains("in a vault"));
    // What is not asked for may be anything.
    assert!(ini("a other='{{ x }}'").is_ok());
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[a-c0-9 =\\[\\]:'\"#\n_{}]{0,80}") {
        let _ = ini(&text);
        let _ = read(&text);
    }
}
