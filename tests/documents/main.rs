//! What the pages say, against what there is: commands are run, tables and links compared.

mod bench;
#[path = "../harness/mod.rs"]
mod harness;
mod pages;
mod readme;
