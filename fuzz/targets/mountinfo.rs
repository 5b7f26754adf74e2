//! Tables of mounts, whose paths and sources any user of a namespace chooses. The reader is a library's, of which the tool takes
//! three fields.

#![no_main]

use libfuzzer_sys::fuzz_target;
use procfs::FromBufRead;
use procfs::process::MountInfos;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mounts) = MountInfos::from_buf_read(bytes) else {
        return;
    };
    for mount in &mounts {
        assert!(!mount.fs_type.contains(' '), "{mount:?}");
    }
});
