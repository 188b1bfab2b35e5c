use proptest::prelude::*;

use super::*;

fn who() -> Who {
    Who { home: Some("/home/u".into()), user: "me".into(), uid: 1000, host: "laptop.lan".into() }
}

fn config(text: &str) -> SshConfig {
    SshConfig::parse(text, Path::new("cfg"), Some(Path::new("/home/u"))).unwrap()
}

fn ask(text: &str, host: &str) -> Resolved {
    config(text).resolve(&Query { host: host.into(), given: Vec::new() }, &who()).unwrap()
}

const SITE: &str = "\
# site
Host bastion
    HostName bastion.example.org
    Port 2222
    User=jump

Host w* !w9
    ProxyJump bastion
    User core
    IdentityFile ~/.ssh/w_%r
Host \"w1\" w2
    HostName=%h.lan
    IdentityFile '/keys/w 1'
    User never
Match host *.lan user core
    HostKeyAlias workers
    ServerAliveInterval 1m30s
Match originalhost w1,w3 localuser me
    ConnectTimeout 7
Match exec \"test -f /x\"
    User hacked
Match final all
    Port 2022
Host *
    User everyone
    Port 22
";

#[test]
fn the_first_value_wins_and_blocks_apply_as_they_do_for_ssh() {
    let w1 = ask(SITE, "w1");
    assert_eq!(w1.host_name().unwrap(), "w1.lan");
    assert_eq!((w1.user(), w1.port().unwrap()), (Some("core"), Some(22)));
    let keys: Vec<&str> = w1.identities.iter().map(Setting::first).collect();
    assert_eq!(keys, ["~/.ssh/w_%r", "/keys/w 1"]);
    assert_eq!(w1.setting("hostkeyalias").unwrap().first(), "workers");
    assert_eq!(w1.seconds("serveraliveinterval").unwrap(), Some(90));
    assert_eq!(w1.seconds("connecttimeout").unwrap(), Some(7));
    let jump = Jump { user: None, host: "bastion".into(), port: None };
    assert_eq!(w1.proxy().unwrap(), Some(Proxy::Jump(vec![jump])));
    assert_eq!(w1.setting("user").unwrap().from.to_string(), "cfg:9");
    assert!(
        w1.warnings.iter().any(|w| w.contains("cfg:20") && w.contains("Match exec")),
        "{:?}",
        w1.warnings
    );
    let w9 = ask(SITE, "w9");
    assert_eq!((w9.user(), w9.proxy().unwrap()), (Some("everyone"), None));
    let bastion = ask(SITE, "bastion");
    assert_eq!((bastion.port().unwrap(), bastion.user()), (Some(2222), Some("jump")));
}

#[test]
fn jump_and_command_rule_each_other_out() {
    assert_eq!(ask("ProxyCommand none\nProxyJump b\n", "a").proxy().unwrap(), None);
    let command = ask("ProxyJump none\nProxyCommand nc %h %p\nProxyJump b\n", "a").proxy().unwrap();
    assert_eq!(command, Some(Proxy::Command("nc %h %p".into())));
    let command =
        ask("ProxyCommand ssh -W '[%h]:%p' \"b c\" # no comment\nProxyJump x\n", "a").proxy().unwrap();
    assert_eq!(command, Some(Proxy::Command("ssh -W '[%h]:%p' \"b c\" # no comment".into())));
    let jump =
        |user: Option<&str>, host: &str, port| Jump { user: user.map(Into::into), host: host.into(), port };
    let chain = ask("ProxyJump a@[2001:db8::1]:2200,ssh://u@b:22,2001:db8::2\n", "h").proxy().unwrap();
    let expected = vec![
        jump(Some("a"), "2001:db8::1", Some(2200)),
        jump(Some("u"), "b", Some(22)),
        jump(None, "2001:db8::2", None),
    ];
    assert_eq!(chain, Some(Proxy::Jump(expected)));
}

