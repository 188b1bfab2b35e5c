//! `.helmignore`, and the shell patterns that it and `--show-only` use.

/// The rules of a `.helmignore`.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    pattern: String,
    negate: bool,
    dir_only: bool,
    /// The whole path is matched, not only its last part.
    whole: bool,
}

impl Rules {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads the file; Helm's own rule against dot files in `templates/` comes last.
    ///
    /// # Errors
    ///
    /// With a reason, for `**`, which Helm refuses too.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Self::default();
        for line in text.trim_start_matches('\u{feff}').lines().chain(["templates/.?*"]) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.contains("**") {
                return Err(format!("double-star (**) syntax is not supported: {line}"));
            }
            let (negate, rest) = line.strip_prefix('!').map_or((false, line), |r| (true, r));
            let (dir_only, rest) = rest.strip_suffix('/').map_or((false, rest), |r| (true, r));
            let (whole, pattern) = match rest.strip_prefix('/') {
                Some(r) => (true, r),
                None => (rest.contains('/'), rest),
            };
            rules.0.push(Rule { pattern: pattern.to_owned(), negate, dir_only, whole });
        }
        Ok(rules)
    }

    /// Whether the rules leave out this path below the chart.
    pub(crate) fn ignore(&self, path: &str, is_dir: bool) -> bool {
        for rule in &self.0 {
            let name = if rule.whole { path } else { path.rsplit('/').next().unwrap_or(path) };
            let matched = matches(&rule.pattern, name);
            // As in Helm, a negated rule leaves out everything that it does not match.
            if rule.negate {
                if (rule.dir_only && !is_dir) || !matched {
                    return true;
                }
            } else if matched && (!rule.dir_only || is_dir) {
                return true;
            }
        }
        false
    }
}

/// Go's `filepath.Match`: `*` and `?` stop at `/`, `[a-z]` and `\x` work as in a shell.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    // Most patterns meet most names in vain, which their ends tell.
    let Some(special) = pattern.find(['*', '?', '[', '\\']) else { return pattern == name };
    let end = match pattern.contains(['[', '\\']) {
        true => "",
        false => pattern.rsplit(['*', '?']).next().unwrap_or_default(),
    };
    if !name.starts_with(&pattern[..special]) || !name.ends_with(end) {
        return false;
    }
    let (p, n): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // The place to go back to when a star has to take one more character.
    let mut back: Option<(usize, usize)> = None;
    let (mut i, mut j) = (0, 0);
    loop {
        let step = match p.get(i) {
            None if j == n.len() => return true,
            Some('*') => {
                back = Some((i + 1, j));
                i += 1;
                continue;
            }
            Some(_) if j < n.len() => one(&p, i, n[j]),
            _ => None,
        };
        match (step, back) {
            (Some(next), _) => (i, j) = (next, j + 1),
            (None, Some((after, at))) if at < n.len() && n[at] != '/' => {
                back = Some((after, at + 1));
                (i, j) = (after, at + 1);
            }
            _ => return false,
        }
    }
}

/// Whether the element of the pattern at `i` takes `c`; where the next element starts.
fn one(p: &[char], i: usize, c: char) -> Option<usize> {
    match p[i] {
        '?' => (c != '/').then_some(i + 1),
        '\\' => (p.get(i + 1) == Some(&c)).then_some(i + 2),
        '[' => {
            let negated = p.get(i + 1) == Some(&'^');
            let mut at = i + 1 + usize::from(negated);
            let mut hit = false;
            let first = at;
            while *p.get(at)? != ']' || at == first {
                let low = p[at];
                let high = if p.get(at + 1) == Some(&'-') { *p.get(at + 2)? } else { low };
                hit |= (low..=high).contains(&c);
                at += if low == high && p.get(at + 1) != Some(&'-') { 1 } else { 3 };
            }
            (hit != negated && c != '/').then_some(at + 1)
        }
        x => (x == c).then_some(i + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, want) in [
            ("*.yaml", "a.yaml", true),
            ("*.yaml", "x/a.yaml", false),
            ("templates/*.yaml", "templates/a.yaml", true),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("*", "", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("ab*bc", "abc", false),
            ("ab*bc", "abbc", true),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("*c[*]", "abc*", true),
            ("*\\*", "ab*", true),
            ("*\\*", "abc", false),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn rules_leave_out_files_and_folders() {
        let rules = Rules::parse("# c\n.git/\n*.tmp\n/ci\n").unwrap();
        assert!(rules.ignore(".git", true) && !rules.ignore(".git", false));
        assert!(rules.ignore("a/b.tmp", false) && rules.ignore("ci", true) && !rules.ignore("a/ci", true));
        assert!(rules.ignore("templates/.x.yaml", false));
        assert!(Rules::parse("a/**").is_err());
    }
}
