//! Three ways to show the same events on standard error.

use std::collections::{HashMap, HashSet};
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output;
use crate::event::{Event, EventSink, Events, ImageStep, NodeState};
use crate::oci::Digest;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Bars on a terminal, plain lines elsewhere
    Auto,
    /// Bars
    Bar,
    /// Plain lines
    Plain,
    /// One JSON object a line
    Json,
    /// Warnings only
    None,
}

/// What standard error shows at present; one for the process, which has one terminal.
static SHOWN: Mutex<Shown> = Mutex::new(Shown::Lines);

enum Shown {
    Lines,
    Json,
    Bars(Arc<Bars>),
}

/// The sink of this process.
pub(super) fn sink(mode: Mode) -> Events {
    let mode = match mode {
        Mode::Auto if std::io::stderr().is_terminal() => Mode::Bar,
        Mode::Auto => Mode::Plain,
        other => other,
    };
    let lines = || Arc::new(Lines { mode, moved: Mutex::default() });
    let (shown, events): (_, Events) = match mode {
        Mode::Bar => {
            let bars = Arc::new(Bars { all: MultiProgress::new(), state: Mutex::default() });
            (Shown::Bars(Arc::clone(&bars)), bars)
        }
        Mode::Json => (Shown::Json, lines()),
        _ => (Shown::Lines, lines()),
    };
    *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    events
}

/// Takes the bars away, so that what is printed next stands alone; the next event makes new ones.
pub(super) fn settle() {
    if let Shown::Bars(bars) = &*SHOWN.lock().unwrap_or_else(PoisonError::into_inner) {
        bars.settle();
    }
}

/// While a question is on the terminal: bars are not drawn.
pub(super) struct Hush(Option<Arc<Bars>>);

/// Takes the bars away until the result is dropped.
pub(super) fn hush() -> Hush {
    let bars = match &*SHOWN.lock().unwrap_or_else(PoisonError::into_inner) {
        Shown::Bars(bars) => Some(Arc::clone(bars)),
        _ => None,
    };
    if let Some(bars) = &bars {
        let _ = bars.all.clear();
        bars.all.set_draw_target(ProgressDrawTarget::hidden());
    }
    Hush(bars)
}

