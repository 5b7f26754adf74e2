//! The kernel's interfaces, one file each: what this program reads from the kernel, writes to it, and takes from it.
//!
//! [`wording`] is here too: how its error numbers, and the names that it may return, are shown.

pub mod anchor;
pub mod file_system;
pub mod lock;
pub mod mount;
pub mod namespace;
pub mod process;
pub mod pseudo;
pub mod root_directory;
pub mod table;
pub mod user_namespace;
pub mod wait;
pub mod wording;
