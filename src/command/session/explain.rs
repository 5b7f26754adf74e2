//! The part of a session that explains a file.

use std::env;
use std::io;
use std::path::Path;

use anyhow::Result;

use super::Session;
use crate::cli::Format;
use crate::explain::{Explanation, Here, explain};
use crate::kernel::mount;
use crate::kernel::root_directory::PATH;
use crate::kernel::table::Table;
use crate::kernel::wording::shown;
use crate::output::json::{Explained, write_json};
use crate::output::streams::Streams;
use crate::output::text;
use crate::policy::survey::Survey;

impl Session<'_> {
    pub(super) fn explain(
        &mut self,
        file: &Path,
        survey: &Survey,
        streams: &mut Streams,
    ) -> io::Result<()> {
        let explanation = match self.explanation(file, survey) {
            Ok(explanation) => explanation,
            Err(error) => {
                self.missing.push(format!("{error:#}"));
                return Ok(());
            }
        };
        if let Some(problem) = &explanation.problem {
            let file = shown(explanation.file.as_os_str());
            let verdict = if problem.is_unknown() {
                format!("whether {file} runs is not known")
            } else {
                format!("{file} does not run")
            };
            let remedy = explanation.remedy.as_deref().unwrap_or_default();
            self.missing.push(format!("{verdict}: {problem}; {remedy}"));
        }
        let explained = Explained::new(&explanation, self.cli.root.as_deref(), self.cli.verbose);
        match self.cli.format {
            Some(Format::Json) => write_json(streams.out, &explained),
            _ => text::write_explained(streams.out, &explained, streams.colour),
        }
    }

    fn explanation(&self, file: &Path, survey: &Survey) -> Result<Explanation> {
        let table = mount::for_looking(&self.at)?;
        let enabled = table.as_ref().map_or(Ok(true), Table::enabled)?;
        let root = self.cli.root.as_deref();
        let here = Here {
            means: self.means(survey),
            enabled,
            table: table.as_ref().map_or(&self.at.dir, Table::path),
            root,
        };
        let path = env::var_os("PATH").filter(|_| root.is_none());
        Ok(explain(file, &path.unwrap_or_else(|| PATH.into()), &here)?)
    }
}
