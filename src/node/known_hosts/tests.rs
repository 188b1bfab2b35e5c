use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use proptest::prelude::*;
use sha1::Sha1;

use super::*;

const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPPU72QhaXnSqRM5VLz+PF40NJDYzoHnjet3PFwstniH";
const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFQYl8RYscD/PaYRAmU2T9I6K/XQmz8nlJ+TSESRqxpd";
const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBDs+PQQVvroaR9DXF+xrB7XXQioQGRxUgFQDE6y2r43xGlLwghQ08PCxyXjg01NmTKgLCoED82MI5HERCjeGx1o=";
const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC5qMY6ArN3vRWmQFQHZhkj1d5gQvj/YmC79xILTsqiuri/mvczdEHnAOXA0LPiY6vjVLdFllLxcm9OuLPK08VNFpRun6xQyiPDxkBfJC00hlhhRVa+a970WFPGyxBbNSdWa5s4asatUVM/etGpcsvDKVE860HbMoZP+e3tX27aXUYBC2Jp+rm1bL9r/PrqSj13R6Fg7+u1mqengMJ8EGEXCQyUV6Cy48dlbIL+FoBRrA3OtGmGS91NeZ+kTrbBTVq2H/2GhRvYCmCKF/gX839Af69YXkeNHSuVONDvACmt2bbCp8Hu9gJjsaAq8S3HtnuHDBhSFkgC3T0+GeLF3UrP";
/// What `ssh-keygen -lf` prints for `ONE`.
const ONE_PRINT: &str = "SHA256:5nxSzvVrQomWyNCQPNrYvBSdMQ1BPnwFIjzCjzf8Wgs";
/// `node.example` and `[10.0.0.1]:2222` as `ssh-keygen -H` writes them.
const HASHED: [&str; 2] = [
    "|1|1wZCTvVeYcmWl1ABYr1YMBgnhg4=|pihZAoJ3E7HX3ZCZ9rzAzqvIXoI=",
    "|1|1W7vsqPSIoUejHZ5PVPvIdiwzQ8=|1Sg1QQwdS8AgTmUirUpnxnF9n5s=",
];

fn key(line: &str) -> PublicKey {
    PublicKey::from_openssh(line).unwrap()
}

fn hosts(text: &str) -> KnownHosts {
    let mut known = KnownHosts::new();
    known.parse(Path::new("kh"), text.as_bytes());
    known
}

fn check(text: &str, host: &str, port: u16) -> Verdict {
    hosts(text).check(host, port, &key(ONE))
}

fn unknown() -> Verdict {
    Verdict::Unknown { authority: false }
}

#[test]
fn plain_lists_and_ports() {
    let file = format!("# comment\n\na,B.example,10.0.0.1 {ONE} comment here\n[a]:2222 {TWO}\r\n");
    assert_eq!(check(&file, "a", 22), Verdict::Known);
    assert_eq!(check(&file, "b.EXAMPLE", 22), Verdict::Known);
    assert_eq!(check(&file, "10.0.0.1", 22), Verdict::Known);
    assert_eq!(check(&file, "c", 22), unknown());
    assert!(matches!(check(&file, "a", 2222), Verdict::Changed { .. }));
    // OpenSSH: "checking without port identifier".
    assert_eq!(check(&file, "a", 2223), Verdict::Known);
    assert_eq!(hosts(&file).check("a", 2223, &key(TWO)), unknown());
}

#[test]
fn wildcards_and_negation() {
    let file = format!("*.lan,!bad*.lan,10.0.?.1 {ONE}\n[*]:2222 {ONE}\n");
    assert_eq!(check(&file, "x.lan", 22), Verdict::Known);
    assert_eq!(check(&file, "10.0.7.1", 22), Verdict::Known);
    assert_eq!(check(&file, "10.0.77.1", 22), unknown());
    assert_eq!(check(&file, "bad1.lan", 22), unknown());
    assert_eq!(check(&file, "anything", 2222), Verdict::Known);
    assert_eq!(check(&format!("!a {ONE}\n"), "b", 22), unknown());
}

#[test]
fn hashed_names_are_those_of_ssh_keygen() {
    let file = format!("{} {ONE}\n{} {ONE}\n", HASHED[0], HASHED[1]);
    assert_eq!(check(&file, "node.example", 22), Verdict::Known);
    assert_eq!(check(&file, "10.0.0.1", 2222), Verdict::Known);
    assert_eq!(check(&file, "10.0.0.1", 22), unknown());
    assert_eq!(check(&file, "other.example", 22), unknown());
}

