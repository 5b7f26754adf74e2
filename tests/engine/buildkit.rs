//! What docs/recipes.md says of BuildKit without a handler: it starts the steps of a build by the emulators that it finds in its
//! `PATH`, and these start all further programs.
//!
//! It is the BuildKit of an engine in a container. The kernel's table is the machine's, which is empty.

use crate::docker::lists_all_that_is_linked_in;
use crate::harness::machine::{Machine, OURS, archive, build, make_image, root};

#[test]
fn a_foreign_image_is_built_without_a_handler() {
    let Some(machine) = Machine::take() else { return };
    let name = |what: &str| format!("{OURS}buildkit-{what}");
    let (emulators, engine, with_emulators) = (name("emulators"), name("engine"), name("with-emulators"));
    make_image(&["VARIANT=buildkit", "QEMU_FROM=source", "TARGETS=arm,s390x", &format!("IMAGE={emulators}")]);
    let files = machine.files(&emulators);
    let programs = machine.host.sh(&format!("ls {}", files.join("usr/bin").display())).ok();
    assert_eq!(programs.stdout, "buildkit-qemu-arm\nbuildkit-qemu-s390x\n");
    lists_all_that_is_linked_in(&files.join("usr/share/doc"));

    let file = |file: &str| root().join("tests/engine").join(file).display().to_string();
    build(&engine, &format!("--file {}", file("docker/engine.Dockerfile")), &root().join("tests/engine/docker"));
    let options = format!("--build-arg EMULATORS={emulators} --build-arg ENGINE={engine}");
    let options = format!("{options} --file {}", file("buildkit/engine.Dockerfile"));
    build(&with_emulators, &options, &root().join("tests/engine/buildkit"));

    let (folder, archive) = archive("s390x");
    let container = name("container");
    let volumes = format!(
        "--volume /var/lib/docker --volume {}:/build/{archive}:ro --volume {}:/build/Dockerfile:ro --workdir /build",
        folder.join(&archive).display(),
        file("buildkit/Dockerfile")
    );
    machine.docker(&format!("run --detach --rm --privileged --name {container} {volumes} {with_emulators}")).ok();
    machine.host.sh(&format!("until docker exec {container} docker version >/dev/null 2>&1; do sleep 0.2; done")).ok();
    let step = format!("exec {container} docker build --progress=plain --no-cache --platform linux/s390x");
    let step = format!("{step} --build-arg ARCHIVE={archive} .");
    machine.docker(&step).ok().says("5,4,3,2,1").says("perl: /script one two s390x").says("perl: /script first s390x");

    // nothing else has run them
    machine.docker(&format!("exec {container} rm /usr/bin/buildkit-qemu-s390x")).ok();
    machine.docker(&step).ends(1).says("exec format error");
    machine.docker(&format!("rm --force --volumes {container}")).ok();
    machine.is_clean();
}

#[test]
fn debians_emulators_are_refused() {
    let Some(machine) = Machine::take() else { return };
    let script = root().join("qemu/image/build.sh");
    let refused = machine.host.sh(&format!("VARIANT=buildkit QEMU_FROM=package {}", script.display()));
    refused.ends(1).says("start no program without a handler").says("without QEMU_FROM");
}