impl Drop for Hush {
    fn drop(&mut self) {
        if let Some(bars) = &self.0 {
            bars.all.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

/// A line for people on standard error: above the bars where there are any, an event where programs read.
pub(super) fn tell(text: &str) {
    match &*SHOWN.lock().unwrap_or_else(PoisonError::into_inner) {
        Shown::Lines => output::error_line(text),
        Shown::Json => {
            output::error_line(&serde_json::json!({"event": "message", "message": text}).to_string());
        }
        Shown::Bars(bars) => bars.all.suspend(|| output::error_line(text)),
    }
}

/// Lines: JSON gets every event, plain text those that a log should keep.
struct Lines {
    mode: Mode,
    moved: Mutex<HashMap<Option<String>, Moved>>,
}

struct Moved {
    done: u64,
    total: u64,
    said: Instant,
}

/// Between two lines about the same transfer.
const PACE: Duration = Duration::from_secs(5);

impl EventSink for Lines {
    fn emit(&self, event: Event) {
        match self.mode {
            Mode::Json => {
                if let Ok(line) = serde_json::to_string(&event) {
                    output::error_line(&line);
                }
            }
            Mode::None => {
                if let Event::Warning { message } = &event {
                    output::error_line(&format!("warning: {message}"));
                }
            }
            _ => {
                if let Some(line) = self.plain(&event) {
                    output::error_line(&line);
                }
            }
        }
    }
}

impl Lines {
    fn plain(&self, event: &Event) -> Option<String> {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::TransferPlanned { node, bytes, .. } => {
                let start = Moved { done: 0, total: *bytes, said: Instant::now() };
                moved.insert(node.clone(), start);
                line(event)
            }
            Event::CheckPlanned { bytes, .. } => {
                moved.insert(None, Moved { done: 0, total: *bytes, said: Instant::now() });
                None
            }
            Event::TransferProgress { node, bytes, .. } => {
                let m = moved.get_mut(node)?;
                m.done += bytes;
                if m.said.elapsed() < PACE {
                    return None;
                }
                m.said = Instant::now();
                let (done, total) = (output::bytes(m.done), output::bytes(m.total));
                Some(format!("{}{done} of {total}", prefix(node.as_deref())))
            }
            _ => line(event),
        }
    }
}

fn prefix(node: Option<&str>) -> String {
    node.map_or_else(String::new, |n| format!("{n}: "))
}

/// The line that stays in a log about an event, if any.
fn line(event: &Event) -> Option<String> {
    Some(match event {
        // Told with the image that is imported.
        Event::Node { state: NodeState::Importing, .. } => return None,
        Event::Resolved { image, digest } => format!("{image} is {digest}"),
        Event::TransferPlanned { node, blobs, bytes, skipped } => {
            let (size, there) = (output::bytes(*bytes), output::bytes(*skipped));
            let blobs = output::count(usize::try_from(*blobs).unwrap_or(usize::MAX), "blob");
            format!("{}{size} in {blobs} to transfer, {there} there already", prefix(node.as_deref()))
        }
        Event::Retry { what, reason, delay_ms } => {
            format!("{what}: {reason}; trying again in {:.1} s", *delay_ms as f64 / 1000.0)
        }
        Event::Mirror { image, mirror } => format!("{image} comes from {mirror}"),
        Event::MirrorFailed { image, mirror, reason } => {
            format!("{image} does not come from {mirror}: {reason}")
        }
        Event::RateLimit { registry, remaining, limit, window_s } => {
            let limit = limit.map(|n| format!(" of {n}")).unwrap_or_default();
            let window = window_s.map(|s| format!(" within {} min", s.div_ceil(60))).unwrap_or_default();
            format!("{registry} answers {remaining}{limit} more requests{window}")
        }
        Event::Resumed { node, digest, offset } => {
            format!("{}{} resumes at {}", prefix(node.as_deref()), digest.short(), output::bytes(*offset))
        }
        Event::HostKeyRecorded { host, key, file } => {
            format!("recorded the host key of {host}: {key} in {file}")
        }
        // Why a node failed stands in the report; here it would stand twice.
        Event::Node { node, state } => format!("{node}: {}", state_word(state)),
        Event::NodeImage { node, image, step } => match step {
            ImageStep::Importing => format!("{node}: importing {image}"),
            ImageStep::Imported => format!("{node}: imported {image}"),
            ImageStep::Present => format!("{node}: has {image}"),
            ImageStep::Ready => return None,
        },
        Event::Warning { message } => format!("warning: {message}"),
        _ => return None,
    })
}

fn state_word(state: &NodeState) -> &'static str {
    match state {
        NodeState::Connecting => "connecting",
        NodeState::Probing => "probing",
        NodeState::Sending => "sending",
        NodeState::Importing => "importing",
        NodeState::Verifying => "verifying",
        NodeState::Settling => "writing down how far it came",
        NodeState::Ready => "ready",
        NodeState::Stopped => "stopped",
        NodeState::Failed(_) => "failed",
    }
}

/// One bar for what happens here and one a node.
struct Bars {
    all: MultiProgress,
    state: Mutex<BarState>,
}

#[derive(Default)]
struct BarState {
    here: Option<ProgressBar>,
    nodes: HashMap<String, ProgressBar>,
    /// Blobs whose next progress is what was there already.
    resumed: HashSet<(Option<String>, Digest)>,
    phase: &'static str,
}

const BYTES: &str =
    "{prefix:>16} {wide_bar} {decimal_bytes:>10}/{decimal_total_bytes:<10} {decimal_bytes_per_sec:>12} {msg}";
const STEPS: &str = "{prefix:>16} {wide_bar} {pos:>10}/{len:<10} {msg}";
const STATE: &str = "{prefix:>16} {spinner} {msg}";

impl Bars {
    fn state(&self) -> MutexGuard<'_, BarState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bar of a node, or of what happens here; made when it is not there.
    fn bar(&self, node: Option<&str>) -> ProgressBar {
        let mut state = self.state();
        let make = |prefix: &str, template| {
            let bar = self.all.add(ProgressBar::new(0));
            bar.set_style(style(template));
            bar.set_prefix(prefix.to_owned());
            bar
        };
        let BarState { here, nodes, phase, .. } = &mut *state;
        match node {
            // Nothing to count before its plan.
            Some(name) => nodes.entry(name.to_owned()).or_insert_with(|| make(name, STATE)).clone(),
            None => here.get_or_insert_with(|| make(phase, STEPS)).clone(),
        }
    }

    fn phase(&self, name: &'static str, total: Option<u64>) {
        let old = {
            let mut state = self.state();
            state.phase = name;
            state.here.take()
        };
        if let Some(bar) = old {
            bar.finish_and_clear();
        }
        if name == "resolve" {
            self.bar(None).set_length(total.unwrap_or(0));
        }
    }

