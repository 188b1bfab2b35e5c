//! Reading times by a layout.

use super::{DAYS, MONTHS, SECOND, Std, Zone, leap, midnight, next};

#[derive(Default)]
struct Parts {
    year: Option<i128>,
    month: Option<i128>,
    day: Option<i128>,
    yearday: Option<i128>,
    hour: i128,
    minute: i128,
    second: i128,
    nano: i128,
    pm: Option<bool>,
    zone: Option<Zone>,
}

/// Why an element could not be read: it is not there, or its number is too large.
enum Miss {
    Bad,
    Range(&'static str),
}

fn take<'a>(value: &mut &'a str, n: usize) -> Result<&'a str, Miss> {
    let head = value.get(..n).ok_or(Miss::Bad)?;
    *value = &value[n..];
    Ok(head)
}

/// One or two digits; two if they are fixed.
fn number(value: &mut &str, fixed: bool) -> Result<i128, Miss> {
    let digits = value.bytes().take(2).take_while(u8::is_ascii_digit).count();
    if digits == 0 || (fixed && digits < 2) {
        return Err(Miss::Bad);
    }
    take(value, digits)?.parse().map_err(|_| Miss::Bad)
}

fn digits(value: &mut &str, n: usize) -> Result<i128, Miss> {
    let text = take(value, n)?;
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Miss::Bad);
    }
    text.parse().map_err(|_| Miss::Bad)
}

fn name(value: &mut &str, names: &[&str], short: bool) -> Result<i128, Miss> {
    for (i, n) in names.iter().enumerate() {
        let n = if short { &n[..3] } else { n };
        if value.get(..n.len()).is_some_and(|v| v.eq_ignore_ascii_case(n)) {
            *value = &value[n.len()..];
            return i128::try_from(i).map_err(|_| Miss::Bad);
        }
    }
    Err(Miss::Bad)
}

fn within(n: i128, low: i128, high: i128, what: &'static str) -> Result<i128, Miss> {
    if (low..=high).contains(&n) { Ok(n) } else { Err(Miss::Range(what)) }
}

fn fraction(value: &mut &str, n: usize) -> Result<i128, Miss> {
    let text = take(value, n)?;
    let ok = text.starts_with(['.', ',']) && text[1..].bytes().all(|b| b.is_ascii_digit());
    if !ok {
        return Err(Miss::Bad);
    }
    let digits = &text[1..text.len().min(10)];
    format!("{digits:0<9}").parse().map_err(|_| Miss::Bad)
}

/// Length of an optional fraction of a second at the start of `value`.
fn fraction_len(value: &str) -> Option<usize> {
    let digits = value.strip_prefix(['.', ','])?.bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0).then_some(digits + 1)
}

fn zone_name(value: &mut &str) -> Result<Zone, Miss> {
    if value.starts_with("UTC") {
        take(value, 3)?;
        return Ok(Zone::utc());
    }
    if value.starts_with("GMT") {
        take(value, 3)?;
        let number =
            value.strip_prefix(['+', '-']).map_or(0, |d| d.bytes().take_while(u8::is_ascii_digit).count());
        if number == 0 {
            return Ok(Zone { offset: 0, name: "GMT".into() });
        }
        let text = take(value, number + 1)?;
        let hours: i32 = text.parse().map_err(|_| Miss::Bad)?;
        if !(-23..=23).contains(&hours) {
            return Err(Miss::Bad);
        }
        return Ok(Zone { offset: hours * 3600, name: format!("GMT{text}") });
    }
    let letters = value.bytes().take(6).take_while(u8::is_ascii_uppercase).count();
    let fits = match letters {
        3 => true,
        4 => value.as_bytes()[3] == b'T' || value.starts_with("WITA"),
        5 => value.as_bytes()[4] == b'T',
        _ => false,
    };
    if !fits {
        return Err(Miss::Bad);
    }
    Ok(Zone { offset: 0, name: take(value, letters)?.to_owned() })
}

