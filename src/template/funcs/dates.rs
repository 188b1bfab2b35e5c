//! Dates. The clock comes from the engine's [`Env`](super::super::Env); the local zone is UTC, as in a container.

use minijinja::value::Value;

use super::super::engine::Cx;
use super::super::error::FnError;
use super::super::value::{Map, Record, as_int, type_name};
use super::math::to_int;
use super::{Builtin, Outcome, func, str_arg};

pub(super) const TABLE: &[Builtin] = &[
    func("now", 0, 0, |cx, _| Ok(time(cx.rt.env.now_nanos()))),
    func("date", 2, 2, |cx, a| Ok(Value::from(format(str_arg(a, 0)?, nanos(cx, &a[1]))))),
    func("dateInZone", 3, 3, date_in_zone),
    func("date_in_zone", 3, 3, date_in_zone),
    func("htmlDate", 1, 1, |cx, a| Ok(Value::from(format("2006-01-02", nanos(cx, &a[0]))))),
    func("htmlDateInZone", 2, 2, |cx, a| {
        utc(str_arg(a, 1)?)?;
        Ok(Value::from(format("2006-01-02", nanos(cx, &a[0]))))
    }),
    func("dateModify", 2, 2, date_modify),
    func("date_modify", 2, 2, date_modify),
    func("mustDateModify", 2, 2, date_modify),
    func("must_date_modify", 2, 2, date_modify),
    func("unixEpoch", 1, 1, |cx, a| Ok(Value::from((nanos(cx, &a[0]).div_euclid(SECOND)).to_string()))),
    func("toDate", 2, 2, |_, _| super::not_implemented("toDate")),
    func("mustToDate", 2, 2, |_, _| super::not_implemented("mustToDate")),
    func("ago", 1, 1, |_, _| super::not_implemented("ago")),
    func("duration", 1, 1, |_, a| {
        // Sprig takes an int64 or its text; anything else, a plain int included, counts as 0.
        let seconds = match a[0].as_str() {
            Some(text) => text.parse().unwrap_or(0),
            None if type_name(&a[0]) == "int64" => to_int(&a[0]),
            None => 0,
        };
        Ok(Value::from(show(i128::from(seconds) * SECOND)))
    }),
    func("durationRound", 1, 1, |_, _| super::not_implemented("durationRound")),
];

const SECOND: i128 = 1_000_000_000;

/// A `time.Time`. Its instant is kept under a name that no template can write.
fn time(nanos: i128) -> Value {
    let mut fields = Map::new();
    fields.insert(" ns".into(), Value::from(nanos.to_string()));
    Value::from_object(Record {
        type_name: "time.Time",
        fields,
        text: Some(format("2006-01-02 15:04:05.999999999 -0700 MST", nanos)),
        methods: |me, name, args| {
            let ns = instant(me)?;
            let c = Civil::of(ns);
            let int = |n: i128| Some(Ok(Value::from(i64::try_from(n).unwrap_or(i64::MAX))));
            match name {
                "Unix" => int(ns.div_euclid(SECOND)),
                "UnixNano" => int(ns),
                "Year" => int(c.year),
                "Day" => int(i128::from(c.day)),
                "Hour" => int(i128::from(c.hour)),
                "Minute" => int(i128::from(c.minute)),
                "Second" => int(i128::from(c.second)),
                "UTC" => Some(Ok(time(ns))),
                "Format" => Some(match args.first().and_then(Value::as_str) {
                    Some(layout) => Ok(Value::from(format(layout, ns))),
                    None => Err(FnError::Argument("wrong number of args for Format: want 1 got 0".into())),
                }),
                _ => None,
            }
        },
    })
}

fn instant(r: &Record) -> Option<i128> {
    r.fields.get(" ns")?.as_str()?.parse().ok()
}

/// Sprig takes a time, a number of seconds, or anything else for now.
fn nanos(cx: &Cx<'_, '_, '_>, v: &Value) -> i128 {
    if let Some(ns) = v.downcast_object_ref::<Record>().and_then(instant) {
        return ns;
    }
    match as_int(v) {
        Some(i) => i128::from(i) * SECOND,
        None => cx.rt.env.now_nanos(),
    }
}

fn utc(zone: &str) -> Result<(), FnError> {
    if matches!(zone, "" | "UTC" | "GMT" | "Local" | "Etc/UTC") {
        return Ok(());
    }
    Err(FnError::text(format!("time zone {zone:?} is not implemented by omk; only UTC is")))
}

fn date_in_zone(cx: &mut Cx<'_, '_, '_>, a: &[Value]) -> Outcome {
    utc(str_arg(a, 2)?)?;
    Ok(Value::from(format(str_arg(a, 0)?, nanos(cx, &a[1]))))
}

fn date_modify(cx: &mut Cx<'_, '_, '_>, a: &[Value]) -> Outcome {
    let by = duration(str_arg(a, 0)?).ok_or_else(|| {
        FnError::text(format!("time: invalid duration {:?}", str_arg(a, 0).unwrap_or_default()))
    })?;
    Ok(time(nanos(cx, &a[1]) + by))
}

