//! What is decided: which handlers there are, which there ought to be, and what is done about the difference.
//!
//! Everything here returns values, and prints nothing.

pub mod hold;
pub mod install;
pub mod invocation;
pub mod persist;
pub mod rehearsal;
pub mod remedy;
pub mod run;
pub mod status;
pub mod survey;
pub mod transaction;
pub mod trial;
pub mod uninstall;
pub mod verify;
