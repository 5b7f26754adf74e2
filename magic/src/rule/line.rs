//! The line's text: [`Rule::encode`] writes it, [`Rule::decode`] reads it the way the kernel does.
//!
//! Owns the choice of the delimiter, the escapes and the order of the fields; what these may hold is [`Rule`]'s to
//! say. Source: `create_entry` and `check_special_flags` in Linux's `fs/binfmt_misc.c`.

use std::os::unix::ffi::OsStrExt;

use super::field::{Fields, owned};
use super::{Flags, LENGTH, Matcher, Rule, RuleError};

/// Delimiters to choose from, in this order. The last cannot be in any name or path, so one always fits.
const DELIMITERS: &[u8] = b":|,;\0";

impl Rule {
    /// The line to write, in a single `write(2)`, to `register`.
    ///
    /// Every byte of magic and mask is escaped, which is the only way to write a NUL and leaves nothing for a
    /// delimiter to collide with. Names and paths cannot be escaped: the delimiter is one that they do not contain.
    ///
    /// # Errors
    /// When the kernel would refuse the line whatever the system looks like: the first [`RuleError`] that applies.
    pub fn encode(&self) -> Result<Vec<u8>, RuleError> {
        self.check()?;
        let (kind, offset, magic, mask) = fields(&self.matcher);
        let flags = self.flags.to_string();
        let (name, interpreter) = (self.name.as_bytes(), self.interpreter.as_os_str().as_bytes());
        let fields = [name, kind.as_bytes(), offset.as_bytes(), &magic, &mask, interpreter, flags.as_bytes()];
        let fits = |delimiter: &&u8| !fields.iter().any(|field| field.contains(delimiter));
        let delimiter = *DELIMITERS.iter().find(fits).unwrap_or(&0);
        let line: Vec<u8> = fields.iter().flat_map(|field| [&[delimiter], *field].concat()).collect();
        if LENGTH.contains(&line.len()) { Ok(line) } else { Err(RuleError::Length(line.len())) }
    }

    /// Reads a line as the kernel does, into what the kernel then holds: a bare NUL ends the magic, `C` and `T` bring `O`.
    /// Lines that only Linux 7.3 takes are read if they have flag `T`; those of type `B`, or with flag `L` or `D`, are not: no such
    /// line is a handler of an emulator.
    ///
    /// # Errors
    /// What the kernel answers with `EINVAL`, and the names that it never accepts (too long, `register`, `status`).
    pub fn decode(line: &[u8]) -> Result<Self, RuleError> {
        let (delimiter, rest) = match line {
            [delimiter, rest @ ..] if LENGTH.contains(&line.len()) => (*delimiter, rest),
            _ => return Err(RuleError::Length(line.len())),
        };
        let mut fields = Fields { delimiter, rest };
        let name = fields.plain("name")?;
        let matcher = match fields.kind()? {
            b'E' => fields.extension()?,
            b'M' => fields.magic()?,
            other => return Err(RuleError::Type(other)),
        };
        let interpreter = fields.plain("interpreter")?;
        let end = fields.rest.strip_suffix(b"\n");
        // The kernel pads the line with its delimiter, and would read on into a newline that nobody wrote.
        if b"POCFT".contains(&delimiter) || delimiter == b'\n' && end.is_none() {
            return Err(RuleError::Delimiter(delimiter));
        }
        let letters = end.unwrap_or(fields.rest);
        let (flags, unknown) = Flags::parse(&String::from_utf8_lossy(letters));
        if !unknown.is_empty() {
            return Err(RuleError::Flags(unknown));
        }
        let rule = Self { name: owned(name), matcher, interpreter: owned(interpreter).into(), flags };
        rule.check().map(|()| rule)
    }
}

/// The type, and the fields `offset`, `magic` and `mask`.
fn fields(matcher: &Matcher) -> (&'static str, String, Vec<u8>, Vec<u8>) {
    match matcher {
        Matcher::Extension(text) => ("E", String::new(), text.as_bytes().to_vec(), Vec::new()),
        Matcher::Magic { offset, magic, mask } => {
            let offset = if *offset == 0 { String::new() } else { offset.to_string() };
            let mask = mask.as_deref().unwrap_or_default();
            ("M", offset, escape(magic), escape(mask))
        }
    }
}

