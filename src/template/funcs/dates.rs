//! Dates. The clock comes from the engine's [`Env`](super::super::Env); the local zone is UTC, as in a container, and
//! the other zones are those that come with `jiff`, so that the machine's own tables do not matter.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::value::Value;

use super::super::clock::{Civil, DAYS, MONTHS, SECOND, Zone, format, midnight, parse};
use super::super::error::FnError;
use super::super::runtime::Cx;
use super::super::span::{parse_duration, show_duration};
use super::super::value::{Map, Record, as_int, int, int64, type_name};
use super::durations::{as_span, span};
use super::{Builtin, Outcome, func, str_arg};

pub(super) const TABLE: &[Builtin] = &[
    func("now", "", |cx, _| Ok(time(cx.rt.env.now_nanos(), Zone::utc()))),
    func("date", "sv", |cx, a| Ok(Value::from(format(str_arg(a, 0)?, instant(cx, &a[1]), &Zone::utc())))),
    func("dateInZone", "svs", date_in_zone),
    func("date_in_zone", "svs", date_in_zone),
    func("htmlDate", "v", |cx, a| Ok(Value::from(format("2006-01-02", instant(cx, &a[0]), &Zone::utc())))),
    func("htmlDateInZone", "vs", |cx, a| {
        let ns = instant(cx, &a[0]);
        Ok(Value::from(format("2006-01-02", ns, &zone_at(str_arg(a, 1)?, ns))))
    }),
    func("dateModify", "st", date_modify),
    func("date_modify", "st", date_modify),
    func("mustDateModify", "st", |_, a| modified(str_arg(a, 0)?, &a[1])?.map_err(FnError::Text)),
    func("must_date_modify", "st", |_, a| modified(str_arg(a, 0)?, &a[1])?.map_err(FnError::Text)),
    func("unixEpoch", "t", |_, a| Ok(Value::from(read(&a[0])?.0.div_euclid(SECOND).to_string()))),
    func("toDate", "ss", |_, a| {
        let zero = || (midnight(1, 1, 1), Zone::utc());
        let (ns, zone) = parse(str_arg(a, 0)?, str_arg(a, 1)?).unwrap_or_else(|_| zero());
        Ok(time(ns, zone))
    }),
    func("mustToDate", "ss", |_, a| {
        let (ns, zone) = parse(str_arg(a, 0)?, str_arg(a, 1)?).map_err(FnError::Text)?;
        Ok(time(ns, zone))
    }),
    func("ago", "v", |cx, a| {
        let since = cx.rt.env.now_nanos() - instant(cx, &a[0]);
        let seconds = (since + SECOND / 2).div_euclid(SECOND);
        let ns = seconds.saturating_mul(SECOND).clamp(i64::MIN.into(), i64::MAX.into());
        Ok(Value::from(show_duration(i64::try_from(ns).unwrap_or_default())))
    }),
    func("duration", "v", |_, a| {
        // Sprig takes an int64 or its text; anything else, a plain int included, counts as 0.
        let seconds = match a[0].as_str() {
            Some(text) => text.parse().unwrap_or(0),
            None if type_name(&a[0]) == "int64" => as_int(&a[0]).unwrap_or(0),
            None => 0i64,
        };
        Ok(Value::from(show_duration(seconds.wrapping_mul(1_000_000_000))))
    }),
    func("durationRound", "v", |cx, a| {
        let ns = match a[0].as_str() {
            Some(text) => parse_duration(text).unwrap_or(0),
            None if type_name(&a[0]) == "int64" => as_int(&a[0]).unwrap_or(0),
            None => match read(&a[0]) {
                Ok((ns, _)) => i64::try_from(cx.rt.env.now_nanos() - ns).unwrap_or(i64::MAX),
                Err(_) => 0,
            },
        };
        let seconds = 1_000_000_000;
        let units = [
            (365 * 86_400 * seconds, "y"),
            (30 * 86_400 * seconds, "mo"),
            (86_400 * seconds, "d"),
            (3600 * seconds, "h"),
            (60 * seconds, "m"),
            (seconds, "s"),
        ];
        let n = ns.unsigned_abs();
        let text = units.iter().find(|(size, _)| n > *size).map(|(size, unit)| format!("{}{unit}", n / size));
        Ok(Value::from(text.unwrap_or_else(|| "0s".into())))
    }),
];

/// Go's name of the type.
pub(super) const TIME: &str = "time.Time";

/// A `time.Time`. Its instant and zone are kept under names that no template can write.
fn time(ns: i128, zone: Zone) -> Value {
    let text = format("2006-01-02 15:04:05.999999999 -0700 MST", ns, &zone);
    let fields = Map::from([
        (" ns".into(), Value::from(ns.to_string())),
        (" offset".into(), Value::from(zone.offset)),
        (" zone".into(), Value::from(zone.name)),
    ]);
    Value::from_object(Record { type_name: TIME, fields, text: Some(text), methods: time_method })
}

