//! Where a chart's values come from.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Args};

use crate::chart::{Setting, ValuesInput};
use crate::cli::CliError;

/// Bytes of a values file. Real ones have some hundred kilobytes at most.
const MAX_FILE: u64 = 64 << 20;

/// Where a chart's values come from, as Helm names them.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Chart options")]
pub struct ValueArgs {
    /// Values file, - for standard input; may be given more than once, later ones win
    #[arg(short = 'f', long = "values", value_name = "FILE", value_delimiter = ',')]
    values: Vec<PathBuf>,
    /// Value, such as image.tag=1.2,hosts={a,b}
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The same, but always text
    #[arg(long, value_name = "KEY=VALUE")]
    set_string: Vec<String>,
    /// Value in JSON
    #[arg(long, value_name = "KEY=JSON")]
    set_json: Vec<String>,
    /// Value that is a file's content
    #[arg(long, value_name = "KEY=FILE")]
    set_file: Vec<String>,
    /// Value that is taken as it stands
    #[arg(long, value_name = "KEY=TEXT")]
    set_literal: Vec<String>,
    /// Do not check values against the chart's values.schema.json
    #[arg(long)]
    skip_schema_validation: bool,
}

/// `--flag` and `--flag=BOOL`, with the words for true and false that Go's `strconv.ParseBool` takes: scripts write
/// `--include-crds=${CRDS}`.
pub(super) fn takes_go_bool(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg;
    }
    let go_bool = |text: &str| match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write true or false"),
    };
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value("false")
        .hide_default_value(true)
        .value_name("BOOL")
        .value_parser(go_bool)
}

impl ValueArgs {
    /// Whether standard input is one of the files.
    pub fn reads_stdin(&self) -> bool {
        self.values.iter().any(|v| v.as_os_str() == "-")
    }

    /// Reads the files that are named.
    ///
    /// # Errors
    ///
    /// If one of them cannot be read, or a setting has no `=`.
    pub fn read(&self) -> Result<ValuesInput, CliError> {
        let mut input = ValuesInput { skip_schema: self.skip_schema_validation, ..ValuesInput::default() };
        for path in &self.values {
            input.files.push((path.display().to_string(), read_file(path)?));
        }
        // Helm applies them in this order, whatever the order on the command line.
        input.settings.extend(self.set_json.iter().cloned().map(Setting::Json));
        input.settings.extend(self.set.iter().cloned().map(Setting::Set));
        input.settings.extend(self.set_string.iter().cloned().map(Setting::SetString));
        for text in self.set_file.iter().flat_map(|text| cut(text, ',')) {
            // A comma at the end starts no key.
            if text.is_empty() {
                continue;
            }
            let mut parts = cut(text, '=').into_iter();
            let key = parts.next().unwrap_or_default();
            if key.len() == text.len() {
                return Err(no_value("--set-file", text));
            }
            let path = unescaped(&text[key.len() + 1..]);
            let content = if path.is_empty() { String::new() } else { read_file(&PathBuf::from(path))? };
            input.settings.push(Setting::File(key.to_owned(), content));
        }
        for text in &self.set_literal {
            let (key, value) = pair("--set-literal", text)?;
            input.settings.push(Setting::Literal(key, value));
        }
        Ok(input)
    }
}

fn no_value(flag: &str, text: &str) -> CliError {
    CliError::usage(format!("failed parsing {flag} data: key {text:?} has no value; write KEY=VALUE"))
}

fn pair(flag: &str, text: &str) -> Result<(String, String), CliError> {
    let (key, value) = text.split_once('=').ok_or_else(|| no_value(flag, text))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Cuts at `sign`, but not where a backslash stands before it: `a\.b=x,c=y`.
fn cut(text: &str, sign: char) -> Vec<&str> {
    let (mut all, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if c == sign && !escaped {
            all.push(&text[start..at]);
            start = at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    all.push(&text[start..]);
    all
}

/// Without the backslashes that keep the next character from its meaning.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

fn read_file(path: &Path) -> Result<String, CliError> {
    let shown = path.display();
    let text = path.to_string_lossy();
    if let Some(scheme) = ["http://", "https://", "oci://"].iter().find(|s| text.starts_with(**s)) {
        return Err(CliError::usage(format!(
            "{shown}: values are not fetched from {scheme}; download the file, or pipe it to `-f -`"
        )));
    }
    let failed = |e: std::io::Error| CliError::failed(format!("cannot read {shown}: {e}"));
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|f| f.take(MAX_FILE + 1).read_to_end(&mut bytes))
    };
    read.map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(CliError::failed(format!("{shown} is larger than {MAX_FILE} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| CliError::failed(format!("{shown} is not UTF-8 text")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_several_keys_are_told_apart() {
        assert_eq!(cut("a=x,b=y", ','), ["a=x", "b=y"]);
        assert_eq!(cut("a\\,b=x\\,y", ','), ["a\\,b=x\\,y"]);
        assert_eq!(cut("a\\=b=x", '='), ["a\\=b", "x"]);
        assert_eq!(unescaped("x\\,y\\\\z"), "x,y\\z");
    }

    #[test]
    fn values_are_not_fetched() {
        let error = read_file(Path::new("https://example.com/v.yaml")).unwrap_err();
        assert_eq!(error.code(), crate::cli::exit::USAGE);
    }
}
