//! `omk bundle list`.

use clap::Args;
use serde::Serialize;

use super::BundleArgs;
use super::inspect::{platforms_of, shown};
use crate::cli::{Context, Outcome, OutputFormat, exit, output, say};
use crate::oci::{Digest, Platform};

/// Arguments of `omk bundle list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk bundle list web.bundle.tar
  omk bundle list images.tar.gz -o json | jq -r '.[].name'
  omk bundle list /media/usb

Exit codes: 0 listed, 1 no bundle, 6 the bundle is damaged.")]
pub struct ListArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    /// How the list is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    digest: &'a Digest,
    platforms: Vec<&'a Platform>,
    size: u64,
}

pub(super) async fn run(args: &ListArgs, context: &Context) -> Outcome {
    let found = args.bundle.open(context).await?.inspect();
    let each = || found.images.iter().flat_map(|i| shown(i).into_iter().map(move |name| (name, i)));
    match args.output {
        OutputFormat::Json => {
            let platforms = |i: &'_ crate::bundle::InspectedImage| -> Vec<Platform> {
                i.variants.iter().filter_map(|v| v.platform.clone()).collect()
            };
            let held: Vec<Vec<Platform>> = each().map(|(_, i)| platforms(i)).collect();
            let rows: Vec<Listed<'_>> = each()
                .zip(&held)
                .map(|((name, i), p)| Listed {
                    name,
                    digest: &i.digest,
                    platforms: p.iter().collect(),
                    size: i.size,
                })
                .collect();
            output::json(&rows)?;
        }
        OutputFormat::Table => {
            let row = |(name, i): (&String, &crate::bundle::InspectedImage)| {
                vec![name.clone(), i.digest.to_string(), platforms_of(i), output::bytes(i.size)]
            };
            let rows: Vec<_> = each().map(row).collect();
            say(&output::table(&["IMAGE", "DIGEST", "PLATFORM", "SIZE"], &rows));
        }
    }
    Ok(exit::OK)
}