    /// More bytes to come: a node that is planned for anew, after its connection broke, goes on from where it is.
    fn plan(&self, node: Option<&str>, bytes: u64) {
        let bar = self.bar(node);
        bar.set_style(style(BYTES));
        bar.set_length(bar.position() + bytes);
    }

    fn settle(&self) {
        let BarState { here, nodes, .. } = std::mem::take(&mut *self.state());
        here.iter().chain(nodes.values()).for_each(ProgressBar::finish_and_clear);
        // There may be no terminal any more; then there is nothing to clear.
        let _ = self.all.clear();
    }

    fn print(&self, event: &Event) {
        if let Some(text) = line(event) {
            self.all.suspend(|| output::error_line(&text));
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸ ")
}

impl EventSink for Bars {
    fn emit(&self, event: Event) {
        match &event {
            Event::Phase { name, total } => self.phase(name, *total),
            Event::Resolved { .. } => self.bar(None).inc(1),
            Event::TransferPlanned { node, bytes, .. } => self.plan(node.as_deref(), *bytes),
            Event::CheckPlanned { bytes, .. } => self.plan(None, *bytes),
            Event::Resumed { node, digest, .. } => {
                self.state().resumed.insert((node.clone(), digest.clone()));
            }
            Event::TransferProgress { node, digest, bytes } => {
                let there = self.state().resumed.remove(&(node.clone(), digest.clone()));
                let bar = self.bar(node.as_deref());
                bar.inc(*bytes);
                if there {
                    // What was not moved says nothing about the link.
                    bar.reset_eta();
                }
            }
            Event::Node { node, state: state @ (NodeState::Failed(_) | NodeState::Stopped) } => {
                self.bar(Some(node)).abandon_with_message(state_word(state));
                self.print(&event);
            }
            Event::Node { node, state: state @ NodeState::Ready } => {
                self.bar(Some(node)).finish_with_message(state_word(state));
            }
            Event::Node { node, state } => self.bar(Some(node)).set_message(state_word(state)),
            Event::Retry { .. }
            | Event::Warning { .. }
            | Event::MirrorFailed { .. }
            | Event::HostKeyRecorded { .. } => self.print(&event),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use indicatif::{InMemoryTerm, ProgressDrawTarget};

    use super::*;

    #[test]
    fn bars_follow_the_plan_and_leave_nothing_behind() {
        let term = InMemoryTerm::new(10, 100);
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(term.clone()), 255);
        let bars = Bars { all: MultiProgress::with_draw_target(target), state: Mutex::default() };
        let node = || Some("n1".to_owned());
        let moved = |bytes| Event::TransferProgress { node: node(), digest: Digest::sha256(b""), bytes };
        for _ in 0..2 {
            bars.emit(Event::Node { node: "n1".into(), state: NodeState::Connecting });
            assert!(bars.bar(Some("n1")).message().contains("connecting"));
            bars.emit(Event::TransferPlanned { node: node(), blobs: 2, bytes: 3000, skipped: 0 });
            bars.emit(moved(1000));
            // The connection broke, and what is left was planned anew.
            bars.emit(Event::TransferPlanned { node: node(), blobs: 1, bytes: 2000, skipped: 1000 });
            bars.emit(moved(2000));
            let bar = bars.bar(Some("n1"));
            assert_eq!((bar.position(), bar.length()), (3000, Some(3000)));
            bar.tick();
            assert!(term.contents().contains("n1"), "{}", term.contents());
            bars.settle();
            assert_eq!(term.contents(), "");
        }
    }

    #[test]
    fn a_host_key_that_was_recorded_is_told_with_its_file() {
        let event = Event::HostKeyRecorded {
            host: "10.0.0.1:22".into(),
            key: "ssh-ed25519 SHA256:abc".into(),
            file: "/home/u/.ssh/known_hosts".into(),
        };
        let told = "recorded the host key of 10.0.0.1:22: ssh-ed25519 SHA256:abc in /home/u/.ssh/known_hosts";
        assert_eq!(line(&event).as_deref(), Some(told));
    }

    #[test]
    fn each_phase_counts_for_itself() {
        let bars = Bars {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            state: Mutex::default(),
        };
        bars.emit(Event::Phase { name: "resolve", total: Some(2) });
        bars.emit(Event::Resolved { image: "a".into(), digest: Digest::sha256(b"") });
        assert_eq!((bars.bar(None).position(), bars.bar(None).length()), (1, Some(2)));
        bars.emit(Event::Phase { name: "pull", total: Some(5) });
        bars.emit(Event::TransferPlanned { node: None, blobs: 5, bytes: 700, skipped: 0 });
        assert_eq!((bars.bar(None).position(), bars.bar(None).length()), (0, Some(700)));
    }
}
