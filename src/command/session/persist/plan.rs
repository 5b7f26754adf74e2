//! What of `--persist`, `--unpersist` and `--export` would be written or removed, as lines of `--dry-run`. Nothing is done, no emulator
//! is started.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Error, Result};
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::Selection;
use binfmt_magic::rule::Rule;

use super::{PERSISTED, Session, rules_of};
use crate::output::text;
use crate::policy::export;
use crate::policy::persist::{self, FileOutcome};
use crate::policy::survey::Survey;

impl Session<'_> {
    /// What an install of `selection` would copy to the host whose root directory is `dir`.
    pub(in crate::command::session) fn would_persist(
        &mut self,
        dir: &Path,
        selection: &Selection,
        entries: &[Entry],
    ) -> Result<Vec<String>> {
        self.check_prefix()?;
        let boot = persist::boot_of(dir)?;
        let mut files = Vec::new();
        for arch in self.arches_to_persist(selection, entries)? {
            let name = arch.interpreter_name(&self.prefix);
            let rule = Rule::for_arch(
                arch,
                &self.prefix,
                Path::new(persist::EMULATORS),
                self.flags,
            );
            let path = Path::new(persist::RULES).join(rules_of(&rule.name));
            self.missing.extend(boot.overrules(&path, &rule, arch));
            let mut bytes = Vec::new();
            let emulator = self.emulators.open(&self.emulators.dir().join(&name));
            match emulator.map_err(Error::from).and_then(|mut file| {
                file.rewind()?;
                file.read_to_end(&mut bytes)?;
                export::line(&rule)
            }) {
                Ok(line) => {
                    files.push((Path::new(persist::EMULATORS).join(&name), bytes));
                    files.push((path, [PERSISTED, &line].concat()));
                }
                Err(error) => self
                    .told
                    .push(format!("{} is not persisted: {error:#}", arch.oci)),
            }
        }
        let fates = persist::would_write(dir, &files, self.cli.force)?;
        let paths = files
            .iter()
            .map(|(path, _)| persist::shown(dir, path).into());
        let lines = self.would("persisting", paths.zip(fates).collect());
        self.missing.extend(boot.does_not_read());
        Ok(lines)
    }

    /// What `--unpersist` would remove.
    pub(in crate::command::session) fn would_unpersist(
        &mut self,
        dir: &Path,
    ) -> Result<Vec<String>> {
        let mut items = Vec::new();
        if super::is_host(dir) {
            let taken = persist::would_take_back(dir)?.into_iter();
            items.extend(taken.map(|(path, fate)| (persist::shown(dir, &path).into(), fate)));
        }
        items.extend(export::take_back(dir, true)?);
        Ok(self.would("unpersisting", items))
    }

    /// What `--export` would write, of the handlers that there are by now.
    pub(in crate::command::session) fn would_export(
        &mut self,
        survey: &Survey,
        dir: &Path,
    ) -> Result<Vec<String>> {
        let exported = export::export(survey, dir, self.cli.force, true)?;
        self.missing.extend(exported.caveats);
        Ok(self.would("exporting", exported.items))
    }

    fn would(&mut self, verb: &str, items: Vec<(PathBuf, Result<FileOutcome>)>) -> Vec<String> {
        let line = |(path, fate): (PathBuf, Result<FileOutcome>)| {
            let path = path.display();
            match fate {
                Ok(fate) => {
                    if fate == FileOutcome::Changed {
                        self.told.push(changed(&path.to_string()));
                    }
                    text::would(&text::filed(verb, &path.to_string(), fate))
                }
                Err(error) => {
                    self.told.push(format!("{path}: {error:#}"));
                    text::would(&format!("{verb}: {path} {error:#}"))
                }
            }
        };
        items.into_iter().map(line).collect()
    }
}

/// What stays, since somebody else has written to it.
pub(super) fn changed(path: &str) -> String {
    format!("{path} was changed since it was written; remove it by hand")
}
