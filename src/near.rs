//! What somebody meant who misspelled a word.

/// How much alike words are that may be meant for each other; 1 is the same.
const LIKE: f64 = 0.85;

/// The most like of the words that are known, if any is like enough. Upper and lower case are alike.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let like = |other: &'a str| (strsim::jaro_winkler(&other.to_lowercase(), &word), other);
    let best = known.into_iter().map(like).filter(|(like, _)| *like >= LIKE);
    best.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, other)| other)
}

/// A question for the end of what is told about a word.
pub(crate) fn did_you_mean(word: &str, known: &[&str]) -> String {
    nearest(word, known.iter().copied()).map(|other| format!(" (did you mean {other}?)")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_other_words_are_left_alone() {
        let runtimes = ["auto", "containerd", "k3s", "rke2", "docker", "podman", "image-folder"];
        for (word, meant) in [
            ("containrd", Some("containerd")),
            ("Containerd", Some("containerd")),
            ("dokcer", Some("docker")),
            ("imagefolder", Some("image-folder")),
            ("runc", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, runtimes), meant, "{word}");
        }
        assert_eq!(
            nearest("wep.bundle.tar", ["notes.txt", "web.bundle.tar", "db.tar"]),
            Some("web.bundle.tar")
        );
        assert_eq!(did_you_mean("prot", &["name", "port"]), " (did you mean port?)");
    }
}
