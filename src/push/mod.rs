//! Putting a bundle's images onto nodes: plan, act, prove, report.
//!
//! The [plan](NodePlan) is a value made from the bundle and from what a node said it has; acting on it is another
//! step, so that a dry run prints exactly what a run would do.

mod disk;
mod executor;
mod free;
mod gentle;
mod html;
pub mod journal;
mod line;
mod node;
mod nodes;
mod order;
mod overlap;
mod pack;
pub mod plan;
mod preflight;
mod proof;
pub mod report;
pub mod rollback;
mod runs;
mod tally;
mod txn;
mod verify;

pub use executor::{Connector, Push, PushError, Target};
pub use nodes::{Nodes, Reached};
pub use plan::{DiskNeed, ImagePlan, NodePlan, PlanError, PushOptions, PushPlan, Refused, SkippedBlob};
pub use proof::{Check, CheckKind, Verdict};
pub use report::{
    ImageReport, NodeReport, NodeResult, PushReport, ReportKind, UndoReport, UndoState, Undone,
};
pub use rollback::{NodeRollback, RollbackError, RollbackReport, Unrecorded, Which};
pub use runs::{NodeRuns, RunSummary};
pub use verify::Wanted;
