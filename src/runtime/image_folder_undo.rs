//! Undoing imports into an image folder: archives are the slots.
//!
//! A backup is a hard link to the archive that was replaced, beside it, with a name that no loader takes for an archive. A
//! runtime that has loaded an archive keeps the images: undoing puts back what it loads when it starts the next time.

use std::collections::BTreeMap;

use super::{ImageFolder, NodeFacts, RuntimeImage};
use crate::node::RemoteCommand;
use crate::oci::Digest;
use crate::runtime::reversible::{self, Changes, Reversible};
use crate::runtime::sections::PRELUDE;

impl ImageFolder {
    /// Where a run keeps the archive with this file name.
    pub(super) fn kept(&self, run: &str, file: &str) -> String {
        format!("{}/.{file}.{run}.bak", self.folder)
    }

    /// A file right in this folder.
    fn own(&self, path: &str) -> bool {
        let file = path.strip_prefix(&self.folder).and_then(|rest| rest.strip_prefix('/'));
        file.is_some_and(|f| !f.is_empty() && !f.contains('/') && f != "." && f != "..")
    }
}

impl Reversible for ImageFolder {
    fn root(&self) -> bool {
        self.root
    }

    fn slots(&self, facts: &NodeFacts) -> BTreeMap<String, Option<Digest>> {
        let mut slots: BTreeMap<String, Option<Digest>> =
            facts.archives.keys().map(|path| (path.clone(), None)).collect();
        for image in facts.names.values() {
            if let Some(path) = &image.archive {
                slots.insert(path.clone(), Some(image.digest.clone()));
            }
        }
        slots
    }

    fn sets(&self, image: &RuntimeImage) -> Vec<String> {
        vec![format!("{}/{}", self.folder, self.archive(image))]
    }

    fn derives(&self, _: &RuntimeImage) -> Vec<String> {
        Vec::new()
    }

    fn derived(&self, _: &str) -> bool {
        false
    }

    fn backup(&self, run: &str, slot: &str) -> String {
        self.kept(run, slot.rsplit('/').next().unwrap_or_default())
    }

    fn backup_of<'a>(&self, slot: &'a str) -> Option<&'a str> {
        let file = slot.strip_prefix(&self.folder)?.strip_prefix("/.")?.strip_suffix(".bak")?;
        file.rsplit_once('.').map(|(_, run)| run)
    }

    fn change(&self, changes: &Changes) -> RemoteCommand {
        let script = format!(
            r#"{PRELUDE}e=0 t=$(printf '\t')
while IFS=$t read -r verb a b; do
  case $verb in
  restore) {{ ln -f "$b" "$a" || cp -p "$b" "$a"; }} 2>/dev/null || {{ echo "cannot put $a back" >&2; e=1; }} ;;
  remove) [ "$e" != 0 ] || rm -f -- "$a" || {{ echo "cannot remove $a" >&2; e=1; }} ;;
  esac
done
[ "$e" = 0 ] || exit 1
sync
echo ==changed
"#
        );
        RemoteCommand { stdin: reversible::orders(changes, |path| self.own(path)), ..self.command(script) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::reversible::Restore;

    #[test]
    fn nothing_outside_the_folder_is_touched() {
        let folder = ImageFolder::new("/srv/images", false);
        let backup = folder.backup("20261129-013000-ab12", "/srv/images/web_1-00ff.tar");
        assert_eq!(backup, "/srv/images/.web_1-00ff.tar.20261129-013000-ab12.bak");
        assert_eq!(folder.backup_of(&backup), Some("20261129-013000-ab12"));
        assert_eq!(folder.backup_of("/srv/images/web.tar"), None);
        let restore =
            |slot: &str| Restore { slot: slot.into(), backup: backup.clone(), labels: BTreeMap::new() };
        let changes = Changes {
            restore: vec![restore("/srv/images/web_1-00ff.tar"), restore("/etc/shadow")],
            remove: [
                "/srv/images/a b.tar",
                "/srv/images/../x",
                "/srv/images/sub/x",
                "/srv/imagesx/y",
                "/srv/images/..",
            ]
            .map(str::to_owned)
            .to_vec(),
            just_now: false,
        };
        let said = String::from_utf8(folder.change(&changes).stdin).unwrap();
        assert_eq!(
            said,
            format!("restore\t/srv/images/web_1-00ff.tar\t{backup}\nremove\t/srv/images/a b.tar\n")
        );
    }
}
