//! Go's `time` layouts: formatting, and the calendar behind that and behind reading.

mod read;

pub(crate) use read::parse;

/// Nanoseconds in a second.
pub(crate) const SECOND: i128 = 1_000_000_000;

/// What a zone says at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Zone {
    /// Seconds east of Greenwich.
    pub(crate) offset: i32,
    /// The abbreviation; empty where a time was read with an offset only.
    pub(crate) name: String,
}

impl Zone {
    pub(crate) fn utc() -> Self {
        Self { offset: 0, name: "UTC".into() }
    }
}

/// A calendar date and time of day.
pub(crate) struct Civil {
    pub(crate) year: i128,
    pub(crate) month: usize,
    pub(crate) day: u32,
    pub(crate) weekday: usize,
    pub(crate) yearday: u32,
    pub(crate) hour: u32,
    pub(crate) minute: u32,
    pub(crate) second: u32,
    pub(crate) nano: u32,
}

const BEFORE: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

fn leap(year: i128) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

impl Civil {
    /// The calendar date of an instant, by the usual counting of 400-year cycles from March.
    pub(crate) fn of(ns: i128) -> Self {
        let small = |n: i128| u32::try_from(n).unwrap_or(0);
        let seconds = ns.div_euclid(SECOND);
        let days = seconds.div_euclid(86_400);
        let in_day = seconds.rem_euclid(86_400);
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + i128::from(month <= 2);
        let month = usize::try_from(month).unwrap_or(1);
        let day = small(doy - (153 * mp + 2) / 5 + 1);
        Self {
            year,
            month,
            day,
            weekday: usize::try_from((days + 4).rem_euclid(7)).unwrap_or(0),
            yearday: BEFORE[month - 1] + day + u32::from(leap(year) && month > 2),
            hour: small(in_day / 3600),
            minute: small(in_day / 60 % 60),
            second: small(in_day % 60),
            nano: small(ns.rem_euclid(SECOND)),
        }
    }
}

/// Nanoseconds from 1970 to midnight of a date; months and days beyond their range run over, as in Go.
pub(crate) fn midnight(year: i128, month: i128, day: i128) -> i128 {
    let year = year + (month - 1).div_euclid(12);
    let month = (month - 1).rem_euclid(12) + 1;
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    (era * 146_097 + doe - 719_468 + day - 1) * 86_400 * SECOND
}

pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(crate) const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// An element of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Std {
    LongMonth,
    Month,
    NumMonth,
    ZeroMonth,
    LongWeekday,
    Weekday,
    Day,
    UnderDay,
    ZeroDay,
    UnderYearDay,
    ZeroYearDay,
    Hour,
    Hour12,
    ZeroHour12,
    Minute,
    ZeroMinute,
    Second,
    ZeroSecond,
    LongYear,
    Year,
    Pm,
    LowerPm,
    Name,
    /// `Z` for UTC, number of two-digit groups, colons between them.
    Offset {
        z: bool,
        groups: u8,
        colons: bool,
    },
    /// Digits of a second's fraction: exactly so many, or at most so many without zeroes at the end.
    Fraction {
        digits: usize,
        trim: bool,
    },
}

/// Longest first among those that start alike.
const ELEMENTS: [(&str, Std); 33] = {
    const fn offset(z: bool, groups: u8, colons: bool) -> Std {
        Std::Offset { z, groups, colons }
    }
    [
        ("January", Std::LongMonth),
        ("Jan", Std::Month),
        ("Monday", Std::LongWeekday),
        ("Mon", Std::Weekday),
        ("MST", Std::Name),
        ("01", Std::ZeroMonth),
        ("002", Std::ZeroYearDay),
        ("02", Std::ZeroDay),
        ("03", Std::ZeroHour12),
        ("04", Std::ZeroMinute),
        ("05", Std::ZeroSecond),
        ("06", Std::Year),
        ("15", Std::Hour),
        ("1", Std::NumMonth),
        ("2006", Std::LongYear),
        ("2", Std::Day),
        ("__2", Std::UnderYearDay),
        ("_2", Std::UnderDay),
        ("3", Std::Hour12),
        ("4", Std::Minute),
        ("5", Std::Second),
        ("PM", Std::Pm),
        ("pm", Std::LowerPm),
        ("-07:00:00", offset(false, 3, true)),
        ("-070000", offset(false, 3, false)),
        ("-07:00", offset(false, 2, true)),
        ("-0700", offset(false, 2, false)),
        ("-07", offset(false, 1, false)),
        ("Z07:00:00", offset(true, 3, true)),
        ("Z070000", offset(true, 3, false)),
        ("Z07:00", offset(true, 2, true)),
        ("Z0700", offset(true, 2, false)),
        ("Z07", offset(true, 1, false)),
    ]
};

