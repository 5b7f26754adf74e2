//! The tool on the machine's own table, in mount namespaces and containers of it, as root: what is special about the table that
//! the whole machine shares. Tests take turns.

mod anchor;
#[path = "../harness/mod.rs"]
mod harness;
