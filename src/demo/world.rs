//! Everything that a demonstration needs, in one folder and one process: a registry with images, two nodes behind
//! SSH, a chart, a manifest, an inventory.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::{Environment, context};
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};

use super::images::{self, MadeImage};
use super::sshd;
use crate::oci::Platform;
use crate::serve::{Catalog, ServeOptions, Server};
use crate::store::MemoryStore;

/// The chart, as it lies in the source tree below `templates/demo/chart`.
const CHART: [(&str, &str); 5] = [
    ("chart/Chart.yaml", include_str!("../../templates/demo/chart/Chart.yaml")),
    ("chart/values.yaml", include_str!("../../templates/demo/chart/values.yaml")),
    ("chart/templates/_helpers.tpl", include_str!("../../templates/demo/chart/templates/_helpers.tpl")),
    ("chart/templates/web.yaml", include_str!("../../templates/demo/chart/templates/web.yaml")),
    ("chart/templates/api.yaml", include_str!("../../templates/demo/chart/templates/api.yaml")),
];
const MANIFEST: &str = include_str!("../../templates/demo/backup.yaml");
const INVENTORY: &str = include_str!("../../templates/demo/nodes.yaml");

/// Names of the nodes.
pub const NODES: [&str; 2] = ["node-1", "node-2"];

/// The running world. Dropped, its servers stop; the folder is the caller's.
#[derive(Debug)]
pub struct World {
    registry: Server,
    nodes: Vec<sshd::Server>,
    store: MemoryStore,
    catalog: Catalog,
    platform: Platform,
}

impl World {
    /// Makes the images, starts the servers, and writes `chart/`, `backup.yaml`, `nodes.yaml`, `known_hosts` and a
    /// key into `folder`.
    ///
    /// # Errors
    /// When a port or a file cannot be had.
    pub async fn start(folder: &Path) -> std::io::Result<Self> {
        let platform = Platform::new("linux", std::env::consts::ARCH, None);
        let (store, catalog) = (MemoryStore::new(), Catalog::new());
        let made = {
            let (store, platform) = (store.clone(), platform.clone());
            tokio::task::spawn_blocking(move || images::first_release(&store, &platform)).await??
        };
        made.iter().for_each(|m| catalog.tag(m.repository, m.tag, m.root.clone()));
        let registry =
            Server::bind("127.0.0.1:0", Arc::new(store.clone()), catalog.clone(), ServeOptions::default())
                .await?;
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519)
            .map_err(std::io::Error::other)?;
        let mut world = Self { registry, nodes: Vec::new(), store, catalog, platform };
        for (path, text) in CHART {
            write(&folder.join(path), text)?;
        }
        write(
            &folder.join("backup.yaml"),
            &fill(MANIFEST, context! { registry => world.registry().to_string() })?,
        )?;
        world.write_key(&folder.join("id_demo"), &key)?;
        world.start_nodes(folder, &key).await?;
        Ok(world)
    }

    fn write_key(&self, path: &Path, key: &PrivateKey) -> std::io::Result<()> {
        use std::io::Write as _;
        let text = key.to_openssh(LineEnding::LF).map_err(std::io::Error::other)?;
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())
    }

    async fn start_nodes(&mut self, folder: &Path, key: &PrivateKey) -> std::io::Result<()> {
        let (mut entries, mut known_hosts) = (Vec::new(), String::new());
        for name in NODES {
            let home = node_folder(folder, name);
            let images = home.join("images");
            std::fs::create_dir_all(&images)?;
            let options = sshd::Options {
                authorized_key: key.public_key().clone(),
                folder: home.clone(),
                env: Vec::new(),
            };
            let server = sshd::Server::start(options).await?;
            known_hosts += &server.known_hosts_line();
            entries.push(context! {
                name,
                host => server.addr().ip().to_string(),
                port => server.addr().port(),
                identity => folder.join("id_demo").display().to_string(),
                images => images.display().to_string(),
                staging => home.join("staging").display().to_string(),
            });
            self.nodes.push(server);
        }
        write(&folder.join("nodes.yaml"), &fill(INVENTORY, context! { nodes => entries })?)?;
        write(&folder.join("known_hosts"), &known_hosts)
    }

    /// Where the registry listens, by plain HTTP.
    pub fn registry(&self) -> SocketAddr {
        self.registry.addr()
    }

    /// What the nodes run.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Publishes `shop/web:1.1`.
    ///
    /// # Errors
    /// Only if compressing in memory fails.
    pub fn release_patch(&self) -> std::io::Result<MadeImage> {
        let made = images::patch_release(&self.store, &self.platform)?;
        self.catalog.tag(made.repository, made.tag, made.root.clone());
        Ok(made)
    }

    /// Bytes that each node has received on the wire so far.
    pub fn received(&self) -> Vec<u64> {
        self.nodes.iter().map(sshd::Server::received).collect()
    }

    /// Ends the servers.
    pub async fn stop(self) {
        self.nodes.iter().for_each(sshd::Server::shutdown);
        self.registry.shutdown().await;
    }
}

/// What a node sees of the folder.
pub fn node_folder(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

fn fill(template: &str, values: minijinja::Value) -> std::io::Result<String> {
    Environment::new().render_str(template, values).map_err(std::io::Error::other)
}

/// Files of a folder that nobody else uses and that is thrown away: nothing to stage or sync.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, text)
}
