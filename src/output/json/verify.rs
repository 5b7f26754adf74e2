//! The public JSON of `--verify`.

use serde::Serialize;

use super::name;
use crate::kernel::wording::text;
use crate::policy::verify::{Audit, Finding, InOrder, Repair};

/// What `binfmt --verify --format json` prints.
#[derive(Debug, Serialize)]
pub struct Verification {
    pub in_order: bool,
    pub findings: Vec<FindingReport>,
    pub checked: Vec<Checked>,
    pub repair: Option<String>,
    pub unknown: Vec<String>,
}

/// One difference.
#[derive(Debug, Serialize)]
pub struct FindingReport {
    pub platform: Option<String>,
    pub entry: Option<String>,
    pub kind: &'static str,
    pub text: String,
    pub advice: Option<String>,
}

/// One platform that is in order.
#[derive(Debug, Serialize)]
pub struct Checked {
    pub platform: String,
    pub entry: Option<String>,
    pub left_to_other: bool,
    pub kept: Option<String>,
}

impl Verification {
    /// What `audit` came to; `repair` is the command, `unknown` what was asked for and is no platform.
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
            kind: finding.kind,
            text: finding.text.clone(),
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
