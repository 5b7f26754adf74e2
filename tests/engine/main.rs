//! The image, the units, the packages and the pod, with a Docker engine, on the machine's own table. Tests take turns.

mod action;
mod buildkit;
mod docker;
#[path = "../harness/mod.rs"]
mod harness;
mod kubernetes;
mod package;
mod recipes;
mod systemd;
