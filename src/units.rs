//! Numbers for people.

use std::time::Duration;

/// Bytes in decimal units, as disks and links are sold.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `500MiB`, `20GB`, `1.5G`, `4096`: kB and its like are powers of 1000, KiB and its like of 1024, a bare letter is
/// read as the former.
///
/// # Errors
/// What is no size, and how one is written.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: write for example 500MB, 20GiB or a number of bytes");
    let (number, unit) = split_unit(text);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit()) && t.len() <= 18;
    if whole.is_empty() || !digits(whole) || !digits(part) || (number.contains('.') && part.is_empty()) {
        return Err(wrong());
    }
    let total = whole.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(wrong)?;
    let scale = 10u128.pow(u32::try_from(part.len()).unwrap_or(0));
    let fraction = part.parse::<u128>().unwrap_or(0) * u128::from(factor) / scale;
    total.checked_add(u64::try_from(fraction).map_err(|_| wrong())?).ok_or_else(wrong)
}

/// `20MB/s`, `20MB`, `2.5MiB/s`, `200Mbit/s`: bytes a second, as [`parse_bytes`] reads them, or bits.
///
/// # Errors
/// What is no rate, and how one is written. 0 is none, nor is a number without a unit.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no rate: write for example 20MB/s or 200Mbit/s");
    let lower = text.trim().to_ascii_lowercase();
    let amount = lower.strip_suffix("/s").unwrap_or(&lower).trim_end();
    // Who writes 50 means anything but 50 bytes a second.
    if amount.ends_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("{text:?} has no unit: write {amount}MB/s, {amount}kB/s or {amount}Mbit/s"));
    }
    let rate = match amount.strip_suffix("bit") {
        Some(bits) => parse_bytes(bits).map_err(|_| wrong())? / 8,
        None => parse_bytes(amount).map_err(|_| wrong())?,
    };
    if rate == 0 { Err(wrong()) } else { Ok(rate) }
}

/// `30d`, `12h`, `90m`, `45s`, `2w`.
///
/// # Errors
/// What is no time, and how one is written.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("{text:?} is no time: write for example 30d, 12h, 90m or 45s");
    let (number, unit) = split_unit(text);
    let factor: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        "" if number == "0" => 1,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
    // A thousand years: what is added to or taken from a clock must stay one.
    let seconds = seconds.filter(|s| *s < 1000 * 366 * 24 * 3600).ok_or_else(wrong)?;
    Ok(std::time::Duration::from_secs(seconds))
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// `90s`, `5m`, `1h30m`, `250ms`, as Go writes them, whole numbers only; a bare number is seconds. `None` for anything
/// else, and for more than a `u64` of milliseconds.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()) {
        return rest.parse().ok().map(Duration::from_secs);
    }
    let mut all: Option<u64> = None;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = rest.split_at(digits);
        let letters = unit.bytes().take_while(u8::is_ascii_alphabetic).count();
        let factor = match &unit[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(factor)?;
        all = Some(all.unwrap_or(0).checked_add(part)?);
        rest = &unit[letters..];
    }
    all.map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_decimal() {
        for (n, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (1_000_000, "1.0 MB")]
        {
            assert_eq!(bytes(n), text);
        }
        assert_eq!(bytes(317_000_000), "317.0 MB");
    }

    #[test]
    fn sizes_are_read_as_they_are_sold() {
        for (text, n) in [
            ("0", 0),
            ("4096", 4096),
            ("20GB", 20_000_000_000),
            ("20g", 20_000_000_000),
            ("1.5 GiB", 1_610_612_736),
            ("500MiB", 524_288_000),
            ("0.25kB", 250),
        ] {
            assert_eq!(parse_bytes(text), Ok(n), "{text}");
        }
        for bad in ["", "GB", "1.", ".5G", "-1", "1e9", "5 apples", "99999999999999999999", "99999999TiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_read_in_bytes_and_bits() {
        for (text, n) in [
            ("20MB/s", 20_000_000),
            ("20MB", 20_000_000),
            ("1.5 MiB/s", 1_572_864),
            ("200Mbit/s", 25_000_000),
            ("1Gbit", 125_000_000),
            ("5000B/s", 5000),
        ] {
            assert_eq!(parse_rate(text), Ok(n), "{text}");
        }
        for bad in ["", "0", "0MB/s", "7bit", "50", "50/s", "fast", "200mbps", "20MB/h", "-1MB/s"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ages_are_read() {
        for (text, n) in
            [("30d", 2_592_000), ("12h", 43_200), ("90m", 5400), ("45s", 45), ("2w", 1_209_600), ("0", 0)]
        {
            assert_eq!(parse_duration(text).map(|d| d.as_secs()), Ok(n), "{text}");
        }
        for bad in ["", "30", "d", "1.5h", "-1d", "99999999999999d", "30days"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        let ms = |text: &str| duration(text).map(|d| d.as_millis());
        assert_eq!(ms("1h30m"), Some(5_400_000));
        assert_eq!(ms("12h0m0s"), Some(43_200_000));
        assert_eq!((ms("90"), ms("250ms"), ms("2d")), (Some(90_000), Some(250), Some(172_800_000)));
        for bad in ["", "s", "5", "5x", "-5s", "1.5h", "5m3", "99999999999999999999h"] {
            assert_eq!(ms(bad).is_none(), bad != "5", "{bad}");
        }
    }
}