/// The zones of TOML's times that have none, as BurntSushi's decoder calls them, and how its encoder writes such times.
const LOCAL: [(&str, &str); 3] = [
    ("datetime-local", "2006-01-02T15:04:05.999999999"),
    ("date-local", "2006-01-02"),
    ("time-local", "15:04:05.999999999"),
];

/// A date or time of TOML.
pub(super) fn of_toml(t: toml::value::Datetime) -> Value {
    use toml::value::Offset;
    let zone = match (t.offset, t.date, t.time) {
        (Some(Offset::Z), ..) => Zone::utc(),
        (Some(Offset::Custom { minutes }), ..) => {
            Zone { offset: i32::from(minutes) * 60, name: String::new() }
        }
        (None, date, time) => {
            let name = LOCAL[if time.is_none() { 1 } else { usize::from(date.is_none()) * 2 }].0;
            Zone { offset: 0, name: name.to_owned() }
        }
    };
    let date =
        t.date.map_or_else(|| midnight(0, 1, 1), |d| midnight(d.year.into(), d.month.into(), d.day.into()));
    let in_day = t.time.map_or(0, |t| {
        let minutes = i128::from(t.hour) * 60 + i128::from(t.minute);
        (minutes * 60 + i128::from(t.second.unwrap_or(0))) * SECOND + i128::from(t.nanosecond.unwrap_or(0))
    });
    time(date + in_day - i128::from(zone.offset) * SECOND, zone)
}

/// A time as TOML writes it; none for any other value.
pub(super) fn to_toml(v: &Value) -> Option<String> {
    let (ns, zone) = read(v).ok()?;
    let local = LOCAL.iter().find(|(name, _)| *name == zone.name).map(|(_, layout)| *layout);
    Some(format(local.unwrap_or("2006-01-02T15:04:05.999999999Z07:00"), ns, &zone))
}

/// The instant and zone of a `time.Time`.
fn read(v: &Value) -> Result<(i128, Zone), FnError> {
    v.downcast_object_ref::<Record>().and_then(of_record).ok_or_else(|| super::wrong(v, TIME))
}

/// Go's `==` of two times, which looks at the zone too; none if one of them is no time.
pub(super) fn same_time(a: &Value, b: &Value) -> Option<bool> {
    let time = |v: &Value| v.downcast_object_ref::<Record>().and_then(of_record);
    let ((a, in_a), (b, in_b)) = (time(a)?, time(b)?);
    Some(a == b && in_a.offset == in_b.offset && in_a.name == in_b.name)
}

fn of_record(r: &Record) -> Option<(i128, Zone)> {
    let ns = r.fields.get(" ns")?.as_str()?.parse().ok()?;
    let offset = i32::try_from(as_int(r.fields.get(" offset")?)?).ok()?;
    Some((ns, Zone { offset, name: r.fields.get(" zone")?.as_str()?.to_owned() }))
}

/// The moment of `0001-01-01`, Go's zero time.
fn zero() -> i128 {
    midnight(1, 1, 1)
}

