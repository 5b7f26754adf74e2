//! The public JSON of `--verify`.

use serde::Serialize;

use super::name;
use crate::deep::{Examined, Tried};
use crate::verify::{Audit, Finding, InOrder, Mend};
use crate::wording::shown;

/// What `binfmt --verify --format json` prints.
#[derive(Debug, Serialize)]
pub struct Verification {
    /// Whether there is nothing to mend.
    pub in_order: bool,
    /// What differs from what an install would make now.
    pub findings: Vec<FindingReport>,
    /// What is as an install would make it.
    pub checked: Vec<Checked>,
    /// The one command that mends what a command can mend.
    pub mend: Option<String>,
    /// What came of the root file systems of `--deep`.
    pub deep: Vec<DeepReport>,
}

/// One root file system.
#[derive(Debug, Serialize)]
pub struct DeepReport {
    /// Its directory.
    pub root: String,
    /// The platform that its shell is for.
    pub platform: String,
    /// Each thing that was to be tried.
    pub checks: Vec<CheckReport>,
}

/// One thing that was to be tried.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// Its name.
    pub check: &'static str,
    /// `passed`, `failed` or `not_tried`.
    pub state: &'static str,
    /// Why it has not passed.
    pub reason: Option<String>,
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
    /// What to do where no command mends it.
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
}

impl Verification {
    /// What `audit` came to; `mend` is the command.
    #[must_use]
    pub fn new(audit: &Audit, mend: Option<String>, deep: &[Examined]) -> Self {
        Self {
            in_order: audit.findings.is_empty(),
            findings: audit.findings.iter().map(FindingReport::from).collect(),
            checked: audit.in_order.iter().map(Checked::from).collect(),
            mend,
            deep: deep.iter().map(DeepReport::from).collect(),
        }
    }
}

impl DeepReport {
    /// Those that have failed.
    pub fn failing(&self) -> impl Iterator<Item = &CheckReport> {
        self.checks.iter().filter(|check| check.state == FAILED)
    }
}

const FAILED: &str = "failed";

impl From<&Examined> for DeepReport {
    fn from(examined: &Examined) -> Self {
        let checks = examined.checks.iter().map(|(check, tried)| {
            let (state, reason) = match tried {
                Tried::Passed => ("passed", None),
                Tried::Failed(what) => (FAILED, Some(what.clone())),
                Tried::Not(why) => ("not_tried", Some(why.clone())),
            };
            CheckReport {
                check,
                state,
                reason,
            }
        });
        Self {
            root: examined.root.to_string_lossy().into_owned(),
            platform: name(examined.arch),
            checks: checks.collect(),
        }
    }
}

impl From<&Finding> for FindingReport {
    fn from(finding: &Finding) -> Self {
        Self {
            platform: finding.arch.map(name),
            entry: finding.entry.as_deref().map(shown),
            kind: finding.drift.kind(),
            text: finding.drift.to_string(),
            advice: match &finding.mend {
                Mend::Advice(advice) => Some(advice.clone()),
                _ => None,
            },
        }
    }
}

impl From<&InOrder> for Checked {
    fn from(in_order: &InOrder) -> Self {
        Self {
            platform: name(in_order.arch),
            entry: in_order.entry.as_deref().map(shown),
            left_to_other: in_order.left_to,
        }
    }
}
