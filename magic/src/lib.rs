//! What a CPU architecture is to Linux's `binfmt_misc`: its names, its magic and mask, its registration line and the
//! smallest program that proves an emulator runs it.
//!
//! Pure data and pure functions. Nothing here reads a file, knows a mount point or prints; the `binfmt` package does.

pub mod arch;
pub mod entry;
pub mod platform;
pub mod probe;
pub mod rule;
