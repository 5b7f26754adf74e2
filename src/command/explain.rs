//! `--explain`: why a file runs here, or does not.

use std::env;
use std::path::Path;

use anyhow::Result;

use super::Call;
use crate::explain::{Context, explain as explained};
use crate::kernel::mount;
use crate::kernel::root_directory::PATH;
use crate::kernel::table::Table;
use crate::kernel::wording::printable;
use crate::output::text;

/// Shows why `file`, below `root` if that is named, runs. A file that does not run, or may not, is a failure.
pub(super) fn explain(call: &mut Call, file: &Path, root: Option<&Path>) -> Result<()> {
    let survey = call.survey()?;
    let table = mount::for_looking(&call.at)?;
    let context = Context {
        remedies: call.remedies(&survey),
        table: table.as_ref().map_or(&call.at.dir, Table::path),
        root,
        entered: None,
        verbose: call.settings.verbose,
    };
    let path = env::var_os("PATH").filter(|_| root.is_none());
    let explanation = explained(file, &path.unwrap_or_else(|| PATH.into()), &context)?;
    if let Some(reason) = &explanation.reason {
        let file = printable(&explanation.file);
        let verdict = match explanation.runs {
            None => format!("whether {file} runs is not known"),
            Some(_) => format!("{file} does not run"),
        };
        let remedy = explanation.remedy.as_deref().unwrap_or_default();
        call.lacks(format!("{verdict}: {reason}; {remedy}"));
    }
    call.show(&explanation, |out, colour, _| text::write_explained(out, &explanation, colour))
}
