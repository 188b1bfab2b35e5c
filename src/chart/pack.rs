//! Charts as archives: what `helm package` makes, but of the same files always the same bytes.

use std::io::{BufReader, Write as _};
use std::path::Path;

use super::load::{self, Left};
use super::{Chart, ChartError, ChartFile};

/// Packs the files of a chart, with further archives into its `charts/` folder.
///
/// Entries are sorted and have neither times nor owners, so that a bundle of the same chart is the same bundle.
///
/// # Errors
/// As [`super::load`] for a folder or archive that is no chart.
pub(crate) fn pack(path: &Path, chart: &Chart, further: &[(String, Vec<u8>)]) -> Result<Vec<u8>, ChartError> {
    let mut left = Left::new();
    let files = if path.is_dir() {
        load::folder(path, &mut left)?
    } else {
        let file = std::fs::File::open(path).map_err(load::io(path))?;
        load::unpack(path, BufReader::new(file), &mut left)?
    };
    archive(path, &chart.metadata.name, files, further)
}

/// [`pack`] of an archive in memory; `place` stands for it in errors.
///
/// # Errors
/// As there.
pub(crate) fn repack(
    place: &Path,
    bytes: &[u8],
    chart: &Chart,
    further: &[(String, Vec<u8>)],
) -> Result<Vec<u8>, ChartError> {
    let files = load::unpack(place, bytes, &mut Left::new())?;
    archive(place, &chart.metadata.name, files, further)
}

fn archive(
    place: &Path,
    name: &str,
    files: Vec<ChartFile>,
    further: &[(String, Vec<u8>)],
) -> Result<Vec<u8>, ChartError> {
    let mut all: Vec<(String, &[u8])> = files.iter().map(|f| (f.name.clone(), f.data.as_slice())).collect();
    all.extend(further.iter().map(|(file, bytes)| (format!("charts/{file}"), bytes.as_slice())));
    // Chart.yaml first, as readers that stop there like it; then by name.
    all.sort_by(|a, b| (a.0 != "Chart.yaml", &a.0).cmp(&(b.0 != "Chart.yaml", &b.0)));
    let pack = || -> std::io::Result<Vec<u8>> {
        let gz = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::default());
        let mut tar = tar::Builder::new(gz);
        for (file, data) in &all {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            tar.append_data(&mut header, format!("{name}/{file}"), *data)?;
        }
        let mut gz = tar.into_inner()?;
        gz.flush()?;
        gz.finish()
    };
    pack().map_err(load::io(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_twice_gives_the_same_bytes_and_the_same_chart() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("web");
        std::fs::create_dir_all(root.join("templates")).unwrap();
        std::fs::write(root.join("Chart.yaml"), "apiVersion: v2\nname: web\nversion: 1.0.0\n").unwrap();
        std::fs::write(root.join("templates/p.yaml"), "kind: Pod\n").unwrap();
        std::fs::write(root.join("secret.txt"), "x").unwrap();
        std::fs::write(root.join(".helmignore"), "secret.txt\n").unwrap();
        let chart = super::super::load(&root).unwrap();
        let sub = {
            let common = dir.path().join("common");
            std::fs::create_dir_all(&common).unwrap();
            std::fs::write(common.join("Chart.yaml"), "apiVersion: v2\nname: common\nversion: 0.1.0\n")
                .unwrap();
            pack(&common, &super::super::load(&common).unwrap(), &[]).unwrap()
        };
        let further = [("common-0.1.0.tgz".to_owned(), sub)];
        let first = pack(&root, &chart, &further).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5));
        std::fs::write(root.join("templates/p.yaml"), "kind: Pod\n").unwrap();
        assert_eq!(pack(&root, &chart, &further).unwrap(), first);
        let again = super::super::load_archive("web", &first).unwrap();
        assert_eq!(again.templates.len(), 1);
        assert_eq!(again.dependencies[0].metadata.name, "common");
        assert!(again.files.iter().all(|f| f.name != "secret.txt"));
        assert_eq!(repack(Path::new("web"), &first, &again, &[]).unwrap(), first);
    }
}
