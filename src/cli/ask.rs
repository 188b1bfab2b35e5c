//! Questions at the terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};

use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use tokio_util::sync::CancellationToken;

use super::progress;
use crate::node::Secret;
use crate::node::ssh::Ask;

/// A longer answer is cut off, in bytes.
const MAX_ANSWER: usize = 4096;

/// The terminal that omk was started from, whatever its input and output are.
pub(super) struct Terminal {
    cancel: CancellationToken,
}

impl Terminal {
    /// `None` where there is nobody to ask.
    pub(super) fn here(cancel: &CancellationToken) -> Option<Self> {
        open().ok().map(|_| Self { cancel: cancel.clone() })
    }
}

fn open() -> std::io::Result<File> {
    File::options().read(true).write(true).open("/dev/tty")
}

impl Ask for Terminal {
    fn ask(&self, question: &str, echo: bool) -> Option<Secret> {
        let _quiet = progress::hush();
        let mut tty = open().ok()?;
        let raw = Raw::enter(&tty).ok()?;
        tty.write_all(question.as_bytes()).ok()?;
        let answer = self.line(&mut tty, echo);
        let _ = tty.write_all(b"\r\n");
        drop(raw);
        answer.filter(|a| !a.is_empty()).map(Secret::new)
    }
}

impl Terminal {
    /// Without the terminal's own signals: Ctrl-C has to put the terminal right first, which a read that waits cannot.
    fn line(&self, tty: &mut File, echo: bool) -> Option<String> {
        let mut line: Vec<u8> = Vec::new();
        let mut byte = [0];
        loop {
            if self.cancel.is_cancelled() {
                return None;
            }
            if tty.read(&mut byte).ok()? == 0 {
                continue;
            }
            match byte[0] {
                b'\r' | b'\n' => return String::from_utf8(line).ok(),
                // Ctrl-C: for the whole program.
                3 => {
                    let _ = kill_process(getpid(), Signal::INT);
                    return None;
                }
                // Ctrl-D
                4 if line.is_empty() => return None,
                8 | 127 => {
                    // All of a character that has several bytes.
                    while line.pop().is_some_and(|b| b & 0xc0 == 0x80) {}
                    if echo {
                        let _ = tty.write_all(b"\x08 \x08");
                    }
                }
                // Ctrl-U
                21 => line.clear(),
                b if b < 32 => {}
                b if line.len() < MAX_ANSWER => {
                    line.push(b);
                    if echo {
                        let _ = tty.write_all(&byte);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The terminal without echo, until dropped.
struct Raw {
    tty: File,
    before: Termios,
}

impl Raw {
    fn enter(tty: &File) -> std::io::Result<Self> {
        let before = tcgetattr(tty)?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN;
        raw.input_modes |= InputModes::ICRNL;
        // A read comes back after a tenth of a second, so that somebody can stop all this.
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = 1;
        let raw_tty = tty.try_clone()?;
        // Flush: what was typed before the question was not meant as its answer.
        tcsetattr(tty, OptionalActions::Flush, &raw)?;
        Ok(Self { tty: raw_tty, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.tty, OptionalActions::Flush, &self.before);
    }
}
