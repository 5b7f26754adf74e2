//! `--explain`: why a file runs here, or does not.

use std::env;
use std::path::Path;

use anyhow::Result;

use super::Call;
use crate::cli;
use crate::explain::{Explanation, Here, explain as explained};
use crate::kernel::mount;
use crate::kernel::root_directory::PATH;
use crate::kernel::table::Table;
use crate::kernel::wording::shown;
use crate::output::json::Explained;
use crate::output::text;

/// Shows the explanation. A file that does not run, or may not, is a failure.
pub(super) fn explain(call: &mut Call, asked: &cli::Explain) -> Result<()> {
    let root = asked.root.as_deref();
    let explanation = explanation(call, &asked.file, root)?;
    if let Some(problem) = &explanation.problem {
        let file = shown(explanation.file.as_os_str());
        let verdict = if problem.is_unknown() {
            format!("whether {file} runs is not known")
        } else {
            format!("{file} does not run")
        };
        let remedy = explanation.remedy.as_deref().unwrap_or_default();
        call.lacks(format!("{verdict}: {problem}; {remedy}"));
    }
    let explained = Explained::new(&explanation, root, call.settings.verbose);
    call.show(&explained, |out, colour, _| text::write_explained(out, &explained, colour))
}

fn explanation(call: &mut Call, file: &Path, root: Option<&Path>) -> Result<Explanation> {
    let survey = call.survey()?;
    let table = mount::for_looking(&call.at)?;
    let here = Here {
        means: call.means(&survey),
        enabled: table.as_ref().map_or(Ok(true), Table::enabled)?,
        table: table.as_ref().map_or(&call.at.dir, Table::path),
        root,
    };
    let path = env::var_os("PATH").filter(|_| root.is_none());
    explained(file, &path.unwrap_or_else(|| PATH.into()), &here)
}