fn time_method(me: &Record, name: &str, args: &[Value]) -> Option<Result<Value, FnError>> {
    let (ns, zone) = of_record(me)?;
    let c = Civil::of(ns + i128::from(zone.offset) * SECOND);
    let small = |n: i128| i64::try_from(n).unwrap_or(i64::MAX);
    let other = |f: &dyn Fn(i128) -> Value| -> Option<Result<Value, FnError>> {
        Some(args.first().map_or_else(
            || Err(FnError::Argument(format!("wrong number of args for {name}: want 1 got 0"))),
            |v| read(v).map(|(other, _)| f(other)),
        ))
    };
    let by = |f: &dyn Fn(i64) -> Value| -> Option<Result<Value, FnError>> {
        Some(match args.first().map(|v| (v, as_span(v).or_else(|| as_int(v)))) {
            Some((_, Some(n))) => Ok(f(n)),
            Some((v, None)) => Err(super::wrong(v, "time.Duration")),
            None => Err(FnError::Argument(format!("wrong number of args for {name}: want 1 got 0"))),
        })
    };
    Some(Ok(match name {
        "Unix" => int64(small(ns.div_euclid(SECOND))),
        "UnixMilli" => int64(small(ns.div_euclid(1_000_000))),
        "UnixMicro" => int64(small(ns.div_euclid(1000))),
        "UnixNano" => int64(small(ns)),
        "Year" => int(small(c.year)),
        "YearDay" => int(c.yearday.into()),
        "Day" => int(c.day.into()),
        "Hour" => int(c.hour.into()),
        "Minute" => int(c.minute.into()),
        "Second" => int(c.second.into()),
        "Nanosecond" => int(c.nano.into()),
        "Month" => named("time.Month", c.month, MONTHS[c.month - 1]),
        "Weekday" => named("time.Weekday", c.weekday, DAYS[c.weekday]),
        "IsZero" => Value::from(ns == zero()),
        "String" => Value::from(me.text.clone().unwrap_or_default()),
        // `MarshalJSON`, asked for by the encoders under a name that no template can write.
        " json" => Value::from(format("2006-01-02T15:04:05.999999999Z07:00", ns, &zone)),
        "UTC" | "Local" => time(ns, Zone::utc()),
        "Before" => return other(&|o| Value::from(ns < o)),
        "After" => return other(&|o| Value::from(ns > o)),
        "Equal" => return other(&|o| Value::from(ns == o)),
        "Sub" => return other(&|o| span(small(ns - o))),
        "Add" => return by(&|d| time(ns + i128::from(d), zone.clone())),
        "Truncate" => {
            return by(&|d| time(ns - (ns - zero()).rem_euclid(i128::from(d.max(1))), zone.clone()));
        }
        "Round" => {
            return by(&|d| {
                let d = i128::from(d.max(1));
                let rest = (ns - zero()).rem_euclid(d);
                time(if rest * 2 < d { ns - rest } else { ns + d - rest }, zone.clone())
            });
        }
        "AddDate" => {
            let n = |i: usize| args.get(i).and_then(as_int).map(i128::from);
            let (Some(years), Some(months), Some(days)) = (n(0), n(1), n(2)) else {
                let reason = format!("wrong number of args for AddDate: want 3 got {}", args.len());
                return Some(Err(FnError::Argument(reason)));
            };
            let in_day = (ns + i128::from(zone.offset) * SECOND).rem_euclid(86_400 * SECOND);
            let month = i128::try_from(c.month).unwrap_or(1) + months;
            let date = midnight(c.year + years, month, i128::from(c.day) + days);
            time(date + in_day - i128::from(zone.offset) * SECOND, zone)
        }
        "Format" => match args.first().and_then(Value::as_str) {
            Some(layout) => Value::from(format(layout, ns, &zone)),
            None => {
                return Some(Err(FnError::Argument("wrong number of args for Format: want 1 got 0".into())));
            }
        },
        _ => return None,
    }))
}

/// A number that prints as a name: a month or weekday.
fn named(type_name: &'static str, number: usize, name: &str) -> Value {
    let number = Value::from(number as u64);
    Value::from_object(Record {
        type_name,
        fields: Map::from([(" n".into(), number)]),
        text: Some(name.to_owned()),
        methods: |me, name, _| {
            Some(Ok(match name {
                "String" => Value::from(me.text.clone().unwrap_or_default()),
                " json" => me.fields.get(" n").cloned()?,
                _ => return None,
            }))
        },
    })
}

/// Sprig takes a time, a number of seconds, or anything else for now.
fn instant(cx: &Cx<'_>, v: &Value) -> i128 {
    if let Ok((ns, _)) = read(v) {
        return ns;
    }
    match type_name(v) {
        "int" | "int64" => i128::from(as_int(v).unwrap_or(0)) * SECOND,
        _ => cx.rt.env.now_nanos(),
    }
}

/// A zone by its IANA name; Sprig takes UTC for one that does not exist.
fn zone_at(name: &str, ns: i128) -> Zone {
    if matches!(name, "" | "UTC" | "Local") {
        return Zone::utc();
    }
    // Names of files are case-sensitive where Go reads them.
    let Some(tz) = TimeZone::get(name).ok().filter(|tz| tz.iana_name() == Some(name)) else {
        return Zone::utc();
    };
    let seconds = i64::try_from(ns.div_euclid(SECOND)).unwrap_or(0);
    let Ok(at) = Timestamp::from_second(seconds) else { return Zone::utc() };
    let info = tz.to_offset_info(at);
    Zone { offset: info.offset().seconds(), name: info.abbreviation().to_owned() }
}

fn date_in_zone(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let ns = instant(cx, &a[1]);
    Ok(Value::from(format(str_arg(a, 0)?, ns, &zone_at(str_arg(a, 2)?, ns))))
}

fn modified(by: &str, date: &Value) -> Result<Result<Value, String>, FnError> {
    let (ns, zone) = read(date)?;
    Ok(parse_duration(by).map(|by| time(ns + i128::from(by), zone)))
}

fn date_modify(_: &mut Cx<'_>, a: &[Value]) -> Outcome {
    Ok(modified(str_arg(a, 0)?, &a[1])?.unwrap_or_else(|_| a[1].clone()))
}