#[test]
fn revoked_wins_and_an_authority_is_no_key() {
    let file = format!("a {ONE}\n@revoked * {ONE}\n");
    assert!(matches!(check(&file, "a", 22), Verdict::Revoked { by } if by.line == 2));
    assert!(matches!(check(&file, "a", 2222), Verdict::Revoked { .. }));
    assert_eq!(check(&format!("@revoked * {TWO}\na {ONE}\n"), "a", 22), Verdict::Known);
    let authority = format!("@cert-authority *.lan {ONE}\n");
    assert_eq!(check(&authority, "x.lan", 22), Verdict::Unknown { authority: true });
}

#[test]
fn a_malformed_line_does_not_hide_the_others() {
    let file = format!(
        "a\nb ssh-ed25519\nc ssh-ed25519 AAAA\nd ssh-rsa {}\n|2|x|y {ONE}\n|1|x {ONE}\n@other a {ONE}\na {ONE}\n",
        &ONE[12..]
    );
    let known = hosts(&file);
    assert_eq!(known.check("a", 22, &key(ONE)), Verdict::Known);
    assert_eq!(known.warnings.len(), 7);
    assert!(known.warnings[0].starts_with("kh:1: skipped"), "{:?}", known.warnings);
}

#[test]
fn algorithms_begin_with_the_recorded_ones() {
    let names = |file: &str, port| {
        let all = hosts(file).algorithms("a", port);
        assert_eq!(all.len(), 6);
        all.iter().map(|a| a.as_str().to_owned()).take(2).collect::<Vec<_>>()
    };
    assert_eq!(names("", 22), ["ssh-ed25519", "ecdsa-sha2-nistp256"]);
    assert_eq!(names(&format!("a {RSA}\n"), 22), ["rsa-sha2-512", "rsa-sha2-256"]);
    assert_eq!(names(&format!("[a]:2222 {ECDSA}\n"), 2222), ["ecdsa-sha2-nistp256", "ssh-ed25519"]);
    assert_eq!(names(&format!("@revoked a {RSA}\n"), 22), ["ssh-ed25519", "ecdsa-sha2-nistp256"]);
}

#[test]
fn a_refusal_says_what_was_seen_and_what_to_do() {
    let presented = PublicKeyOrCertificate::from(key(ONE));
    let refusal = |file: &str| hosts(file).accept("a", 2222, &presented).unwrap_err().to_string();
    let text = refusal("");
    assert!(
        text.contains(ONE_PRINT)
            && text.contains("record the key: ssh-keyscan -p 2222 a >> kh (`--host-keys accept-new`"),
        "{text}"
    );
    assert!(text.contains("compare this fingerprint first"), "{text}");
    let text = refusal(&format!("\n[a]:2222 {TWO}\n"));
    let recorded = key(TWO).fingerprint(HashAlg::Sha256).to_string();
    assert!(text.contains(ONE_PRINT) && text.contains(&recorded) && text.contains("(kh:2);"), "{text}");
    let commands = ": ssh-keygen -R '[a]:2222' -f kh && ssh-keyscan -p 2222 a >> kh";
    assert!(text.ends_with(commands), "{text}");
    for shared in [format!("[a]:2222,b {TWO}\n"), format!("[*]:2222 {TWO}\n")] {
        let text = refusal(&shared);
        assert!(text.contains("(kh:1, a line that is for other hosts too);"), "{text}");
    }
    let text = refusal(&format!("@revoked * {ONE}\n"));
    assert!(text.contains("revoked") && text.contains("kh:1"), "{text}");
    let text = refusal(&format!("@cert-authority * {ONE}\n"));
    assert!(text.contains("@cert-authority"), "{text}");
}

/// The definition of the pattern language, without thought for time.
fn slow_glob(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.first(), name.first()) {
        (None, None) => true,
        (Some(b'*'), _) => {
            slow_glob(&pattern[1..], name) || (!name.is_empty() && slow_glob(pattern, &name[1..]))
        }
        (Some(p), Some(n)) if *p == b'?' || p == n => slow_glob(&pattern[1..], &name[1..]),
        _ => false,
    }
}

