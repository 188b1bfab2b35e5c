//! `omk bundle export`.

use std::io::IsTerminal as _;

use clap::Args;

use super::{BundleArgs, made_error};
use crate::bundle::{BundleImage, Target, To, export};
use crate::cli::{CliError, Context, Outcome, OutputFormat, exit, output, say};
use crate::oci::{ImageRef, Platform};

/// Arguments of `omk bundle export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk bundle export web.bundle.tar --image nginx:1.27 -o docker-archive:nginx.tar && docker load -i nginx.tar
  omk bundle export /media/usb --image nginx:1.27 -o - | ssh node ctr -n k8s.io images import -
  omk bundle export web.bundle.tar -o oci:layout && skopeo copy oci:layout:docker.io/library/nginx:1.27 docker://h/nginx:1.27

oci-archive and oci keep every digest. docker-archive knows no manifests, so who loads it makes new ones up, and the
digest that the registry had is lost; it holds one platform an image.
Exit codes: 0 written, 1 it could not be, 2 wrong usage, 6 the bundle is damaged.")]
pub struct ExportArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    /// An image by name, or by its digest; may be given more than once; not given: all
    #[arg(long, value_name = "IMAGE")]
    image: Vec<String>,
    /// docker-archive:PATH, oci-archive:PATH or oci:DIR; PATH - is standard output, and - alone is oci-archive:-
    #[arg(short, long, value_name = "FORM:PATH")]
    output: String,
    /// Only this platform of each image
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// How the summary is printed, on standard error when the archive goes to standard output
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    summary: OutputFormat,
}

fn target(text: &str) -> Result<Target, CliError> {
    let usage = || {
        CliError::usage(format!("--output {text}: write docker-archive:PATH, oci-archive:PATH, oci:DIR or -"))
    };
    if text == "-" {
        return Ok(Target::OciArchive(To::Stream(Box::new(std::io::stdout()))));
    }
    let (form, path) = text.split_once(':').ok_or_else(usage)?;
    let file = || match path {
        "-" => To::Stream(Box::new(std::io::stdout())),
        path => To::File(path.into()),
    };
    match form {
        _ if path.is_empty() => Err(usage()),
        "docker-archive" => Ok(Target::DockerArchive(file())),
        "oci-archive" => Ok(Target::OciArchive(file())),
        "oci" if path != "-" => Ok(Target::Folder(path.into())),
        _ => Err(usage()),
    }
}

pub(super) async fn run(args: &ExportArgs, context: &Context) -> Outcome {
    let target = target(&args.output)?;
    let stream = matches!(target, Target::OciArchive(To::Stream(_)) | Target::DockerArchive(To::Stream(_)));
    if stream && std::io::stdout().is_terminal() {
        let hint = "send it into a pipe or a file";
        return Err(CliError::usage("standard output is a terminal").with_hint(hint));
    }
    let bundle = args.bundle.open_named(context).await?;
    let chosen = chosen(bundle.images(), &args.image)?;
    let done = export(&bundle, &chosen, args.platform.as_ref(), target, &context.events, &context.cancel)
        .await
        .map_err(made_error)?;
    let text = format!(
        "{}: {}, {}, {}",
        args.output,
        output::count(done.images, "image"),
        output::count(done.blobs, "blob"),
        output::bytes(done.size)
    );
    match (stream, args.summary) {
        (true, _) => crate::cli::warn(&text),
        (false, OutputFormat::Json) => output::json(&done)?,
        (false, OutputFormat::Table) => say(&text),
    }
    Ok(exit::OK)
}

/// By name as people write it, or by digest, of which twelve digits do.
fn chosen(images: &[BundleImage], asked: &[String]) -> Result<Vec<BundleImage>, CliError> {
    if asked.is_empty() {
        return Ok(images.to_vec());
    }
    let mut chosen: Vec<BundleImage> = Vec::new();
    for text in asked {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let by_digest = hex.len() >= 12 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let wanted = text.parse::<ImageRef>();
        let is = |i: &&BundleImage| {
            by_digest && i.graph.root.digest().hex().starts_with(hex)
                || wanted.as_ref().is_ok_and(|w| i.is(w))
        };
        let Some(found) = images.iter().find(is) else {
            let text = match &wanted {
                Err(error) if !by_digest => error.to_string(),
                _ => format!("the bundle has no image {text}"),
            };
            return Err(CliError::failed(text).with_hint("`omk bundle list` names all that it has"));
        };
        if !chosen.iter().any(|c| c.graph.root.digest() == found.graph.root.digest()) {
            chosen.push(found.clone());
        }
    }
    Ok(chosen)
}
