//! `omk bundle split`.

use std::path::PathBuf;

use clap::Args;

use super::{BundleArgs, made_error};
use crate::bundle::{Bundle, SplitReport, SplitRequest, VolumeSize, split};
use crate::cli::{CliError, Context, Outcome, OutputFormat, exit, output, say};

/// Arguments of `omk bundle split`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk bundle split web.bundle.tar --split fat32 -o /media/usb/web
  omk bundle split web.bundle.tar --split dvd --parity 10% --with-omk -o discs
  omk bundle split saved-by-docker.tar --base-name quay.io/acme/web --split 700MB -o volumes

The volumes are read where they lie: every command takes their folder, or any one of them. The same bundle gives the same
volumes, so a single one can be replaced.
Exit codes: 0 written, 1 they could not be, 2 wrong usage, 6 the bundle is damaged.")]
pub struct SplitArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    #[command(flatten)]
    volumes: VolumeArgs,
    /// The largest file: fat32 (less than 4 GiB), dvd, bd, or a size such as 700MB or 4GiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    split: (VolumeSize, bool),
    /// The folder to write into
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// How the summary is printed
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    summary: OutputFormat,
}

/// What can be said about volumes.
#[derive(Debug, Args)]
pub(super) struct VolumeArgs {
    /// Volumes with parity for each hundred with data, rounded up: as many as there are may be lost
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = percent)]
    parity: u8,
    /// The beginning of the names of the volumes; not given: the name of the bundle
    #[arg(long, value_name = "NAME", value_parser = plain)]
    volume_name: Option<String>,
    /// Put this omk beside the volumes
    #[arg(long)]
    with_omk: bool,
}

/// A size, and whether it is that of a disc, which also has to hold what lies beside the volume.
pub(super) fn size(word: &str) -> Result<(VolumeSize, bool), String> {
    word.parse().map(|size| (size, VolumeSize::is_disc(word)))
}

fn percent(word: &str) -> Result<u8, String> {
    let n = |word: &str| word.parse::<u8>().ok().filter(|n| *n <= 100);
    match (word.strip_suffix('%').and_then(n), n(word)) {
        (Some(n), _) | (None, Some(n @ 0)) => Ok(n),
        // It could as well be a number of volumes.
        (None, Some(n)) => {
            Err(format!("write {n}%: volumes with parity for each hundred with data, rounded up"))
        }
        (None, None) => Err("a percentage from 0% to 100%".to_owned()),
    }
}

fn plain(word: &str) -> Result<String, String> {
    let good = !word.is_empty()
        && word.len() <= 100
        && !word.starts_with('.')
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+'));
    if good {
        Ok(word.to_owned())
    } else {
        Err("letters, digits, '.', '-', '_' and '+', at most 100".to_owned())
    }
}

impl VolumeArgs {
    /// What was asked for, of that size and into that folder.
    pub(super) fn request(
        &self,
        (size, disc): (VolumeSize, bool),
        output: PathBuf,
        name: Option<String>,
    ) -> Result<SplitRequest, CliError> {
        let program = if self.with_omk { Some(std::env::current_exe()?) } else { None };
        let room = match &program {
            Some(program) if disc => std::fs::metadata(program)?.len(),
            _ => 0,
        };
        let name = self.volume_name.clone().or(name);
        Ok(SplitRequest { output, name, size: size.less(room), parity: self.parity, program })
    }
}

pub(super) async fn run(args: &SplitArgs, context: &Context) -> Outcome {
    let request = args.volumes.request(args.split, args.output.clone(), None)?;
    let bundle = args.bundle.open_named(context).await?;
    let report = write(&bundle, &request, context).await?;
    match args.summary {
        OutputFormat::Json => output::json(&report)?,
        OutputFormat::Table => say(&summary(&report)),
    }
    Ok(exit::OK)
}

pub(super) async fn write(
    bundle: &Bundle,
    request: &SplitRequest,
    context: &Context,
) -> Result<SplitReport, CliError> {
    split(bundle, request, &context.events, &context.cancel).await.map_err(made_error)
}

pub(super) fn summary(report: &SplitReport) -> String {
    let rows: Vec<Vec<String>> = report
        .volumes
        .iter()
        .map(|v| {
            vec![v.file.clone(), if v.parity { "parity" } else { "data" }.to_owned(), output::bytes(v.size)]
        })
        .collect();
    let parity = report.volumes.iter().filter(|v| v.parity).count();
    let able = match parity {
        0 => "every one is needed".to_owned(),
        1 => "any one may be lost".to_owned(),
        n => format!("any {n} may be lost"),
    };
    format!(
        "{}\n\n{}: {} on {}, {able}; {:.1} s",
        output::table(&["VOLUME", "HOLDS", "SIZE"], &rows),
        report.output.display(),
        output::bytes(report.size),
        output::count(report.volumes.len(), "volume"),
        report.duration_ms as f64 / 1000.0
    )
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn parity_is_a_percentage_and_says_so() {
        assert_eq!((percent("10%"), percent("0"), percent("100%")), (Ok(10), Ok(0), Ok(100)));
        assert!(percent("2").unwrap_err().contains("write 2%"));
        for bad in ["101%", "-1%", "x", "", "%"] {
            assert!(percent(bad).unwrap_err().contains("from 0% to 100%"), "{bad}");
        }
    }
}
