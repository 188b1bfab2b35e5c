//! The report as a page: one file without anything from elsewhere, to be kept beside the change that it is about.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, context};

use super::{PushReport, ReportKind};
use crate::units;

const PAGE: &str = include_str!("../../templates/report/report.html");

impl PushReport {
    /// As a page. Whatever nodes and bundles say is escaped.
    ///
    /// # Errors
    /// When the template fails, which would be a fault of it.
    pub fn html(&self) -> Result<String, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.add_filter("bytes", units::bytes);
        environment.add_filter("seconds", |ms: u64| format!("{}.{} s", ms / 1000, ms % 1000 / 100));
        environment.add_template("report.html", PAGE)?;
        let title = match self.kind {
            ReportKind::Preheat => "Images brought to nodes",
            ReportKind::Verify => "Images verified on nodes",
            ReportKind::Repair => "Images verified and mended on nodes",
        };
        let ready = self.nodes.iter().filter(|n| n.ready()).count();
        environment
            .get_template("report.html")?
            .render(context! { report => Serde(self), title, ready, total => self.nodes.len() })
    }
}
