//! Exit codes: scripts branch on them, so they never change their meaning.

/// All that was asked for was done.
pub const OK: u8 = 0;
/// It failed; the message on standard error says why.
pub const FAILED: u8 = 1;
/// The command line is wrong (clap's own code).
pub const USAGE: u8 = 2;
/// Some documents could not be read, or an image that may be needed could not be had; everything else was done.
pub const PARTIAL: u8 = 3;
/// Some nodes are not ready; the others are.
pub const SOME_NODES_FAILED: u8 = 4;
/// No node is ready.
pub const ALL_NODES_FAILED: u8 = 5;
/// A bundle, or something in the image cache, is damaged.
pub const DAMAGED: u8 = 6;
/// An image is not pinned as `--fail-on-latest` or `--fail-on-unpinned` asks.
pub const UNPINNED: u8 = 7;
/// A cluster runs an image that the bundle lacks, or another digest of one.
pub const DIFFERENT: u8 = 8;
/// Stopped by Ctrl-C or SIGTERM; the same command goes on from there.
pub const CANCELLED: u8 = 130;

/// The table for `--help`, the manual and the README.
pub const HELP: &str = "\
Exit codes:
  0    done
  1    failed; standard error says why
  2    wrong usage
  3    some documents could not be read, or an image that is likely needed could not be had; everything else was done
  4    some nodes are not ready, the others are
  5    no node is ready
  6    the bundle, or something in the image cache, is damaged
  7    an image is not pinned as --fail-on-latest or --fail-on-unpinned asks
  8    the cluster runs what the bundle lacks, or another digest of it
  130  stopped by Ctrl-C or SIGTERM; the same command goes on from there";
