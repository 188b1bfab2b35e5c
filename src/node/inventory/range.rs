//! Ranges in host names, as Ansible has them: `node[01:50]`, `rack[a:c]-[1:9:2]`.

/// Hosts that one pattern may stand for.
const MAX_HOSTS: usize = 10_000;

/// Every name that a pattern stands for, in its order; a name without a range stands for itself. The brackets of an IPv6
/// address (`[::1]`) are no range.
///
/// # Errors
/// A text on what is wrong with a range.
pub(super) fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let Some((before, range, after)) = first_range(pattern) else { return Ok(vec![pattern.to_owned()]) };
    let mut all = Vec::new();
    for middle in values(range).map_err(|why| format!("[{range}] in {pattern:?} is no range: {why}"))? {
        for rest in expand(after)? {
            all.push(format!("{before}{middle}{rest}"));
            if all.len() > MAX_HOSTS {
                return Err(format!("{pattern:?} stands for more than {MAX_HOSTS} hosts"));
            }
        }
    }
    Ok(all)
}

/// What is before, in and after the first brackets that hold a range.
fn first_range(pattern: &str) -> Option<(&str, &str, &str)> {
    let open = pattern.find('[')?;
    let close = open + pattern[open..].find(']')?;
    let inner = &pattern[open + 1..close];
    let is_address = inner.parse::<std::net::Ipv6Addr>().is_ok() || inner.contains("::");
    (inner.contains(':') && !is_address).then(|| (&pattern[..open], inner, &pattern[close + 1..]))
}

fn values(range: &str) -> Result<Vec<String>, String> {
    let parts: Vec<&str> = range.split(':').collect();
    let (start, end, step) = match parts[..] {
        [start, end] => (start, end, 1),
        [start, end, step] => (start, end, step.parse::<usize>().map_err(|_| "the step is no number")?),
        _ => return Err("write START:END or START:END:STEP".into()),
    };
    if step == 0 {
        return Err("the step is 0".into());
    }
    let letter = |text: &str| match text.as_bytes() {
        [b] if b.is_ascii_alphabetic() => Some(*b),
        _ => None,
    };
    if let (Some(first), Some(last)) = (letter(start), letter(end)) {
        if first > last || first.is_ascii_uppercase() != last.is_ascii_uppercase() {
            return Err("it ends before it begins".into());
        }
        return Ok((first..=last).step_by(step).map(|b| char::from(b).to_string()).collect());
    }
    // An empty start is 0, as with Ansible.
    let first: u64 =
        if start.is_empty() { 0 } else { start.parse().map_err(|_| "the start is no number")? };
    let last: u64 = end.parse().map_err(|_| "the end is no number")?;
    if first > last {
        return Err("it ends before it begins".into());
    }
    if last - first > (MAX_HOSTS * step) as u64 {
        return Err(format!("it is longer than {MAX_HOSTS} hosts"));
    }
    // Leading zeros of the start say how many digits all have.
    let width = if start.len() > 1 && start.starts_with('0') { start.len() } else { 0 };
    if width > 0 && end.len() != width {
        return Err(format!("write as many digits at its end as at its start, {}", start.len()));
    }
    Ok((first..=last).step_by(step).map(|n| format!("{n:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_ansible() {
        let all = |p: &str| expand(p).unwrap().join(" ");
        assert_eq!(all("node[08:11].lan"), "node08.lan node09.lan node10.lan node11.lan");
        assert_eq!(all("n[1:3]"), "n1 n2 n3");
        assert_eq!(all("n[0:6:3]"), "n0 n3 n6");
        assert_eq!(all("r[a:c]-[1:2]"), "ra-1 ra-2 rb-1 rb-2 rc-1 rc-2");
        assert_eq!(all("plain"), "plain");
        assert_eq!(all("[::1]"), "[::1]");
        assert_eq!(all("[fe80::1]"), "[fe80::1]");
        for bad in ["n[3:1]", "n[1:x]", "n[a:Z]", "n[1:2:0]", "n[001:10]", "n[0:99999999]", "n[1:200][1:200]"]
        {
            assert!(expand(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_expanded_or_refused(text in "[a-c0-3\\[\\]:.]{0,20}") {
            if let Ok(all) = expand(&text) {
                proptest::prop_assert!(!all.is_empty());
            }
        }
    }
}
