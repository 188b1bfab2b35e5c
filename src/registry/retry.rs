//! When to try again, and when to stop.

use std::time::{Duration, SystemTime};

use crate::event::{Event, Events};

use super::RegistryError;

/// How often and how long a passing failure is sat out.
#[derive(Debug, Clone)]
pub struct RetryOptions {
    /// Failures in a row after which an operation is given up; progress starts the count anew.
    pub attempts: u32,
    /// The first pause; it doubles up to [`RetryOptions::longest`], with up to half of it taken off by chance, so
    /// that parallel downloads do not come back at the same moment.
    pub first: Duration,
    /// The longest pause of our own choice.
    pub longest: Duration,
    /// How long all in all a registry that limits the rate (429) is waited for, and the longest `Retry-After` of any
    /// other answer that is obeyed; a registry that asks for more ends the operation.
    pub patience: Duration,
}

impl Default for RetryOptions {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { attempts: 5, first: Duration::from_millis(500), longest: seconds(20), patience: seconds(600) }
    }
}

/// Whether trying again makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Never,
    Later,
    After(Duration),
    /// Too many requests; how long to wait, if that was said.
    Limited(Option<Duration>),
}

/// An error together with what can be done about it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: RegistryError,
    pub(super) again: Again,
}

impl Failure {
    pub(super) fn last(error: RegistryError) -> Self {
        Self { error, again: Again::Never }
    }

    pub(super) fn passing(error: RegistryError) -> Self {
        Self { error, again: Again::Later }
    }
}

/// Counts the failures of one operation.
pub(super) struct Retries {
    options: RetryOptions,
    what: String,
    events: Events,
    failures: u32,
    /// Rate limits in a row, and how long they were waited for.
    limited: u32,
    waited: Duration,
}

impl Retries {
    pub(super) fn new(options: &RetryOptions, what: &str, events: &Events) -> Self {
        Self {
            options: options.clone(),
            what: what.to_owned(),
            events: events.clone(),
            failures: 0,
            limited: 0,
            waited: Duration::ZERO,
        }
    }

    /// Bytes worth the name arrived.
    pub(super) fn progressed(&mut self) {
        (self.failures, self.limited, self.waited) = (0, 0, Duration::ZERO);
    }

    /// Sleeps until it is time to try again, or gives the error back when it is not worth it.
    pub(super) async fn wait(&mut self, failure: Failure) -> Result<(), RegistryError> {
        let Some(delay) = self.delay(failure.again) else { return Err(failure.error) };
        match failure.again {
            // Not a failure of anybody: patience alone ends it.
            Again::Limited(_) => (self.limited, self.waited) = (self.limited + 1, self.waited + delay),
            _ => self.failures += 1,
        }
        self.events.emit(Event::Retry {
            what: self.what.clone(),
            reason: failure.error.to_string(),
            delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        });
        tokio::time::sleep(delay).await;
        Ok(())
    }

    fn delay(&self, again: Again) -> Option<Duration> {
        if self.failures >= self.options.attempts {
            return None;
        }
        let jitter = || self.options.first.mul_f64(fastrand::f64());
        match again {
            Again::Never => None,
            // A little later than asked for, so that parallel requests do not come back as one.
            Again::After(asked) => (asked <= self.options.patience).then(|| asked + jitter()),
            Again::Limited(asked) => {
                // What was not said is found out by waiting longer each time.
                let delay = asked.unwrap_or_else(|| self.pause(self.limited));
                (self.waited + delay <= self.options.patience).then(|| delay + jitter())
            }
            Again::Later => Some(self.pause(self.failures)),
        }
    }
}

impl Retries {
    fn pause(&self, before: u32) -> Duration {
        let doubled = self.options.first.saturating_mul(1 << before.min(16));
        doubled.min(self.options.longest).mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds or a date. A date in the past is no wait; what is neither is ignored.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit mean "never": longer than any patience.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Fri, 31 Dec 1999 23:59:59 GMT").unwrap();
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sat, 01 Jan 2000 00:00:09 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Mon, 31 Dec 1990 00:00:00 GMT", now), Some(Duration::ZERO));
        assert!(retry_after("99999999999999999999", now).unwrap() > Duration::from_secs(1 << 31));
        assert_eq!(retry_after("-1", now), None);
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn pauses_grow_to_a_limit_and_end() {
        let options = RetryOptions { attempts: 10, ..RetryOptions::default() };
        let mut retries = Retries::new(&options, "x", &crate::event::silent());
        let mut longest = Duration::ZERO;
        for _ in 0..10 {
            let delay = retries.delay(Again::Later).unwrap();
            assert!(delay <= options.longest && delay >= options.first / 2);
            longest = longest.max(delay);
            retries.failures += 1;
        }
        assert!(longest >= options.longest / 2);
        assert_eq!(retries.delay(Again::Later), None);
        retries.progressed();
        assert_eq!(retries.delay(Again::After(options.patience + Duration::from_secs(1))), None);
        assert!(retries.delay(Again::After(options.patience)).unwrap() >= options.patience);
    }

    #[tokio::test]
    async fn a_limit_is_waited_for_as_long_as_patience_lasts() {
        let options = RetryOptions {
            attempts: 0,
            first: Duration::from_millis(1),
            longest: Duration::from_millis(2),
            patience: Duration::from_millis(40),
        };
        let limited = |asked| {
            let (what, registry) = ("x".to_owned(), "r".to_owned());
            let (detail, advice) = (String::new(), String::new());
            let error = RegistryError::RateLimited { what, registry, detail, advice };
            Failure { error, again: Again::Limited(asked) }
        };
        let mut retries =
            Retries::new(&RetryOptions { attempts: 1, ..options.clone() }, "x", &crate::event::silent());
        let mut times = 0;
        while retries.wait(limited(None)).await.is_ok() {
            times += 1;
        }
        assert!(times > 10 && retries.failures == 0, "{times}");
        retries.progressed();
        assert!(retries.wait(limited(Some(Duration::from_millis(30)))).await.is_ok());
        assert!(
            retries.wait(limited(Some(Duration::from_millis(30)))).await.is_err(),
            "that is too long in all"
        );
    }

    proptest! {
        #[test]
        fn retry_after_never_panics(value in "\\PC{0,60}") {
            let _ = retry_after(&value, SystemTime::UNIX_EPOCH);
        }
    }
}
