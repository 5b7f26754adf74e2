//! What this program starts itself again for, with a hidden first argument.

pub mod probes;