proptest! {
    #[test]
    fn matching_is_what_the_definition_says(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
        prop_assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), slow_glob(pattern.as_bytes(), name.as_bytes()));
    }

    #[test]
    fn any_bytes_are_survived_and_hide_nothing(
        before in prop::collection::vec(any::<u8>(), 0..200),
        after in "[ -~\n]{0,200}",
    ) {
        let mut file = before;
        file.extend_from_slice(format!("\na.example {ONE}\n{after}").as_bytes());
        let mut known = KnownHosts::new();
        known.parse(Path::new("kh"), &file);
        prop_assert_eq!(known.check("a.example", 22, &key(ONE)), Verdict::Known);
        prop_assert!(known.warnings.len() <= MAX_WARNINGS + 1);
    }

    #[test]
    fn a_revoked_line_wins_wherever_it_stands(at in 0usize..4, host in "[a-z]{1,8}") {
        let mut lines = vec![format!("{host} {ONE}"), format!("* {ONE}"), format!("{host} {TWO}")];
        lines.insert(at.min(lines.len()), format!("@revoked {host} {ONE}"));
        let revoked = matches!(check(&lines.join("\n"), &host, 22), Verdict::Revoked { .. });
        prop_assert!(revoked);
    }

    #[test]
    fn hashing_a_name_finds_that_name_only(name in "[a-z0-9.]{1,20}", other in "[a-z0-9.]{1,20}", salt: [u8; 20]) {
        let mac = Hmac::<Sha1>::new_from_slice(&salt).unwrap().chain_update(name.as_bytes());
        let hash = BASE64.encode(mac.finalize().into_bytes());
        let file = format!("|1|{}|{hash} {ONE}\n", BASE64.encode(salt));
        prop_assert_eq!(check(&file, &name, 22), Verdict::Known);
        prop_assume!(name != other);
        prop_assert_eq!(check(&file, &other, 22), unknown());
    }
}

#[test]
fn a_new_key_is_learned_once_and_a_changed_one_never() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ssh/known_hosts");
    let mut known = KnownHosts::load_all([file.clone()]).unwrap();
    let (one, two) = (PublicKeyOrCertificate::from(key(ONE)), PublicKeyOrCertificate::from(key(TWO)));
    let peer = |host, port| Peer { host, port, alias: None };
    let learn = Trust::AcceptNew { hashed: false };
    assert!(known.judge(&peer("a", 22), &one, Trust::Recorded).is_err());
    // Two connections to it have begun before either of them has a key.
    let other = known.clone();
    let said = known.judge(&peer("a", 22), &one, learn).unwrap();
    assert!(said.by.contains("new, recorded in"), "{said:?}");
    let event = Event::HostKeyRecorded {
        host: "a:22".into(),
        key: format!("ssh-ed25519 {ONE_PRINT}"),
        file: file.display().to_string(),
    };
    assert_eq!(said.recorded, Some(event));
    assert_eq!(other.judge(&peer("a", 22), &one, learn).unwrap().recorded, None, "it is told once");
    known.judge(&peer("a", 22), &one, Trust::Recorded).unwrap();
    let error = known.judge(&peer("a", 22), &two, learn).unwrap_err().to_string();
    assert!(error.contains("has changed"), "{error}");
    // The last line of a file that somebody else wrote may have no end.
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap().trim_end()).unwrap();
    known.judge(&peer("b", 2222), &two, Trust::AcceptNew { hashed: true }).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.starts_with(&format!("a {ONE}\n|1|")) && !text.contains("[b]"), "{text}");
    known = KnownHosts::load_all([file]).unwrap();
    assert_eq!(known.check("b", 2222, &key(TWO)), Verdict::Known);
    // Nothing is ever learned into what is no file.
    let nowhere = KnownHosts::load_all(["/dev/null".into()]).unwrap();
    let error = nowhere.judge(&peer("a", 22), &one, learn).unwrap_err().to_string();
    assert!(error.contains("no file"), "{error}");
}

#[test]
fn every_file_that_has_another_key_is_mended_and_a_folder_that_is_missing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let place = folder.path().display();
    for name in ["own", "all"] {
        std::fs::write(file(name), format!("a {TWO}\na {ECDSA}\n")).unwrap();
    }
    let presented = PublicKeyOrCertificate::from(key(ONE));
    let refusal = |known: KnownHosts, alias| {
        let peer = Peer { host: "a", port: 22, alias };
        known.judge(&peer, &presented, Trust::Recorded).unwrap_err().to_string()
    };
    let text = refusal(KnownHosts::load_all([file("own"), file("all")]).unwrap(), None);
    let commands = format!(
        ": ssh-keygen -R a -f {place}/own && ssh-keygen -R a -f {place}/all && ssh-keyscan -p 22 a >> {place}/own"
    );
    assert!(text.ends_with(&commands), "{text}");
    let none = || KnownHosts::load_all([file("new ssh/known_hosts")]).unwrap();
    let command = format!(
        "record the key: mkdir -p -m 700 '{place}/new ssh' && ssh-keyscan -p 22 a >> '{place}/new ssh/known_hosts' ("
    );
    let text = refusal(none(), None);
    assert!(text.contains(&command), "{text}");
    let text = refusal(none(), Some("workers"));
    assert!(text.contains("ssh-keyscan -p 22 a | sed 's|^[^ ]*|workers|' >> "), "{text}");
}

