//! Three ways to show the same events on standard error.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{output, warn};
use crate::event::{Event, EventSink, Events, ImageStep, NodeState};

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

/// The sink of a command, with an end.
pub(super) struct Sink {
    events: Events,
    bars: Option<MultiProgress>,
}

impl Sink {
    pub(super) fn new(mode: Mode) -> Self {
        let mode = match mode {
            Mode::Auto if std::io::stderr().is_terminal() => Mode::Bar,
            Mode::Auto => Mode::Plain,
            other => other,
        };
        if mode == Mode::Bar {
            let bars = MultiProgress::new();
            let sink = Bars { all: bars.clone(), lines: Mutex::default(), phase: Mutex::new("") };
            return Self { events: Arc::new(sink), bars: Some(bars) };
        }
        Self { events: Arc::new(Lines { mode, moved: Mutex::default() }), bars: None }
    }

    pub(super) fn events(&self) -> Events {
        Arc::clone(&self.events)
    }

    /// Takes the bars away, so that what is printed next stands alone.
    pub(super) fn finish(&self) {
        if let Some(bars) = &self.bars {
            let _ = bars.clear();
        }
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
                    warn(&line);
                }
            }
            Mode::None => {
                if let Event::Warning { message } = &event {
                    warn(&format!("warning: {message}"));
                }
            }
            _ => {
                if let Some(line) = self.plain(&event) {
                    warn(&line);
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
        Event::Resolved { image, digest } => format!("{image} is {digest}"),
        Event::TransferPlanned { node, blobs, bytes, skipped } => {
            let (size, there) = (output::bytes(*bytes), output::bytes(*skipped));
            let blobs = output::count(usize::try_from(*blobs).unwrap_or(usize::MAX), "blob");
            format!("{}{size} in {blobs} to transfer, {there} there already", prefix(node.as_deref()))
        }
        Event::Retry { what, reason, delay_ms } => {
            format!("{what}: {reason}; trying again in {:.1} s", *delay_ms as f64 / 1000.0)
        }
        Event::Resumed { node, digest, offset } => {
            format!("{}{} resumes at {}", prefix(node.as_deref()), digest.short(), output::bytes(*offset))
        }
        Event::Node { node, state } => match state {
            NodeState::Failed(reason) => format!("{node}: failed: {reason}"),
            other => format!("{node}: {}", state_word(other)),
        },
        Event::NodeImage { node, image, step } => match step {
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
        NodeState::Ready => "ready",
        NodeState::Failed(_) => "failed",
    }
}

/// One bar for the local copy and one a node.
struct Bars {
    all: MultiProgress,
    lines: Mutex<HashMap<Option<String>, ProgressBar>>,
    phase: Mutex<&'static str>,
}

impl Bars {
    fn bar(&self, node: Option<&str>) -> ProgressBar {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let made = lines.entry(node.map(str::to_owned)).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new(0));
            bar.set_style(style(
                "{prefix:>16} {wide_bar} {bytes:>10}/{total_bytes:<10} {bytes_per_sec:>12} {msg}",
            ));
            let phase = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
            bar.set_prefix(node.unwrap_or(phase).to_owned());
            bar
        });
        made.clone()
    }

    fn print(&self, text: &str) {
        // Without a terminal to draw on, indicatif drops the line.
        let _ = self.all.println(text);
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
            Event::Phase { name, .. } => *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = name,
            Event::TransferPlanned { node, bytes, .. } => self.bar(node.as_deref()).set_length(*bytes),
            Event::CheckPlanned { bytes, .. } => self.bar(None).set_length(*bytes),
            Event::TransferProgress { node, bytes, .. } => self.bar(node.as_deref()).inc(*bytes),
            Event::Node { node, state: NodeState::Failed(_) } => {
                self.bar(Some(node)).abandon_with_message("failed");
                line(&event).iter().for_each(|l| self.print(l));
            }
            Event::Node { node, state: NodeState::Ready } => {
                self.bar(Some(node)).finish_with_message("ready");
            }
            Event::Node { node, state } => self.bar(Some(node)).set_message(state_word(state)),
            Event::Retry { .. } | Event::Warning { .. } => line(&event).iter().for_each(|l| self.print(l)),
            _ => {}
        }
    }
}
