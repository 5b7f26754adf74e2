//! Whether a host's init system reads a file of rules at boot, and whether those rules stay in effect.
//!
//! Owns the parts of systemd and `OpenRC` that decide it: the unit, its mask, its drop-ins, the targets that want it, and the order
//! of rule files. Reads files of the host and starts nothing. See `systemd.unit(5)`, `binfmt.d(5)` and systemd's
//! `src/binfmt/binfmt.c`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use binfmt_magic::arch::Arch;
use binfmt_magic::rule::Rule;
use nix::dir::Dir;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::kernel::process::path_of;
use crate::kernel::root_directory::{self, IN_ROOT};
use crate::kernel::wording::{self, quoted};

/// The programs of systemd that read rules, by their usual paths.
const SYSTEMD: [&str; 2] = ["/usr/lib/systemd/systemd-binfmt", "/lib/systemd/systemd-binfmt"];
const OPENRC: &str = "/etc/init.d/binfmt";
/// Where systemd looks for units at boot, in its order. The rest of `/run` is empty at boot.
const UNITS: [&str; 6] = [
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const UNIT: &str = "systemd-binfmt.service";
/// The directories of the unit's drop-ins.
const DROP_INS: [&str; 3] = ["systemd-binfmt.service.d", "systemd-.service.d", "service.d"];
/// Where rules are read from. Of files with the same name, that of the first directory counts.
const RULES: [&str; 5] =
    [super::RULES, "/run/binfmt.d", "/usr/local/lib/binfmt.d", "/usr/lib/binfmt.d", "/lib/binfmt.d"];
/// The largest file that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// A host, by its root directory, which is open.
#[derive(Debug)]
pub struct Boot {
    root: OwnedFd,
    /// Its name in messages.
    pub(super) dir: PathBuf,
}

impl Boot {
    /// The host whose root directory is open as `root`; `dir` is its name in messages.
    pub fn new(root: OwnedFd, dir: &Path) -> Self {
        Self { root, dir: dir.to_owned() }
    }

    /// The host of `dir`, a directory that rules are read from, and the path of `dir` on it. `None`: no rules are read from `dir`.
    pub fn of_rules(dir: &Path) -> Option<(Self, PathBuf)> {
        let real = dir.canonicalize().ok()?;
        let mut known = RULES.into_iter().map(Path::new);
        let (root, rules) = known.find_map(|rules| {
            let below = rules.strip_prefix("/").ok()?;
            let depth = below.components().count();
            real.ends_with(below).then_some((real.ancestors().nth(depth)?, rules))
        })?;
        let open = File::open(root).ok()?;
        Some((Self::new(open.into(), root), rules.to_owned()))
    }

    pub fn has_reader(&self) -> bool {
        SYSTEMD.into_iter().chain([OPENRC]).any(|reader| self.is_file(reader))
    }

    /// Why the rules are not read at boot, if so, and what to do.
    pub fn does_not_read(&self) -> Option<String> {
        if SYSTEMD.iter().all(|reader| !self.is_file(reader)) {
            let levels = self.names("/etc/runlevels").into_iter();
            let mut levels = levels.map(|level| Path::new("/etc/runlevels").join(level));
            let starts = levels.any(|level| self.is_named(level.join("binfmt")));
            return (!starts).then(|| {
                "no runlevel has the service binfmt, which reads the rules; on that host: rc-update add binfmt boot"
                    .to_owned()
            });
        }
        self.masked().or_else(|| self.replaced()).or_else(|| self.held_back()).or_else(|| {
            (!self.is_wanted()).then(|| {
                format!("no target wants {UNIT}, so no boot starts it; on that host: systemctl add-wants sysinit.target {UNIT}")
            })
        })
    }

    fn unit(&self) -> Option<PathBuf> {
        UNITS.iter().map(|dir| Path::new(dir).join(UNIT)).find(|unit| self.is_file(unit) || self.is_mask(unit))
    }

    fn masked(&self) -> Option<String> {
        let Some(unit) = self.unit() else {
            return Some(format!("there is no {UNIT}, which reads the rules; install that host's systemd again"));
        };
        let remedy = if unit.starts_with("/etc") {
            format!("on that host: systemctl unmask {UNIT}")
        } else {
            "remove that file".to_owned()
        };
        self.is_mask(&unit).then(|| {
            let unit = self.shown(&unit);
            format!("{UNIT}, which reads the rules, is masked by {unit}; {remedy}")
        })
    }

    /// Why the unit does not run systemd-binfmt: it, or a drop-in, starts something else.
    fn replaced(&self) -> Option<String> {
        let unit = self.unit()?;
        let (mut reads, mut replaced_by) = (false, None);
        for path in std::iter::once(unit).chain(self.drop_ins()) {
            let text = self.text(&path).unwrap_or_default();
            for program in settings(&text).filter_map(|(key, v)| (key == "ExecStart").then_some(v)) {
                // an empty value takes back those before it
                reads = !program.is_empty() && (reads || program.contains("systemd-binfmt"));
                replaced_by = (!reads).then(|| path.clone());
            }
        }
        replaced_by.map(|path| {
            let remedy = mask(&path);
            let path = self.shown(&path);
            format!("{UNIT} does not read the rules: {path} starts something else; {remedy}")
        })
    }

    /// Why a condition of a drop-in keeps the unit from starting, or may do so.
    fn held_back(&self) -> Option<String> {
        self.drop_ins().into_iter().find_map(|path| {
            let text = self.text(&path)?;
            let (line, fails) = conditions(&text).find_map(|(kind, value)| match self.holds(kind, value) {
                Some(true) => None,
                Some(false) => Some((format!("{kind}={value}"), "does not hold there")),
                None => Some((format!("{kind}={value}"), "may not hold there, which cannot be checked from here")),
            })?;
            let remedy = mask(&path);
            let path = self.shown(&path);
            Some(format!(
                "{UNIT}, which reads the rules, starts only if {line} of {path} holds, and that {fails}; {remedy}"
            ))
        })
    }

    /// The unit's drop-ins in effect, in the order in which systemd reads them.
    fn drop_ins(&self) -> Vec<PathBuf> {
        let dirs = UNITS.iter().flat_map(|unit| DROP_INS.map(|dir| Path::new(unit).join(dir)));
        self.first_of_each(dirs).into_values().collect()
    }

    /// Whether a condition holds at the next boot; `None` if this process cannot see that.
    fn holds(&self, kind: &str, value: &str) -> Option<bool> {
        let (negated, value) = match value.strip_prefix('!') {
            Some(value) => (true, value.trim()),
            None => (false, value),
        };
        let lasts = !["/run", "/proc", "/sys", "/dev", "/tmp"].iter().any(|dir| Path::new(value).starts_with(dir));
        let holds = match kind {
            "ConditionPathExists" | "AssertPathExists" if lasts => self.find(value, OFlag::empty()).is_ok(),
            // a host with this directory was booted, and so by this kernel (sd_booted(3))
            "ConditionVirtualization" | "AssertVirtualization"
                if value == "wsl" && self.find("/run/systemd/system", OFlag::O_DIRECTORY).is_ok() =>
            {
                fs::read_to_string("/proc/sys/kernel/osrelease").ok()?.to_lowercase().contains("microsoft")
            }
            _ => return None,
        };
        Some(holds != negated)
    }

    /// Whether a target or unit wants this unit.
    fn is_wanted(&self) -> bool {
        let mut seen = BTreeSet::new();
        UNITS.iter().any(|dir| {
            let wanting = self.names(dir).into_iter().filter(|name| {
                let name = name.to_string_lossy();
                name.ends_with(".wants") || name.ends_with(".requires")
            });
            wanting.collect::<Vec<_>>().into_iter().any(|name| {
                let link = Path::new(dir).join(&name).join(UNIT);
                self.kind(&link) == Some(SFlag::S_IFLNK) && seen.insert(name) && !self.is_mask(&link)
            })
        })
    }

    /// Which file overrides the rule `ours` for `arch` of the file `rules`, if any, and what to do.
    pub fn overrules(&self, rules: &Path, ours: &Rule, arch: &Arch) -> Option<String> {
        let files = self.first_of_each(RULES.into_iter().map(PathBuf::from));
        let name = rules.file_name().unwrap_or_default();
        let rank = |path: &Path| RULES.iter().position(|dir| path.parent() == Some(Path::new(dir)));
        // written to a directory that is not read, or is read later
        let precedes = |other: &PathBuf| rank(rules).is_none_or(|own| rank(other) < Some(own));
        if let Some(other) = files.get(name).filter(|other| *other != rules && precedes(other)) {
            let (other, rules) = (self.shown(other), self.shown(rules));
            return Some(format!("{other} is read in place of {rules}; remove it, or export to its directory"));
        }
        let effect = |rule: Rule| {
            let takes = rule.matcher.matches_some_of(arch);
            if takes && rule.interpreter != ours.interpreter {
                return Some(format!("takes programs for linux/{}", arch.oci));
            }
            // of rules with the same name, systemd-binfmt leaves the last one registered
            (!takes && rule.name == ours.name).then(|| format!("replaces the entry {}", wording::shown(&ours.name)))
        };
        let later = files.iter().filter(|(other, _)| other.as_os_str() > name);
        let mut later = later.filter_map(|(other, path)| {
            let text = self.text(path).unwrap_or_default();
            let mut rules = text.lines().filter_map(|line| Rule::decode(line.trim().as_bytes()).ok());
            Some((other, path, rules.find_map(effect)?))
        });
        later.next().map(|(other, path, effect)| {
            let remedy = if path.starts_with(RULES[0]) {
                "remove it".to_owned()
            } else {
                let mask = quoted(self.shown(&Path::new(RULES[0]).join(other)));
                format!("mask it: ln -s /dev/null {mask}")
            };
            format!("{} is read later, and {effect}; {remedy}", self.shown(path))
        })
    }

    /// The files `*.conf` of these directories by name. Of files with the same name, that of the first directory.
    fn first_of_each(&self, dirs: impl Iterator<Item = PathBuf>) -> BTreeMap<OsString, PathBuf> {
        let mut files = BTreeMap::new();
        for dir in dirs {
            for name in self.names(&dir) {
                let path = dir.join(&name);
                if path.extension() == Some(OsStr::new("conf")) && self.is_named(&path) {
                    files.entry(name).or_insert(path);
                }
            }
        }
        files
    }

    /// The path by which this process finds `path` of the host.
    pub fn shown(&self, path: &Path) -> String {
        super::shown(&self.dir, path)
    }

    fn find(&self, path: impl AsRef<Path>, flags: OFlag) -> nix::Result<OwnedFd> {
        root_directory::find(&self.root, path.as_ref(), flags, IN_ROOT)
    }

    /// Whether a link or regular file has this name. The init systems pass over anything else.
    fn is_named(&self, path: impl AsRef<Path>) -> bool {
        matches!(self.kind(path), Some(SFlag::S_IFREG | SFlag::S_IFLNK))
    }

    fn kind(&self, path: impl AsRef<Path>) -> Option<SFlag> {
        let found = fstat(self.find(path, OFlag::O_NOFOLLOW).ok()?).ok()?;
        Some(SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT)
    }

    /// Whether it is, or leads to, a regular file.
    fn is_file(&self, path: impl AsRef<Path>) -> bool {
        let found = self.find(path, OFlag::empty()).map(File::from);
        found.is_ok_and(|found| found.metadata().is_ok_and(|metadata| metadata.is_file()))
    }

    /// Whether it is what systemd takes for a mask: empty, or a link to `/dev/null`.
    fn is_mask(&self, path: &Path) -> bool {
        let Ok(found) = self.find(path, OFlag::O_NOFOLLOW) else {
            return false;
        };
        match readlinkat(&found, "") {
            Ok(target) => target == "/dev/null",
            Err(_) => File::from(found).metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0),
        }
    }

    fn text(&self, path: &Path) -> Option<String> {
        let found = File::from(self.find(path, OFlag::empty()).ok()?);
        found.metadata().ok().filter(fs::Metadata::is_file)?;
        let file = File::open(path_of(&found)).ok()?;
        let mut text = Vec::new();
        file.take(LONGEST).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    fn names(&self, dir: impl AsRef<Path>) -> Vec<OsString> {
        self.find(dir, OFlag::O_DIRECTORY).and_then(names).unwrap_or_default()
    }
}

pub fn names(dir: impl AsFd) -> nix::Result<Vec<OsString>> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut dir = Dir::from_fd(openat(dir, ".", flags, Mode::empty())?)?;
    // a directory that cannot be read gives an error each time, without end
    let names = dir.iter().map(|item| Ok(OsString::from_vec(item?.file_name().to_bytes().to_vec())));
    let names: nix::Result<Vec<OsString>> = names.collect();
    Ok(names?.into_iter().filter(|name| name != "." && name != "..").collect())
}

/// The command that takes a drop-in out of effect.
fn mask(drop_in: &Path) -> String {
    if drop_in.starts_with("/etc") {
        return "remove that file".to_owned();
    }
    let dir = Path::new("/etc/systemd/system").join(DROP_INS[0]);
    let mask = quoted(dir.join(drop_in.file_name().unwrap_or_default()));
    format!("on that host: mkdir -p {} && ln -s /dev/null {mask}", dir.display())
}

/// The lines `KEY=VALUE` of a unit or drop-in.
fn settings(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.trim(), value.trim()))
}

/// The conditions that all have to hold. Those of which one is enough (`|`) are left out, since the unit has one that holds.
fn conditions(text: &str) -> impl Iterator<Item = (&str, &str)> {
    settings(text).filter(|(key, value)| {
        let is_condition = key.starts_with("Condition") || key.starts_with("Assert");
        is_condition && !value.is_empty() && !value.starts_with('|')
    })
}
