//! The registry client against Debian's docker-registry: plain, with a login, and with TLS of its own authority.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use omk::copy::{Job, Transfer, copy_all};
use omk::event::silent;
use omk::graph::ImageGraph;
use omk::oci::{Descriptor, Digest, ImageRef};
use omk::registry::{Credentials, Login, Registry, RegistryError, RegistryOptions, Secret};
use omk::serve::{Access, ServeOptions};
use omk::store::{BlobSource, MemoryStore};
use tokio_util::sync::CancellationToken;

use crate::images::{image, index, noise, serve, write_layout};

const TOOLS: [&str; 4] = ["docker-registry", "skopeo", "openssl", "htpasswd"];

/// False where the tools are missing: the test is to return. Panics instead when `OMK_REQUIRE_LAB=1`.
pub(crate) fn required() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |tool: &&&str| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    let missing: Vec<&str> = TOOLS.iter().filter(|t| !there(t)).copied().collect();
    if missing.is_empty() {
        return true;
    }
    let must = std::env::var_os("OMK_REQUIRE_LAB").is_some_and(|v| v == "1");
    assert!(!must, "these are required: {}", missing.join(", "));
    eprintln!("SKIPPED: not installed: {}", missing.join(", "));
    false
}

pub(crate) fn run(program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

pub(crate) enum Kind {
    Plain,
    Login,
    Tls,
    /// TLS for those alone who have a certificate, `client.crt`.
    Mutual,
}

/// A running docker-registry with one image, `lab/web:1`.
pub(crate) struct Real {
    pub(crate) address: SocketAddr,
    pub(crate) process: Child,
    pub(crate) folder: tempfile::TempDir,
    store: MemoryStore,
    pub(crate) root: Descriptor,
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Real {
    pub(crate) fn start(kind: &Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let extra = match kind {
            Kind::Plain => String::new(),
            Kind::Login => {
                std::fs::write(at("htpasswd"), run("htpasswd", &["-Bbn", "lab", "lab-secret"])).unwrap();
                format!("auth: {{htpasswd: {{realm: lab, path: {}}}}}\n", at("htpasswd"))
            }
            Kind::Tls | Kind::Mutual => String::new(),
        };
        let tls = match kind {
            Kind::Tls => {
                certificates(folder.path());
                format!(", tls: {{certificate: {}, key: {}}}", at("server.crt"), at("server.key"))
            }
            Kind::Mutual => {
                certificates(folder.path());
                format!(
                    ", tls: {{certificate: {}, key: {}, clientcas: [{}]}}",
                    at("server.crt"),
                    at("server.key"),
                    at("ca.crt")
                )
            }
            _ => String::new(),
        };
        // A port that is free now may be taken in a moment: then the registry ends and another one is tried.
        let (address, process) = (0..5)
            .find_map(|_| {
                let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
                let config = format!(
                    "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
                     storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}{tls}}}\n{extra}",
                    at("data")
                );
                std::fs::write(at("config.yml"), config).unwrap();
                let process = Command::new("docker-registry")
                    .args(["serve", &at("config.yml")])
                    .env("OTEL_TRACES_EXPORTER", "none")
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                up(address, process).map(|process| (address, process))
            })
            .expect("docker-registry does not start");
        let store = MemoryStore::new();
        let amd = image(&store, "linux/amd64", &[&noise(1, 2_000_000), &noise(2, 5_000)]);
        let arm = image(&store, "linux/arm64", &[&noise(3, 5_000)]);
        let root = index(&store, &[amd, arm]);
        let real = Self { address, process, folder, store, root };
        if !matches!(kind, Kind::Mutual) {
            real.push();
        }
        real
    }

    /// With Skopeo, as anybody would.
    fn push(&self) {
        let layout = self.folder.path().join("layout");
        write_layout(&layout, &self.store, &self.root);
        let (from, to) =
            (format!("oci:{}:latest", layout.display()), format!("docker://{}/lab/web:1", self.address));
        let options = ["copy", "--all", "--preserve-digests", "--dest-tls-verify=false"];
        let login = ["--dest-creds", "lab:lab-secret"];
        run("skopeo", &[&options[..], &login, &[&from, &to]].concat());
    }

    /// Without any warning.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Started again with the same data at the same address.
    pub(crate) fn restart_after(&self, pause: Duration) -> std::thread::JoinHandle<Child> {
        let (config, address) = (self.folder.path().join("config.yml"), self.address);
        std::thread::spawn(move || {
            std::thread::sleep(pause);
            let serve = Command::new("docker-registry")
                .arg("serve")
                .arg(config)
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            up(address, serve).unwrap()
        })
    }

    fn name(&self) -> ImageRef {
        format!("{}/lab/web:1", self.address).parse().unwrap()
    }

    fn options(&self) -> RegistryOptions {
        RegistryOptions { plain_http: vec![self.address.to_string()], ..RegistryOptions::default() }
    }

    fn login(&self, password: &str) -> Credentials {
        let login = Login { user: "lab".to_owned(), password: Secret::new(password) };
        Credentials::anonymous().with_login(&self.address.to_string(), login)
    }

    async fn graph(&self, options: RegistryOptions) -> Result<(Registry, ImageGraph), RegistryError> {
        let client = Registry::new(options)?;
        let graph = client.graph(&self.name(), &[], &silent(), &CancellationToken::new()).await?;
        Ok((client, graph))
    }

    /// Pulls everything and compares it with what was pushed.
    async fn pull(&self, options: RegistryOptions) {
        let (client, graph) = self.graph(options).await.unwrap();
        assert_eq!(graph.root.digest(), self.root.digest());
        assert_eq!(graph.images.len(), 2);
        let target = MemoryStore::new();
        let source: Arc<dyn BlobSource> = Arc::new(client.repository(&self.name(), &silent()));
        let transfers =
            graph.blobs.iter().map(|b| Transfer { blob: b.clone(), source: Arc::clone(&source) }).collect();
        let job = Job { events: silent(), cancel: CancellationToken::new(), node: None, parallel: 4 };
        copy_all(transfers, &target, &job).await.unwrap();
        for blob in &graph.blobs {
            assert_eq!(target.get(blob.digest()), self.store.get(blob.digest()));
        }
        let resolved = client.resolve(&self.name(), &silent(), &CancellationToken::new()).await.unwrap();
        assert_eq!((resolved.digest(), resolved.size()), (self.root.digest(), self.root.size()));
    }
}

