//! `binfmt` teaches a Linux host to run programs of other CPU architectures: it registers QEMU's user emulators with
//! the kernel's `binfmt_misc`, proves that they work, and says what runs through what.
//!
//! From the bottom up, each module using only those before it:
//!
//! - the kernel: [`wording`], [`invocation`], [`wait`], [`lock`], [`lookup`], [`namespace`], [`process`], [`user_namespace`], [`anchor`], [`table`], [`mount`], [`root_directory`], [`runner`];
//! - the emulators' files, and what they say: [`complaint`], [`emulator`], [`identity`];
//! - policy, which returns values and prints nothing: [`survey`], [`status`], [`trial`], [`rehearsal`], [`install`],
//!   [`uninstall`], [`remedy`], [`hold`], [`verify`], [`deep`], [`list`], [`persist`],
//!   [`export`], [`explain`];
//! - the edge: [`report`] (the public JSON), [`text`], [`metrics`], [`cli`], [`streams`], [`session`] and [`run`](mod@run). Only
//!   the last two print, and only the last knows exit codes.

pub mod anchor;
pub mod cli;
pub mod complaint;
pub mod deep;
pub mod emulator;
pub mod explain;
pub mod export;
pub mod hold;
pub mod identity;
pub mod install;
pub mod invocation;
pub mod list;
pub mod lock;
pub mod lookup;
pub mod metrics;
pub mod mount;
pub mod namespace;
pub mod persist;
pub mod process;
pub mod rehearsal;
pub mod remedy;
pub mod report;
pub mod root_directory;
pub mod run;
pub mod runner;
pub mod session;
pub mod status;
pub mod streams;
pub mod survey;
pub mod table;
pub mod text;
pub mod trial;
pub mod uninstall;
pub mod user_namespace;
pub mod verify;
pub mod wait;
pub mod wording;