/// `time.ParseDuration`.
#[allow(clippy::cast_possible_truncation)]
fn duration(text: &str) -> Option<i128> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(r) => (true, r),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let n = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).filter(|n| *n > 0)?;
        let value: f64 = rest[..n].parse().ok()?;
        rest = &rest[n..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let scale = match &rest[..unit] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += value * scale;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(if negative { -(total as i128) } else { total as i128 })
}

/// `time.Duration.String` for whole seconds.
fn show(ns: i128) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let s = ns.abs() / SECOND;
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    match (h, m) {
        (0, 0) => format!("{sign}{s}s"),
        (0, _) => format!("{sign}{m}m{s}s"),
        _ => format!("{sign}{h}h{m}m{s}s"),
    }
}

struct Civil {
    year: i128,
    month: usize,
    day: u32,
    weekday: usize,
    yearday: u32,
    hour: u32,
    minute: u32,
    second: u32,
    nano: u32,
}

impl Civil {
    /// The calendar date of an instant, by the usual counting of 400-year cycles from March.
    fn of(ns: i128) -> Self {
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
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let month = usize::try_from(month).unwrap_or(1);
        let day = small(doy - (153 * mp + 2) / 5 + 1);
        Self {
            year,
            month,
            day,
            weekday: usize::try_from((days + 4).rem_euclid(7)).unwrap_or(0),
            yearday: before[month - 1] + day + u32::from(leap && month > 2),
            hour: small(in_day / 3600),
            minute: small(in_day / 60 % 60),
            second: small(in_day % 60),
            nano: small(ns.rem_euclid(SECOND)),
        }
    }
}

const MONTHS: [&str; 12] = [
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
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// `time.Format` in UTC.
fn format(layout: &str, ns: i128) -> String {
    let c = Civil::of(ns);
    let hour12 = if c.hour.is_multiple_of(12) { 12 } else { c.hour % 12 };
    // Longest first, so that no element hides behind a shorter one.
    let elements: [(&str, String); 32] = [
        ("January", MONTHS[c.month - 1].into()),
        ("Monday", DAYS[c.weekday].into()),
        ("-07:00:00", "+00:00:00".into()),
        ("Z07:00:00", "Z".into()),
        ("-07:00", "+00:00".into()),
        ("Z07:00", "Z".into()),
        ("-070000", "+000000".into()),
        ("Z070000", "Z".into()),
        ("-0700", "+0000".into()),
        ("Z0700", "Z".into()),
        ("2006", format!("{:04}", c.year)),
        ("Jan", MONTHS[c.month - 1][..3].into()),
        ("Mon", DAYS[c.weekday][..3].into()),
        ("MST", "UTC".into()),
        ("-07", "+00".into()),
        ("Z07", "Z".into()),
        ("002", format!("{:03}", c.yearday)),
        ("__2", format!("{:>3}", c.yearday)),
        ("01", format!("{:02}", c.month)),
        ("02", format!("{:02}", c.day)),
        ("03", format!("{hour12:02}")),
        ("04", format!("{:02}", c.minute)),
        ("05", format!("{:02}", c.second)),
        ("06", format!("{:02}", c.year.rem_euclid(100))),
        ("15", format!("{:02}", c.hour)),
        ("PM", if c.hour < 12 { "AM" } else { "PM" }.into()),
        ("pm", if c.hour < 12 { "am" } else { "pm" }.into()),
        ("_2", format!("{:>2}", c.day)),
        ("1", c.month.to_string()),
        ("2", c.day.to_string()),
        ("3", hour12.to_string()),
        ("4", c.minute.to_string()),
    ];
    let mut out = String::new();
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        if let Some(len) = fraction(rest, &mut out, c.nano) {
            rest = &rest[len..];
        } else if let Some((std, text)) = elements.iter().find(|(std, _)| rest.starts_with(std)) {
            out.push_str(text);
            rest = &rest[std.len()..];
        } else if first == '5' {
            out.push_str(&c.second.to_string());
            rest = &rest[1..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// `.000` or `.999` after the seconds; how much of the layout that was.
fn fraction(rest: &str, out: &mut String, nano: u32) -> Option<usize> {
    let digits = rest.strip_prefix(['.', ','])?;
    let fill = digits.chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let n = digits.len() - digits.trim_start_matches(fill).len();
    if digits[n..].starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let text = format!("{nano:09}");
    let mut text = text[..n.min(9)].to_owned();
    if fill == '9' {
        text = text.trim_end_matches('0').to_owned();
    }
    if fill == '0' || !text.is_empty() {
        out.push_str(&rest[..1]);
        out.push_str(&text);
    }
    Some(1 + n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_formatted_as_go_does() {
        let ns = 1_136_239_445 * SECOND + 123_000_000;
        assert_eq!(format("2006-01-02T15:04:05Z07:00", ns), "2006-01-02T22:04:05Z");
        assert_eq!(format("Mon Jan _2 3:04PM .000 .999999", ns), "Mon Jan  2 10:04PM .123 .123");
        assert_eq!(format("20060102150405", ns), "20060102220405");
        assert_eq!(duration("-1h30m"), Some(-5400 * SECOND));
        assert_eq!(show(3725 * SECOND), "1h2m5s");
    }
}