fn element(p: &mut Parts, std: Std, value: &mut &str, after: &str) -> Result<(), Miss> {
    match std {
        Std::LongYear => p.year = Some(digits(value, 4)?),
        Std::Year => {
            let y = digits(value, 2)?;
            p.year = Some(if y >= 69 { y + 1900 } else { y + 2000 });
        }
        Std::LongMonth => p.month = Some(name(value, &MONTHS, false)? + 1),
        Std::Month => p.month = Some(name(value, &MONTHS, true)? + 1),
        Std::NumMonth | Std::ZeroMonth => {
            p.month = Some(within(number(value, std == Std::ZeroMonth)?, 1, 12, "month")?);
        }
        Std::LongWeekday => drop(name(value, &DAYS, false)?),
        Std::Weekday => drop(name(value, &DAYS, true)?),
        Std::Day | Std::UnderDay | Std::ZeroDay => {
            if std == Std::UnderDay {
                *value = value.strip_prefix(' ').unwrap_or(value);
            }
            p.day = Some(number(value, std == Std::ZeroDay)?);
        }
        Std::UnderYearDay | Std::ZeroYearDay => {
            let text = take(value, 3)?;
            let text = if std == Std::UnderYearDay { text.trim_start_matches(' ') } else { text };
            p.yearday = Some(text.parse().map_err(|_| Miss::Bad)?);
        }
        Std::Hour => p.hour = within(number(value, false)?, 0, 23, "hour")?,
        Std::Hour12 | Std::ZeroHour12 => {
            p.hour = within(number(value, std == Std::ZeroHour12)?, 0, 12, "hour")?;
        }
        Std::Minute | Std::ZeroMinute => {
            p.minute = within(number(value, std == Std::ZeroMinute)?, 0, 59, "minute")?;
        }
        Std::Second | Std::ZeroSecond => {
            p.second = within(number(value, std == Std::ZeroSecond)?, 0, 59, "second")?;
            // A fraction may follow though the layout does not say so.
            let said = matches!(next(after), Some(("", _, Std::Fraction { .. }, _)));
            if let Some(n) = fraction_len(value).filter(|_| !said) {
                p.nano = fraction(value, n)?;
            }
        }
        Std::Fraction { digits, trim: false } => p.nano = fraction(value, digits + 1)?,
        Std::Fraction { .. } => {
            if let Some(n) = fraction_len(value) {
                p.nano = fraction(value, n)?;
            }
        }
        Std::Pm | Std::LowerPm => {
            let text = take(value, 2)?;
            let (am, pm) = if std == Std::Pm { ("AM", "PM") } else { ("am", "pm") };
            p.pm = Some(if text == pm {
                true
            } else if text == am {
                false
            } else {
                return Err(Miss::Bad);
            });
        }
        Std::Offset { z: true, .. } if value.starts_with('Z') => {
            take(value, 1)?;
            p.zone = Some(Zone::utc());
        }
        Std::Offset { groups, colons, .. } => {
            let negative = match take(value, 1)? {
                "+" => false,
                "-" => true,
                _ => return Err(Miss::Bad),
            };
            let mut seconds = 0;
            for (i, unit) in [3600, 60, 1].into_iter().take(groups.into()).enumerate() {
                if i > 0 && colons && take(value, 1)? != ":" {
                    return Err(Miss::Bad);
                }
                let high = if i == 0 { 24 } else { 60 };
                let what = ["time zone offset hour", "time zone offset minute", "time zone offset second"];
                seconds += within(digits(value, 2)?, 0, high, what[i])? * unit;
            }
            let seconds = i32::try_from(seconds).map_err(|_| Miss::Bad)?;
            let offset = if negative { -seconds } else { seconds };
            // What is read at the local offset, which is UTC here, is local.
            p.zone = Some(if offset == 0 { Zone::utc() } else { Zone { offset, name: String::new() } });
        }
        Std::Name => p.zone = Some(zone_name(value)?),
    }
    Ok(())
}

/// `time.Parse` with UTC as the local zone: nanoseconds from 1970, and the zone that the text named.
///
/// # Errors
///
/// In Go's words.
pub(crate) fn parse(layout: &str, text: &str) -> Result<(i128, Zone), String> {
    use crate::template::fmt::quote;
    let cannot = |value: &str, elem: &str| {
        format!(
            "parsing time {} as {}: cannot parse {} as {}",
            quote(text),
            quote(layout),
            quote(value),
            quote(elem)
        )
    };
    let out_of_range = |what: &str| format!("parsing time {}: {what} out of range", quote(text));
    let mut p = Parts::default();
    let (mut rest, mut value) = (layout, text);
    loop {
        let found = next(rest);
        let prefix = found.map_or(rest, |f| f.0);
        value = match skip(prefix, value) {
            Ok(v) => v,
            Err(at) => return Err(cannot(at, prefix)),
        };
        let Some((_, elem, std, after)) = found else { break };
        let hold = value;
        element(&mut p, std, &mut value, after).map_err(|miss| match miss {
            Miss::Bad => cannot(hold, elem),
            Miss::Range(what) => out_of_range(what),
        })?;
        rest = after;
    }
    if !value.is_empty() {
        return Err(format!("parsing time {}: extra text: {}", quote(text), quote(value)));
    }
    match p.pm {
        Some(true) if p.hour < 12 => p.hour += 12,
        Some(false) if p.hour == 12 => p.hour = 0,
        _ => {}
    }
    let year = p.year.unwrap_or(0);
    let mut day = p.day.unwrap_or(1);
    let mut month = p.month.unwrap_or(1);
    if let Some(n) = p.yearday {
        if n < 1 || n > 365 + i128::from(leap(year)) {
            return Err(out_of_range("day-of-year"));
        }
        (month, day) = (1, n);
    } else {
        let m = usize::try_from(month).unwrap_or(1);
        let last = [31, 28 + i128::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][m - 1];
        if !(1..=last).contains(&day) {
            return Err(out_of_range("day"));
        }
    }
    let zone = p.zone.unwrap_or_else(Zone::utc);
    let seconds = p.hour * 3600 + p.minute * 60 + p.second - i128::from(zone.offset);
    Ok((midnight(year, month, day) + seconds * SECOND + p.nano, zone))
}

/// Reads the text between elements; a blank matches any number of them.
fn skip<'a>(prefix: &str, mut value: &'a str) -> Result<&'a str, &'a str> {
    let mut prefix = prefix;
    while let Some(c) = prefix.chars().next() {
        if c == ' ' {
            if !value.is_empty() && !value.starts_with(' ') {
                return Err(value);
            }
            prefix = prefix.trim_start_matches(' ');
            value = value.trim_start_matches(' ');
            continue;
        }
        value = value.strip_prefix(c).ok_or(value)?;
        prefix = &prefix[c.len_utf8()..];
    }
    Ok(value)
}
