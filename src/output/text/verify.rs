//! The table of `--verify`.

use std::io::{self, Write};

use super::{row, write_columns};
use crate::output::json::{Checked, FindingReport, Verification};

/// Writes a line per platform that is in order, and one per finding, for a terminal of `width` columns if it is for one.
pub fn write_verification(
    out: &mut dyn Write,
    verification: &Verification,
    colour: bool,
    width: Option<usize>,
) -> io::Result<()> {
    let mut rows = vec![row(["PLATFORM", "STATE", "ENTRY", "FINDING"])];
    rows.extend(verification.checked.iter().map(checked));
    rows.extend(verification.findings.iter().map(finding));
    write_columns(out, &rows, colour, width, &[2])
}

fn checked(checked: &Checked) -> Vec<String> {
    let note = match (&checked.entry, &checked.kept) {
        (None, _) => "native".to_owned(),
        (Some(_), _) if checked.left_to_other => "not QEMU's, and left to it".to_owned(),
        (Some(_), Some(why)) => format!("kept: {why}"),
        (Some(_), None) => "-".to_owned(),
    };
    let entry = checked.entry.as_deref().unwrap_or("-");
    row([&checked.platform, "in order", entry, &note])
}

fn finding(finding: &FindingReport) -> Vec<String> {
    let or_dash = |text| Option::as_deref(text).unwrap_or("-");
    let (platform, entry) = (or_dash(&finding.platform), or_dash(&finding.entry));
    row([platform, "drift", entry, &finding.text])
}