#[test]
fn an_alias_stands_for_host_and_port() {
    let known = hosts(&format!("workers {ONE}\n"));
    let peer = Peer { host: "10.0.0.9", port: 2222, alias: Some("Workers") };
    assert!(known.judge(&peer, &key(ONE).into(), Trust::Recorded).is_ok());
    assert_eq!(known.check("10.0.0.9", 2222, &key(ONE)), unknown());
}

#[test]
fn a_list_of_revoked_keys_counts_for_every_host_and_must_be_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("revoked");
    let mut known = hosts(&format!("a {ONE}\n"));
    std::fs::write(&file, format!("# gone\n{ONE}\n")).unwrap();
    known.load_revoked(&file).unwrap();
    assert!(matches!(known.check("a", 22, &key(ONE)), Verdict::Revoked { .. }));
    std::fs::write(&file, "nonsense\n").unwrap();
    assert!(known.load_revoked(&file).is_err());
    std::fs::write(&file, b"SSHKRL\n\0rest").unwrap();
    assert!(known.load_revoked(&file).unwrap_err().contains("is not read"));
}

#[test]
fn certificates_are_judged_by_authority_name_time_and_kind() {
    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::certificate::{Builder, CertType};

    let make = || PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
    let (authority, host, stranger) = (make(), make(), make());
    let line = |k: &PrivateKey| k.public_key().to_openssh().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let certificate = |by: &PrivateKey, kind, until: u64, principals: &[&str]| {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).unwrap();
        let mut builder =
            Builder::new(nonce, host.public_key().key_data().clone(), now - 100, until).unwrap();
        builder.cert_type(kind).unwrap().key_id("n1").unwrap();
        match principals {
            [] => {
                builder.all_principals_valid().unwrap();
            }
            all => {
                for principal in all {
                    builder.valid_principal(*principal).unwrap();
                }
            }
        }
        PublicKeyOrCertificate::from(builder.sign(by).unwrap())
    };
    let later = now + 1000;
    let good = certificate(&authority, CertType::Host, later, &["n1.lan", "n2*"]);
    let peer = |host| Peer { host, port: 2222, alias: None };
    let file = format!("@cert-authority *.lan,[*.lan]:* {}\n", line(&authority));
    let judge = |text: &str, host, c: &PublicKeyOrCertificate| {
        hosts(text).judge(&peer(host), c, Trust::Recorded).map_err(|e| e.to_string())
    };
    assert!(judge(&file, "n1.lan", &good).unwrap().by.contains("kh:1"));
    assert!(judge(&file, "N22.lan", &good).is_ok());
    for (text, host, certificate, told) in [
        (file.clone(), "n3.lan", &good, "it is for n1.lan"),
        (file.clone(), "n1.wan", &good, "no @cert-authority line"),
        (format!("@cert-authority * {}\n", line(&stranger)), "n1.lan", &good, "no @cert-authority line"),
        (
            file.clone() + &format!("@revoked * {}\n", line(&authority)),
            "n1.lan",
            &good,
            "authority is revoked",
        ),
        (file.clone() + &format!("@revoked * {}\n", line(&host)), "n1.lan", &good, "is revoked"),
        (
            file.clone(),
            "n1.lan",
            &certificate(&authority, CertType::Host, now - 1, &[]),
            "not valid at this time",
        ),
        (file.clone(), "n1.lan", &certificate(&authority, CertType::User, later, &["n1.lan"]), "a user's"),
    ] {
        let error = judge(&text, host, certificate).unwrap_err();
        assert!(error.contains(told), "{told}: {error}");
    }
    // The key inside is trusted where it is recorded itself.
    assert!(judge(&format!("* {}\n", line(&host)), "n9", &good).is_ok());
    let known = hosts(&file);
    assert!(!known.certificate_algorithms(&peer("n1.lan")).is_empty());
    assert!(known.certificate_algorithms(&peer("n1.wan")).is_empty());
}
