//! What says where images are pulled from, not which: left out on purpose.

use super::super::held::{Held, REGISTRIES};
use super::super::{Findings, Severity};
use super::{Here, Step};

pub(super) fn ignored(_: &mut Here<'_>, object: &Held, _last: bool) -> Step {
    let what = if object.kind == REGISTRIES { "a list of mirrors" } else { "an object of mirrors" };
    let reason =
        format!("is {what}: it says where images are pulled from, not which, and is left out on purpose");
    Ok(Findings { problems: vec![object.problem(Severity::Warning, "", reason)], ..Findings::default() })
}
