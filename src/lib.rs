//! omk finds the images that a Kubernetes cluster needs, packs them into one file, and puts them onto its nodes.
//!
//! One sentence describes the whole: *sources yield findings; findings become references; references resolve to a
//! graph of content-addressed blobs; the graph is copied from store to store; a runtime turns a staged graph into
//! images.*
//!
//! ```text
//! discover ──▶ registry ──▶ graph ──▶ copy ──▶ bundle ──▶ push plan ──▶ node staging ──▶ runtime ──▶ report
//! ```
//!
//! The library never prints and knows no command line: what happens is told to an [`event::EventSink`]. [`facade::Omk`] has its
//! operations in one value, with an example that runs.
//!
//! ```
//! use omk::oci::ImageRef;
//!
//! let image: ImageRef = "nginx:1.27".parse()?;
//! assert_eq!(image.to_string(), "docker.io/library/nginx:1.27");
//! # Ok::<(), omk::oci::ReferenceError>(())
//! ```

pub mod bundle;
pub mod cache;
pub mod catalogue;
pub mod chart;
pub mod cli;
pub mod config;
pub mod copy;
pub mod demo;
pub mod discover;
pub mod event;
pub mod facade;
pub mod graph;
pub mod kustomize;
mod near;
pub mod node;
pub mod oci;
pub mod push;
pub mod registry;
pub mod runtime;
pub mod serve;
pub mod store;
pub mod template;
pub mod units;
pub mod yaml;
