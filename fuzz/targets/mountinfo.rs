//! Tables of mounts, whose paths and sources any user of a namespace chooses. The reader is a library's; what it makes of them is
//! looked at as the tool does.

#![no_main]

use libfuzzer_sys::fuzz_target;
use procfs::FromBufRead;
use procfs::process::MountInfos;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mounts) = MountInfos::from_buf_read(bytes) else {
        return;
    };
    for mount in &mounts {
        let _ = (&mount.mount_point, &mount.fs_type, &mount.mount_source);
    }
});
