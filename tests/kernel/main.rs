//! The tool against the real kernel, in user namespaces with a table of their own: as many at a time as there are processors,
//! and without root. A file per topic.

mod bad_input;
mod cli;
mod complaint;
mod concurrency;
mod debian;
mod defects;
mod explain;
mod faults;
mod file_server;
#[path = "../harness/mod.rs"]
mod harness;
mod hold;
mod hostile;
mod identity;
mod install;
mod kinds;
mod load;
mod metrics;
mod mount;
mod newer;
mod persist;
mod probes;
mod replace;
mod run;
mod single;
mod status;
mod uninstall;
mod verify;