fn escape(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("\\x{byte:02x}").into_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, matcher: Matcher, interpreter: &str, letters: &str) -> Rule {
        Rule { name: name.into(), matcher, interpreter: interpreter.into(), flags: Flags::parse(letters).0 }
    }

    fn magic(offset: usize, magic: &[u8], mask: &[u8]) -> Matcher {
        let mask = (!mask.is_empty()).then(|| mask.to_vec());
        Matcher::Magic { offset, magic: magic.to_vec(), mask }
    }

    #[test]
    fn a_rule_becomes_this_line() {
        #[rustfmt::skip]
        let rows = [
            (rule("qemu-x", magic(0, b"\x7fE\0", b"\xff\xfe\0"), "/usr/bin/qemu-x", "FPC"),
                &br":qemu-x:M::\x7f\x45\x00:\xff\xfe\x00:/usr/bin/qemu-x:POCF"[..]),
            (rule("m", magic(7, b":\n\\", b""), "/i", ""), br":m:M:7:\x3a\x0a\x5c::/i:"),
            (rule("jar", Matcher::Extension("jar".into()), "/usr/bin/jexec", ""), b":jar:E::jar::/usr/bin/jexec:"),
            (rule("a:b", magic(0, b"a", b""), "/i|:", ""), br",a:b,M,,\x61,,/i|:,"),
            (rule("all", magic(0, b"a", b""), "/:|,;", "P"), b"\0all\0M\0\0\\x61\0\0/:|,;\0P"),
        ];
        for (rule, line) in rows {
            let encoded = rule.encode().unwrap();
            assert_eq!(encoded.escape_ascii().to_string(), line.escape_ascii().to_string());
            assert_eq!(Rule::decode(line).unwrap(), rule);
        }
    }

    /// Each of these was given to Linux 6.18, which printed the entry beside it.
    #[test]
    fn lines_that_the_kernel_takes_mean_the_same_here() {
        let interpreter = "/bin/x";
        #[rustfmt::skip]
        let rows = [
            (&b":n:M::abc::/bin/x:PP\n"[..], rule("n", magic(0, b"abc", b""), interpreter, "P")),
            (b":n:M:+5:abc::/bin/x:C", rule("n", magic(5, b"abc", b""), interpreter, "OC")),
            (b":n:M:-0:abc::/bin/x:", rule("n", magic(0, b"abc", b""), interpreter, "")),
            (b":n:M:05\n:abc::/bin/x:", rule("n", magic(5, b"abc", b""), interpreter, "")),
            (b":n:M::a\0bc:\xff\0:/bin/x:", rule("n", magic(0, b"a", b"\xff"), interpreter, "")),
            (b":n:M::abc:\0:/bin/x:", rule("n", magic(0, b"abc", b""), interpreter, "")),
            (br":n:M::\\x41::/bin/x:", rule("n", magic(0, br"\\x41", b""), interpreter, "")),
            (br":n:M::\n::/bin/x:", rule("n", magic(0, br"\n", b""), interpreter, "")),
            (br":n:M::\:\:/bin/x:", rule("n", magic(0, br"\", br"\"), interpreter, "")),
            (b":n:M::a\nb::/bin/x:", rule("n", magic(0, b"a\nb", b""), interpreter, "")),
            (br"xnxMxx\x7f\x41xx/bin/truxF", rule("n", magic(0, b"\x7fA", b""), "/bin/tru", "F")),
            (br"anaMaa\x7f\x4aaa/bin/trua", rule("n", magic(0, b"\x7fJ", b""), "/bin/tru", "")),
            (br"\n\M\\QR\\/bin/tru\", rule("n", magic(0, b"QR", b""), "/bin/tru", "")),
            (b"\nn\nM\n\na\n\n/bin/x\nF\n", rule("n", magic(0, b"a", b""), interpreter, "F")),
            (br"MnMMMM\x7fMM/bin/truM", rule("n", magic(0, b"\x7f", b""), "/bin/tru", "")),
            (b":n:E:junk:a.b:junk:/bin/x:", rule("n", Matcher::Extension("a.b".into()), interpreter, "")),
            (b":n:E::x::i:", rule("n", Matcher::Extension("x".into()), "i", "")),
            (b":x y\nz:M::a::/b c\n:O", rule("x y\nz", magic(0, b"a", b""), "/b c\n", "O")),
        ];
        for (line, expected) in rows {
            assert_eq!(Rule::decode(line), Ok(expected), "{}", line.escape_ascii());
        }
    }

    /// And each of these it refused.
    #[test]
    fn lines_that_the_kernel_refuses_are_refused_here() {
        #[rustfmt::skip]
        let rows = [
            (&b""[..], "a registration line of 0 bytes: the kernel takes 11 to 1920"),
            (b":n:E::e::i", "a registration line of 10 bytes: the kernel takes 11 to 1920"),
            (b"PnPMPPabPP/bin/xP\n", "delimiter 'P': taken for a flag or a newline where the line ends"),
            (b"PnPMPPabPP/bin/xP", "delimiter 'P': taken for a flag or a newline where the line ends"),
            (b"\nn\nM\n\nab\n\n/bin/x\n", "delimiter '\\n': taken for a flag or a newline where the line ends"),
            (b"::M::ab::/bin/x:", "entry name \"\": the kernel does not take it"),
            (b":..:M::ab::/bin/x:", "entry name \"..\": the kernel does not take it"),
            (b":a/b:M::ab::/bin/x:", "entry name \"a/b\": the kernel does not take it"),
            (b":status:M::ab::/bin/x:", "entry name \"status\": the kernel does not take it"),
            (b":n\0:M::ab::/bin/x:", "the registration line ends in its name"),
            (b":n:X::ab::/bin/x:", "type 'X': neither M nor E"),
            (b":n:MM::ab::/bin/x:", "the registration line ends in its type"),
            (b":n:M:-1:ab::/bin/x:", "offset \"-1\": not a number"),
            (b":n:M: 5:ab::/bin/x:", "offset \" 5\": not a number"),
            (b":n:M:-+5:ab::/bin/x:", "offset \"-+5\": not a number"),
            (b":n:M:5\n\n:ab::/bin/x:", "offset \"5\\n\\n\": not a number"),
            (b":n:M:\n:ab::/bin/x:", "offset \"\\n\": not a number"),
            (b":n:M:2147483648:ab::/bin/x:", "offset \"2147483648\": not a number"),
            (b":n:M:254:abc::/bin/x:", "a magic of 3 bytes at offset 254: the kernel reads 256"),
            (b":n:M::::/bin/xyz:", "the magic is empty"),
            (b":n:M::\0bc::/bin/x:", "the magic is empty"),
            (b":n:M::abcdef", "the registration line ends in its magic"),
            (b":n:M::ab:cd", "the registration line ends in its mask"),
            (br":n:M::\x7::/bin/x:", r"the magic has \x without two hexadecimal digits"),
            (br":n:M::\\xzz::/bin/x:", r"the magic has \x without two hexadecimal digits"),
            (b":n:M::ab:a:/bin/x:", "a mask of 1 bytes for a magic of 2"),
            (b":n:E::a/b::/bin/x:", "extension \"a/b\": empty, or with a slash or a NUL"),
            (b":n:M::ab:::POCF", "interpreter \"\": empty, or with a NUL"),
            (b":n:M::ab::/bin/x", "the registration line ends in its interpreter"),
            (b":n:M::ab::/bin/x\0y:", "the registration line ends in its interpreter"),
            (b":n:M::ab::/bin/x:CPFX", "flags \"X\": a rule has P, O, C, F and T"),
            (b":n:M::ab::/bin/x:P\n\n", "flags \"\\n\": a rule has P, O, C, F and T"),
        ];
        for (line, expected) in rows {
            let error = Rule::decode(line).unwrap_err();
            assert_eq!(error.to_string(), expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn lengths_end_where_the_kernels_do() {
        let with_path = |length: usize| rule("n", magic(0, b"a", b""), &"i".repeat(length), "");
        let fixed = with_path(1).encode().unwrap().len() - 1;
        assert_eq!(with_path(1920 - fixed).encode().unwrap().len(), 1920);
        assert_eq!(with_path(1921 - fixed).encode(), Err(RuleError::Length(1921)));
        let with_name = |length: usize| rule(&"n".repeat(length), magic(0, b"a", b""), "/i", "").encode();
        assert!(with_name(255).is_ok());
        assert!(matches!(with_name(256), Err(RuleError::Name(_))));
        let shortest = rule("n", Matcher::Extension("x".into()), "i", "").encode().unwrap();
        assert_eq!(shortest, b":n:E::x::i:");
    }
}
