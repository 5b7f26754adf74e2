//! The forms of output, and where they go.

pub mod json;
pub mod prometheus;
pub mod streams;
pub mod text;