#[test]
fn what_is_given_goes_before_the_files() {
    let given = |k: &str, v: &str| (k.to_owned(), v.to_owned(), "the inventory".to_owned());
    let query = Query { host: "w1".into(), given: vec![given("user", "root"), given("Port", "2200")] };
    let found = config(SITE).resolve(&query, &who()).unwrap();
    assert_eq!((found.user(), found.port().unwrap()), (Some("root"), Some(2200)));
    // `Match user core` does not fit any more.
    assert!(found.setting("hostkeyalias").is_none());
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_line_where_it_applies() {
    for (text, told) in [
        ("Host a\nPort 0\n", "cfg:2"),
        ("Host a\nIdentitiesOnly perhaps\n", "yes or no"),
        ("Host a\nConnectTimeout soon\n", "no time"),
        ("Host a\nProxyJump a,,b\n", "no jump host"),
        ("Host a\nProxyJump -oProxyCommand=x\n", "no jump host"),
        ("Host a\nHostName %z\n", "%z"),
        ("Match host\n", "a value is missing"),
        ("Match sky blue\n", "unknown"),
    ] {
        let config = config(text);
        let error = config.resolve(&Query { host: "a".into(), given: Vec::new() }, &who()).unwrap_err();
        assert!(error.contains(told), "{text}: {error}");
        if text.starts_with("Host") {
            assert!(config.resolve(&Query { host: "b".into(), given: Vec::new() }, &who()).is_ok(), "{text}");
        }
    }
    for bad in ["Host", "Host 'a", "Port #"] {
        assert!(SshConfig::parse(bad, Path::new("cfg"), None).is_err(), "{bad}");
    }
    let odd = ask("IgnoreUnknown Us*\nUseMagic yes\nFrobnicate 1\nBindAddress 10.0.0.1\nCiphers x\n", "a");
    assert_eq!(odd.warnings.len(), 2, "{:?}", odd.warnings);
}

#[test]
fn tokens_are_those_of_openssh() {
    let who = who();
    let tokens = Tokens { who: &who, host: "h.lan", original: "h", port: 2222, user: "core", alias: None };
    let env = |name: &str| (name == "KEYS").then(|| "/k".to_owned());
    let file = |text: &str| tokens.file(text, env).map(|p| p.display().to_string());
    assert_eq!(
        file("~/.ssh/%h-%n-%p-%r-%u-%i-%L-%l-%k-%%").unwrap(),
        "/home/u/.ssh/h.lan-h-2222-core-me-1000-laptop-laptop.lan-h-%"
    );
    assert_eq!(file("${KEYS}/%d").unwrap(), "/k//home/u");
    assert!(
        file("${NONE}/x").is_err() && file("%Z").is_err() && file("~other/x").is_err() && file("x%").is_err()
    );
    assert_eq!(tokens.proxy("nc %h %p").unwrap(), "nc h.lan 2222");
    assert!(tokens.proxy("nc %d").is_err());
}

#[test]
fn files_are_included_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let ssh = folder.path().join(".ssh");
    std::fs::create_dir_all(ssh.join("conf.d")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(ssh.join(name), text).unwrap();
    write("conf.d/10-a.conf", "User first\nHost b\nPort 1\n");
    write("conf.d/20-b.conf", "User second\n");
    write("conf.d/.hidden.conf", "User hidden\n");
    write("config", "Host a b\nInclude conf.d/*.conf\nPort 7\nHost c\nInclude conf.d/[12]?-b.conf nowhere\n");
    let config = SshConfig::load_default(Some(folder.path())).unwrap();
    let ask = |host: &str| config.resolve(&Query { host: host.into(), given: Vec::new() }, &who()).unwrap();
    assert_eq!((ask("a").user(), ask("a").port().unwrap()), (Some("first"), Some(7)));
    assert_eq!((ask("b").user(), ask("b").port().unwrap()), (Some("first"), Some(1)));
    assert_eq!(ask("c").user(), Some("second"));
    assert_eq!(config.hosts()[..3], ["a", "b", "c"]);
    write("config", "Include config\n");
    assert!(SshConfig::load_default(Some(folder.path())).unwrap_err().text.contains("too deep"));
    write("config", "Host a\n");
    std::fs::set_permissions(ssh.join("config"), std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .unwrap();
    assert!(SshConfig::load_default(Some(folder.path())).unwrap_err().text.contains("chmod"));
    assert!(shell_like("a[b-d]?*", "acxyz") && shell_like("[!a]", "b") && !shell_like("[!a]", "a"));
}

/// What `ssh -G` says about random configurations and hosts is what is resolved here.
#[test]
fn ssh_itself_agrees() {
    if std::process::Command::new("ssh").arg("-V").output().is_err() {
        eprintln!("SKIPPED: no ssh");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cfg");
    let mut random = fastrand::Rng::with_seed(22);
    let hosts = ["alpha", "beta", "a.lan", "10.0.0.7", "Gamma"];
    let mut compared = 0;
    for _ in 0..60 {
        let text = some_config(&mut random);
        std::fs::write(&file, &text).unwrap();
        let ours = SshConfig::load(&file, None).unwrap();
        let host = hosts[random.usize(..hosts.len())];
        let said =
            std::process::Command::new("ssh").arg("-G").arg("-F").arg(&file).arg(host).output().unwrap();
        let user =
            String::from_utf8(std::process::Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let who = Who { user: user.trim().to_owned(), ..who() };
        let found = ours.resolve(&Query { host: host.into(), given: Vec::new() }, &who);
        let told = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.success(), found.is_ok(), "{text}\n{host}: {told}\n{found:?}");
        let Ok(found) = found else { continue };
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let all = |key: &str| -> Vec<&str> {
            said.lines()
                .filter_map(|l| l.split_once(' '))
                .filter(|(k, _)| *k == key)
                .map(|(_, v)| v)
                .collect()
        };
        let one = |key: &str| all(key).first().copied().unwrap_or_default().to_owned();
        let shown = format!("{text}\n--- {host}\n{said}");
        assert_eq!(one("hostname"), found.host_name().unwrap().to_ascii_lowercase(), "{shown}");
        assert_eq!(one("port"), found.port().unwrap().unwrap_or(22).to_string(), "{shown}");
        assert_eq!(one("user"), found.user().unwrap_or(&who.user), "{shown}");
        let keys: Vec<&str> = found.identities.iter().map(Setting::first).collect();
        if !keys.is_empty() {
            assert_eq!(all("identityfile"), keys, "{shown}");
        }
        let certificates: Vec<&str> = found.certificates.iter().map(Setting::first).collect();
        assert_eq!(all("certificatefile"), certificates, "{shown}");
        let (mut jump, mut command) = (String::new(), String::new());
        match found.proxy().unwrap() {
            None => {}
            Some(Proxy::Command(c)) => command = c,
            Some(Proxy::Jump(hosts)) => {
                let one = |j: &Jump| {
                    let user = j.user.as_ref().map_or_else(String::new, |u| format!("{u}@"));
                    let port = j.port.map_or_else(String::new, |p| format!(":{p}"));
                    format!("{user}{}{port}", j.host)
                };
                jump = hosts.iter().map(one).collect::<Vec<_>>().join(",");
            }
        }
        assert_eq!(one("proxyjump"), jump, "{shown}");
        assert_eq!(one("proxycommand"), command, "{shown}");
        for key in
            ["hostkeyalias", "userknownhostsfile", "identityagent", "addressfamily", "stricthostkeychecking"]
        {
            if let Some(setting) = found.setting(key) {
                let ours = setting.words.join(" ");
                let ours =
                    if key == "stricthostkeychecking" && ours == "yes" { "true".to_owned() } else { ours };
                assert_eq!(one(key), ours, "{key} {shown}");
            }
        }
        for key in ["serveraliveinterval", "connecttimeout"] {
            if let Some(seconds) = found.seconds(key).unwrap() {
                assert_eq!(one(key), seconds.to_string(), "{key} {shown}");
            }
        }
        compared += 1;
    }
    assert!(compared > 30, "only {compared} configurations were good");
}

fn some_config(random: &mut fastrand::Rng) -> String {
    let pick = |random: &mut fastrand::Rng, all: &[&str]| all[random.usize(..all.len())].to_owned();
    let mut text = String::new();
    for _ in 0..random.usize(4..16) {
        let line = match random.usize(..15) {
            0 | 1 => format!(
                "Host {}",
                pick(random, &["*", "alpha", "a* !a.lan", "!beta *", "10.0.?.7 gamma", "\"alpha\" beta"])
            ),
            2 => format!(
                "Match {}",
                pick(
                    random,
                    &[
                        "all",
                        "host *.lan",
                        "!host alpha",
                        "originalhost alpha,beta user core",
                        "final",
                        "user root",
                        "canonical all"
                    ]
                )
            ),
            3 => format!("HostName {}", pick(random, &["%h.lan", "10.1.2.3", "Real.Example.org"])),
            4 => format!("Port{}", pick(random, &[" 2222", "=2200", " = 22"])),
            5 => format!("User {}", pick(random, &["core", "root", "\"ad min\""])),
            6 => format!("IdentityFile {}", pick(random, &["~/.ssh/a", "/k/%r", "\"/k/b c\""])),
            7 => format!("ProxyJump {}", pick(random, &["none", "bastion", "u@b:2222,c", "a,b"])),
            8 => format!("ProxyCommand {}", pick(random, &["none", "nc %h %p", "ssh -W \"%h:%p\" x"])),
            9 => format!("HostKeyAlias {}", pick(random, &["one", "two"])),
            10 => format!("UserKnownHostsFile {}", pick(random, &["/kh/a /kh/b", "/kh/c", "none"])),
            11 => format!("ServerAliveInterval {}", pick(random, &["5", "1m", "1h1s"])),
            12 => format!("CertificateFile {}", pick(random, &["/c/a", "/c/b"])),
            13 => format!("StrictHostKeyChecking {}", pick(random, &["yes", "accept-new"])),
            _ => format!("  AddressFamily {}  # comment", pick(random, &["inet", "inet6", "any"])),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(?s)[a-zA-Z0-9 =*!?%~\"'#,:@/\\[\\]\n\t\\\\$\\{\\}-]{0,300}", host in "[a-z0-9.:-]{1,20}") {
        let text = format!("Host a*\n{text}\nMatch host b* user x\nProxyJump {text}\n");
        if let Ok(config) = SshConfig::parse(&text, Path::new("cfg"), None) {
            let _ = config.resolve(&Query { host, given: Vec::new() }, &who());
        }
    }
}
