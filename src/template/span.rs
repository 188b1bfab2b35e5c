//! Go's `time.Duration` as text.

use super::clock::SECOND;

/// `time.ParseDuration`, in nanoseconds.
///
/// # Errors
///
/// In Go's words.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    use super::fmt::quote;
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(r) => (true, r),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0i128;
    while !rest.is_empty() {
        let n = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (whole, part) = rest[..n].split_once('.').unwrap_or((&rest[..n], ""));
        if (whole.is_empty() && part.is_empty()) || part.contains('.') || whole.len() > 19 {
            return Err(invalid());
        }
        rest = &rest[n..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        if unit == 0 {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let scale: i128 = match &rest[..unit] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            other => {
                return Err(format!("time: unknown unit {} in duration {}", quote(other), quote(text)));
            }
        };
        let number = |s: &str| if s.is_empty() { Ok(0) } else { s.parse::<i128>() };
        total += number(whole).map_err(|_| invalid())? * scale;
        let part = &part[..part.len().min(18)];
        let tenth = 10i128.pow(u32::try_from(part.len()).unwrap_or(0));
        total += number(part).map_err(|_| invalid())? * scale / tenth;
        rest = &rest[unit..];
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

/// `time.Duration.String`.
pub(crate) fn show_duration(ns: i64) -> String {
    if ns == 0 {
        return "0s".into();
    }
    let sign = if ns < 0 { "-" } else { "" };
    let n = ns.unsigned_abs();
    let decimal = |n: u64, unit: u64, suffix: &str| {
        let width = unit.ilog10() as usize;
        let part = format!("{:0width$}", n % unit);
        let part = if unit == 1 { "" } else { part.trim_end_matches('0') };
        let dot = if part.is_empty() { "" } else { "." };
        format!("{}{dot}{part}{suffix}", n / unit)
    };
    match n {
        0..1000 => format!("{sign}{n}ns"),
        1000..1_000_000 => format!("{sign}{}", decimal(n, 1000, "µs")),
        1_000_000..1_000_000_000 => format!("{sign}{}", decimal(n, 1_000_000, "ms")),
        _ => {
            let minutes = n / 60_000_000_000;
            let seconds = decimal(n % 60_000_000_000, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}"),
                (0, m) => format!("{sign}{m}m{seconds}"),
                (h, m) => format!("{sign}{h}h{m}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_go_both_ways() {
        for text in ["1h2m5s", "-1h30m0s", "1.5s", "250ms", "1.001µs", "7ns", "0s"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
        assert!(parse_duration("1").is_err() && parse_duration("").is_err() && parse_duration("1x").is_err());
    }
}
