//! What is wrong with a schema itself, in the words of Helm's JSON decoder and of its schema library.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;

use super::words;
use crate::chart::values::Tree;

/// Where Helm's library says that a chart's schema is.
const PLACE: &str = "file:///values.schema.json";

/// Violations of the metaschema that are told.
const MAX_ERRORS: usize = 50;

/// Why a schema is not JSON, as Go words it where `serde_json` says the same.
pub(super) fn not_json(text: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        let blank = text.iter().all(u8::is_ascii_whitespace);
        return format!("{} (schema is not JSON: {error})", if blank { "EOF" } else { "unexpected EOF" });
    }
    let line = text.split(|b| *b == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let line = String::from_utf8_lossy(line.get(error.column().saturating_sub(1)..).unwrap_or_default());
    let c = match line.chars().next() {
        Some('\'') => r"'\''".to_owned(),
        Some(c) => format!("'{c}'"),
        None => r"'\n'".to_owned(),
    };
    let said = error.to_string();
    let begins = |text: &str| said.starts_with(text);
    let go = if begins("key must be") || (begins("trailing comma") && line.starts_with('}')) {
        format!("invalid character {c} looking for beginning of object key string")
    } else if begins("expected value") || begins("trailing comma") {
        format!("invalid character {c} looking for beginning of value")
    } else if begins("expected `:`") {
        format!("invalid character {c} after object key")
    } else if begins("expected `,` or `}`") {
        format!("invalid character {c} after object key:value pair")
    } else if begins("expected `,` or `]`") {
        format!("invalid character {c} after array element")
    } else if begins("trailing characters") {
        "invalid character after top-level value".to_owned()
    } else {
        return format!("schema is not JSON: {said}");
    };
    format!("{go} (schema is not JSON: {said})")
}

/// Why a schema cannot be used.
pub(super) fn unusable(schema: &Tree, error: &ValidationError<'_>) -> String {
    let reason: String = error.to_string().chars().take(500).collect();
    let Ok(metaschema) = jsonschema::meta::validator_for(schema) else {
        return format!("schema cannot be used: at '{}': {reason}", error.schema_path().as_str());
    };
    let errors: Vec<_> = metaschema.iter_errors(schema).take(MAX_ERRORS).collect();
    if let Kind::Format { format } = error.kind()
        && errors.is_empty()
    {
        // The metaschemas of the crate do not check formats.
        let pattern = error.instance().as_str().unwrap_or_default();
        let why = crate::template::wrong_pattern(pattern).unwrap_or_else(|| "too large".to_owned());
        let at = error.schema_path().as_str();
        return format!(
            "\"{PLACE}#\" is not valid against metaschema: at '{at}': '{pattern}' is not valid {format}: error parsing \
             regexp: {why}"
        );
    }
    if errors.is_empty() {
        return format!("{reason}, in {PLACE}{}", error.schema_path().as_str());
    }
    let dialect = schema.get("$schema").and_then(Tree::as_str);
    let dialect = dialect.unwrap_or("https://json-schema.org/draft/2020-12/schema").trim_end_matches('#');
    let told = words::tell(&errors, &Tree::Null);
    format!(
        "\"{PLACE}#\" is not valid against metaschema: jsonschema validation failed with '{dialect}#'\n{}",
        told.trim_end()
    )
}
