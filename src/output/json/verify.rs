//! The public JSON of `--verify`.

use serde::Serialize;

use super::{name, text};
use crate::policy::verify::{Audit, Finding, InOrder, Repair};

/// What `binfmt --verify --format json` prints.
#[derive(Debug, Serialize)]
pub struct Verification {
    /// Whether nothing was found, and nothing unknown was asked for.
    pub in_order: bool,
    /// What differs from what an install would make now.
    pub findings: Vec<FindingReport>,
    /// What is as an install would make it.
    pub checked: Vec<Checked>,
    /// The one command that repairs what a command can repair.
    pub repair: Option<String>,
    /// What was asked for and is no platform, in words.
    pub unknown: Vec<String>,
}

/// One difference.
#[derive(Debug, Serialize)]
pub struct FindingReport {
    /// The platform that it is about, if it is about one.
    pub platform: Option<String>,
    /// The entry, if there is one.
    pub entry: Option<String>,
    /// Its kind: `flags`, `magic`, `mask`, `path`, `emulator`, `shadowed`, ….
    pub kind: &'static str,
    /// What differs, in words.
    pub text: String,
    /// What to do where no command repairs it.
    pub advice: Option<String>,
}

/// One platform that is in order.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// OCI platform.
    pub platform: String,
    /// Its entry; `null` for what the kernel runs by itself.
    pub entry: Option<String>,
    /// Whether that is another tool's, which an install leaves alone.
    pub left_to_other: bool,
    /// Why an install would keep it although it differs from what is installed where there is none.
    pub kept: Option<String>,
}

impl Verification {
    /// What `audit` came to; `repair` is the command, `unknown` what was asked for and is no platform.
    #[must_use]
    pub fn new(audit: &Audit, repair: Option<String>, unknown: Vec<String>) -> Self {
        Self {
            in_order: audit.findings.is_empty() && unknown.is_empty(),
            findings: audit.findings.iter().map(FindingReport::from).collect(),
            checked: audit.in_order.iter().map(Checked::from).collect(),
            repair,
            unknown,
        }
    }
}

impl From<&Finding> for FindingReport {
    fn from(finding: &Finding) -> Self {
        Self {
            platform: finding.arch.map(name),
            entry: finding.entry.as_deref().map(text),
            kind: finding.drift.kind(),
            text: finding.drift.to_string(),
            advice: match &finding.repair {
                Repair::Advice(advice) => Some(advice.clone()),
                _ => None,
            },
        }
    }
}

impl From<&InOrder> for Checked {
    fn from(in_order: &InOrder) -> Self {
        Self {
            platform: name(in_order.arch),
            entry: in_order.entry.as_deref().map(text),
            left_to_other: in_order.left_to,
            kept: in_order.kept.clone(),
        }
    }
}