/// The first element of a layout: the text before it, the element as written, what it is, the rest.
fn next(layout: &str) -> Option<(&str, &str, Std, &str)> {
    for (i, c) in layout.char_indices() {
        let rest = &layout[i..];
        if matches!(c, '.' | ',') {
            let digits = &rest[1..];
            let Some(fill) = digits.chars().next().filter(|c| matches!(c, '0' | '9')) else { continue };
            let n = digits.len() - digits.trim_start_matches(fill).len();
            if digits[n..].starts_with(|c: char| c.is_ascii_digit()) {
                continue;
            }
            let std = Std::Fraction { digits: n, trim: fill == '9' };
            return Some((&layout[..i], &rest[..=n], std, &digits[n..]));
        }
        // `_2006` is an underscore and a year.
        if let Some(after) = rest.strip_prefix("_2006") {
            return Some((&layout[..=i], "2006", Std::LongYear, after));
        }
        for (text, std) in ELEMENTS {
            let Some(after) = rest.strip_prefix(text) else { continue };
            let short = matches!(std, Std::Month | Std::Weekday);
            if short && after.starts_with(|c: char| c.is_ascii_lowercase()) {
                continue;
            }
            return Some((&layout[..i], &rest[..text.len()], std, after));
        }
    }
    None
}

fn offset_text(seconds: i32, groups: u8, colons: bool) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let s = seconds.abs();
    let mut out = format!("{sign}{:02}", s / 3600);
    for (n, value) in [(2, s / 60 % 60), (3, s % 60)] {
        if groups >= n {
            out.push_str(if colons { ":" } else { "" });
            out.push_str(&format!("{value:02}"));
        }
    }
    out
}

/// `time.Format`.
pub(crate) fn format(layout: &str, ns: i128, zone: &Zone) -> String {
    let c = Civil::of(ns + i128::from(zone.offset) * SECOND);
    let hour12 = if c.hour.is_multiple_of(12) { 12 } else { c.hour % 12 };
    let mut out = String::new();
    let mut rest = layout;
    while let Some((before, text, std, after)) = next(rest) {
        out.push_str(before);
        rest = after;
        let month = MONTHS[c.month - 1];
        let day = DAYS[c.weekday];
        let piece = match std {
            Std::LongMonth => month.into(),
            Std::Month => month[..3].into(),
            Std::NumMonth => c.month.to_string(),
            Std::ZeroMonth => format!("{:02}", c.month),
            Std::LongWeekday => day.into(),
            Std::Weekday => day[..3].into(),
            Std::Day => c.day.to_string(),
            Std::UnderDay => format!("{:>2}", c.day),
            Std::ZeroDay => format!("{:02}", c.day),
            Std::UnderYearDay => format!("{:>3}", c.yearday),
            Std::ZeroYearDay => format!("{:03}", c.yearday),
            Std::Hour => format!("{:02}", c.hour),
            Std::Hour12 => hour12.to_string(),
            Std::ZeroHour12 => format!("{hour12:02}"),
            Std::Minute => c.minute.to_string(),
            Std::ZeroMinute => format!("{:02}", c.minute),
            Std::Second => c.second.to_string(),
            Std::ZeroSecond => format!("{:02}", c.second),
            Std::LongYear if c.year < 0 => format!("-{:04}", -c.year),
            Std::LongYear => format!("{:04}", c.year),
            Std::Year => format!("{:02}", c.year.rem_euclid(100)),
            Std::Pm => if c.hour < 12 { "AM" } else { "PM" }.into(),
            Std::LowerPm => if c.hour < 12 { "am" } else { "pm" }.into(),
            Std::Name if zone.name.is_empty() => offset_text(zone.offset, 2, false),
            Std::Name => zone.name.clone(),
            Std::Offset { z: true, .. } if zone.offset == 0 => "Z".into(),
            Std::Offset { groups, colons, .. } => offset_text(zone.offset, groups, colons),
            Std::Fraction { digits, trim } => {
                let all = format!("{:09}", c.nano);
                let cut = &all[..digits.min(9)];
                let cut = if trim { cut.trim_end_matches('0') } else { cut };
                if cut.is_empty() { String::new() } else { format!("{}{cut}", &text[..1]) }
            }
        };
        out.push_str(&piece);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_formatted_as_go_does() {
        let ns = 1_136_239_445 * SECOND + 123_000_000;
        let utc = Zone::utc();
        assert_eq!(format("2006-01-02T15:04:05Z07:00", ns, &utc), "2006-01-02T22:04:05Z");
        assert_eq!(format("Mon Jan _2 3:04PM .000 .999999", ns, &utc), "Mon Jan  2 10:04PM .123 .123");
        assert_eq!(format("20060102150405 Months _2006", ns, &utc), "20060102220405 Months _2006");
        let zone = Zone { offset: -25200, name: "MST".into() };
        assert_eq!(
            format("Mon Jan 2 15:04:05 -0700 MST 2006", ns, &zone),
            "Mon Jan 2 15:04:05 -0700 MST 2006"
        );
    }

    #[test]
    fn what_is_formatted_is_read_back() {
        for layout in
            ["2006-01-02T15:04:05.999Z07:00", "Mon, 02 Jan 2006 15:04:05.000 -0700", "2006-002 15:04:05.000"]
        {
            let ns = 1_500_000_000 * SECOND + 250_000_000;
            assert_eq!(parse(layout, &format(layout, ns, &Zone::utc())).map(|p| p.0), Ok(ns), "{layout}");
        }
    }
}