/// Waits until somebody listens; nothing when the process ended instead.
fn up(address: SocketAddr, mut process: Child) -> Option<Child> {
    for _ in 0..200 {
        if process.try_wait().unwrap().is_some() {
            return None;
        }
        if TcpStream::connect(address).is_ok() {
            return Some(process);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = process.kill();
    let _ = process.wait();
    None
}

/// `ca.crt`, and `server.crt` for 127.0.0.1 and `client.crt` signed by it.
pub(crate) fn certificates(folder: &Path) {
    let at = |name: &str| folder.join(name).display().to_string();
    authority(folder, "ca");
    let extensions =
        ["subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n", "extendedKeyUsage=clientAuth\n"];
    for (name, extension) in ["server", "client"].iter().zip(extensions) {
        let end = |end: &str| at(&format!("{name}.{end}"));
        let request = ["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=registry"];
        run("openssl", &[&request[..], &["-keyout", &end("key"), "-out", &end("csr")]].concat());
        std::fs::write(at("ext"), extension).unwrap();
        let sign = ["x509", "-req", "-days", "30", "-CAcreateserial", "-extfile"];
        let (ext, csr, crt, ca, key) = (at("ext"), end("csr"), end("crt"), at("ca.crt"), at("ca.key"));
        let files = [&ext, "-in", &csr, "-CA", &ca, "-CAkey", &key, "-out", &crt];
        run("openssl", &[&sign[..], &files].concat());
    }
}

fn authority(folder: &Path, name: &str) -> PathBuf {
    let crt = folder.join(format!("{name}.crt"));
    let key = folder.join(format!("{name}.key")).display().to_string();
    let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=own authority"];
    run("openssl", &[&new[..], &["-keyout", &key, "-out", &crt.display().to_string()]].concat());
    crt
}

#[tokio::test]
async fn plain_http_by_name() {
    if !required() {
        return;
    }
    let real = Real::start(&Kind::Plain);
    real.pull(real.options()).await;

    let (client, graph) = real.graph(real.options()).await.unwrap();
    let repository = client.repository(&real.name(), &silent());
    let layer = &graph.images[0].layers[0];
    let mut stream = repository.read(layer, 1_000_000..1_000_010).await.unwrap();
    let part = futures_util::StreamExt::next(&mut stream).await.unwrap().unwrap();
    assert_eq!(part, noise(1, 2_000_000)[1_000_000..1_000_010]);
    assert_eq!(repository.size(layer.digest()).await.unwrap(), Some(2_000_000));
    assert_eq!(repository.size(real.root.digest()).await.unwrap(), Some(real.root.size()));
    assert_eq!(repository.size(&Digest::sha256(b"nobody has this")).await.unwrap(), None);

    let error = real.graph(RegistryOptions::default()).await.unwrap_err().to_string();
    assert!(error.contains(&format!("pass --plain-http {}", real.address)), "{error}");
    let missing: ImageRef = format!("{}/lab/none:1", real.address).parse().unwrap();
    let error = client.graph(&missing, &[], &silent(), &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_login_by_hand_or_from_a_file() {
    if !required() {
        return;
    }
    let real = Real::start(&Kind::Login);
    real.pull(RegistryOptions { credentials: real.login("lab-secret"), ..real.options() }).await;

    // As `skopeo login` leaves it behind.
    let file = real.folder.path().join("auth.json");
    let login = ["login", "--tls-verify=false", "-u", "lab", "-p", "lab-secret", "--authfile"];
    run("skopeo", &[&login[..], &[&file.display().to_string(), &real.address.to_string()]].concat());
    let credentials = Credentials::anonymous().with_file(&file);
    real.pull(RegistryOptions { credentials, ..real.options() }).await;

    let error = real.graph(real.options()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
    let wrong = RegistryOptions { credentials: real.login("wrong-secret"), ..real.options() };
    let error = real.graph(wrong).await.unwrap_err().to_string();
    assert!(error.contains("was refused") && !error.contains("wrong-secret"), "{error}");
}

#[tokio::test]
async fn tls_with_an_authority_of_its_own() {
    if !required() {
        return;
    }
    let real = Real::start(&Kind::Tls);
    let options = |names: &[&str]| RegistryOptions {
        ca_files: names.iter().map(|n| real.folder.path().join(n)).collect(),
        ..RegistryOptions::default()
    };
    authority(real.folder.path(), "other");
    real.pull(options(&["ca.crt"])).await;
    real.pull(options(&["other.crt", "ca.crt"])).await;

    for wrong in [&[][..], &["other.crt"]] {
        let error = real.graph(options(wrong)).await.unwrap_err();
        assert!(matches!(error, RegistryError::Tls { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains("pass --registry-ca FILE"), "{error}");
        assert!(wrong.iter().all(|name| error.contains(name)), "{error}");
    }
    let no_pem = real.folder.path().join("ext");
    let error = Registry::new(RegistryOptions { ca_files: vec![no_pem], ..RegistryOptions::default() });
    assert!(matches!(error, Err(RegistryError::CaFile { .. })));
    let error = real.graph(real.options()).await.unwrap_err().to_string();
    assert!(error.contains("leave out --plain-http"), "{error}");
}

#[tokio::test]
async fn a_registry_that_comes_back_is_waited_for() {
    if !required() {
        return;
    }
    let mut real = Real::start(&Kind::Plain);
    let (client, graph) = real.graph(real.options()).await.unwrap();
    real.process.kill().unwrap();
    real.process.wait().unwrap();
    let (config, address) = (real.folder.path().join("config.yml"), real.address);
    let restart = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(700));
        let serve =
            Command::new("docker-registry").arg("serve").arg(config).stdin(Stdio::null()).spawn().unwrap();
        up(address, serve).unwrap()
    });
    let layer = graph.images[0].layers[0].clone();
    let read = omk::store::read_verified(&client.repository(&real.name(), &silent()), &layer, 1 << 22).await;
    real.process = restart.await.unwrap();
    assert_eq!(read.unwrap().len(), 2_000_000);
}

/// The other way round: what skopeo reads from our registry is what is in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_reads_from_our_registry() {
    if !required() {
        return;
    }
    let store = MemoryStore::new();
    let root = image(&store, "linux/amd64", &[&noise(1, 2_000_000), &noise(2, 5_000)]);
    let login = Some(("lab".to_owned(), "lab-secret".to_owned()));
    let access = Access::Bearer { login, lifetime: Duration::from_secs(60) };
    let server = serve(&store, &root, ServeOptions { access, ..ServeOptions::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let (from, to) =
        (format!("docker://{}/lab/web:1", server.addr()), format!("dir:{}", folder.path().display()));
    let options = ["copy", "--preserve-digests", "--src-tls-verify=false", "--src-creds", "lab:lab-secret"];
    run("skopeo", &[&options[..], &[&from, &to]].concat());
    for digest in store.digests() {
        let name = if digest == *root.digest() { "manifest.json" } else { digest.hex() };
        assert_eq!(std::fs::read(folder.path().join(name)).unwrap(), store.get(&digest).unwrap(), "{name}");
    }
}

/// `omk`, with nothing of this machine's logins.
pub(crate) fn omk(home: &Path, args: &[&str], stdin: &str) -> std::process::Output {
    use std::io::Write as _;
    let mut command = Command::new(env!("CARGO_BIN_EXE_omk"));
    command.args(args).env_clear().env("HOME", home).env("PATH", home.join("bin"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub(crate) fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn login_tries_keeps_and_forgets() {
    if !required() {
        return;
    }
    let real = Real::start(&Kind::Login);
    let (home, registry) = (tempfile::tempdir().unwrap(), real.address.to_string());
    let login = ["login", &registry, "-u", "lab", "--plain-http", "--password-stdin"];
    let wrong = omk(home.path(), &login, "wrong-secret");
    assert_eq!(wrong.status.code(), Some(1), "{}", said(&wrong));
    assert!(
        said(&wrong).contains("was refused") && !said(&wrong).contains("wrong-secret"),
        "{}",
        said(&wrong)
    );
    assert!(!home.path().join(".docker/config.json").exists(), "what was refused is not kept");

    let image = format!("{registry}/lab/web:1");
    let lock = home.path().join("lock").display().to_string();
    let ask = ["image", "discover", "--image", &image, "--lock", &lock, "--plain-http", &registry];
    let refused = omk(home.path(), &ask, "");
    assert_ne!(refused.status.code(), Some(0), "a login is needed");
    // What the message suggests is what works: the form alone, and with the host, as other commands take it.
    let hint = format!("run `omk login {registry} -u NAME --password-stdin --plain-http`");
    assert!(said(&refused).contains(&hint), "{}", said(&refused));
    let bare = omk(home.path(), &["login", &registry, "-u", "lab", "--password-stdin"], "lab-secret");
    assert!(said(&bare).contains(&format!("pass --plain-http {registry}")), "{}", said(&bare));
    let named = ["login", "-u", "lab", "--password-stdin", "--plain-http", &registry];
    let named = omk(home.path(), &named, "lab-secret");
    assert_eq!(named.status.code(), Some(0), "{}", said(&named));
    let good = omk(home.path(), &login, "lab-secret\n");
    assert_eq!(good.status.code(), Some(0), "{}", said(&good));
    assert!(!said(&good).contains("lab-secret"));
    let asked = omk(home.path(), &ask, "");
    assert_eq!(asked.status.code(), Some(0), "{}", said(&asked));
    // Skopeo reads what omk keeps.
    let file = home.path().join(".docker/config.json").display().to_string();
    run("skopeo", &["inspect", "--tls-verify=false", "--authfile", &file, &format!("docker://{image}")]);

    let out = omk(home.path(), &["logout", &registry], "");
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert_ne!(omk(home.path(), &ask, "").status.code(), Some(0));
    assert_eq!(omk(home.path(), &["logout", &registry], "").status.code(), Some(1), "there is none any more");
}

#[test]
fn a_login_goes_into_the_helper_that_the_file_names() {
    use std::os::unix::fs::PermissionsExt as _;
    if !required() {
        return;
    }
    let real = Real::start(&Kind::Login);
    let (home, registry) = (tempfile::tempdir().unwrap(), real.address.to_string());
    for folder in ["bin", ".docker"] {
        std::fs::create_dir(home.path().join(folder)).unwrap();
    }
    let helper = format!(
        "#!/bin/sh\nkept={}/kept\ncase $1 in\nstore) /bin/cat > $kept ;;\nerase) /bin/rm $kept ;;\n\
         get) [ -f $kept ] && /bin/cat $kept || {{ echo credentials not found in native keychain; exit 1; }} ;;\nesac\n",
        home.path().display()
    );
    let path = home.path().join("bin/docker-credential-test");
    std::fs::write(&path, helper).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = home.path().join(".docker/config.json");
    std::fs::write(&file, r#"{"credsStore": "test"}"#).unwrap();

    let login = ["login", &registry, "-u", "lab", "--plain-http", "--password-stdin", "-o", "json"];
    let good = omk(home.path(), &login, "lab-secret");
    assert_eq!(good.status.code(), Some(0), "{}", said(&good));
    assert!(said(&good).contains("docker-credential-test"), "{}", said(&good));
    assert!(!std::fs::read_to_string(&file).unwrap().contains("lab-secret"));
    let lock = home.path().join("lock").display().to_string();
    let image = format!("{registry}/lab/web:1");
    let ask = ["image", "discover", "--image", &image, "--lock", &lock, "--plain-http", &registry];
    let asked = omk(home.path(), &ask, "");
    assert_eq!(asked.status.code(), Some(0), "{}", said(&asked));
    assert_eq!(omk(home.path(), &["logout", &registry], "").status.code(), Some(0));
    assert!(!home.path().join("kept").exists());
}

#[tokio::test]
async fn pull_secrets_and_providers_log_in() {
    use std::os::unix::fs::PermissionsExt as _;
    if !required() {
        return;
    }
    let real = Real::start(&Kind::Login);
    let secret = real.folder.path().join("secret.yaml");
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: pull, namespace: web}}\ntype: kubernetes.io/dockerconfigjson\n\
         stringData:\n  .dockerconfigjson: '{{\"auths\": {{\"127.0.0.*:{}\": {{\"username\": \"lab\", \"password\": \"lab-secret\"}}}}}}'\n",
        real.address.port()
    );
    std::fs::write(&secret, text).unwrap();
    let credentials = Credentials::anonymous().with_pull_secrets(&secret);
    real.pull(RegistryOptions { credentials, ..real.options() }).await;

    let config = real.folder.path().join("providers.yaml");
    let version = "credentialprovider.kubelet.k8s.io/v1";
    let text = format!(
        "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- name: lab\n  \
         matchImages: ['{}']\n  apiVersion: {version}\n  defaultCacheDuration: 1h\n",
        real.address
    );
    std::fs::write(&config, text).unwrap();
    let program = format!(
        "#!/bin/sh\necho '{{\"kind\":\"CredentialProviderResponse\",\"apiVersion\":\"{version}\",\"cacheKeyType\":\"Registry\",\
         \"auth\":{{\"{}\":{{\"username\":\"lab\",\"password\":\"lab-secret\"}}}}}}'\n",
        real.address
    );
    let (source, path) = (real.folder.path().join("source"), real.folder.path().join("lab"));
    std::fs::write(&source, program).unwrap();
    std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o755)).unwrap();
    run("cp", &["-p", &source.display().to_string(), &path.display().to_string()]);
    let providers = omk::registry::Providers::read(&config, real.folder.path()).unwrap();
    let credentials = Credentials::anonymous().with_providers(providers);
    real.pull(RegistryOptions { credentials, ..real.options() }).await;
}
