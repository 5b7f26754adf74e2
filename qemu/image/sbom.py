#!/usr/bin/env python3
"""Writes what an image is made of, as an SPDX 2.3 document in JSON, to its standard output:

    sbom.py --root DIR --name IMAGE --version VERSION --arch amd64 --created SECONDS

It owns the document, and the licences of the libraries, below. What is in the image it takes from the image's files,
which are below DIR:

    usr/bin/*                             the programs: the tool, and emulators; or emulators for BuildKit alone
    usr/share/doc/qemu-user/SHA256SUMS    the emulators' source and libraries (fetch.sh, or emulators.sh in its format)
    usr/share/doc/binfmt/linked/          the tool's: `crates`, of Rust's standard library too; and `rust`, `gcc`, and `musl`
                                          or `glibc`, which have lines `# release:` and `# source:` as above (licences.sh)

    image CONTAINS binfmt       CONTAINS its file, STATIC_LINK crates, Rust's standard library, the C library, gcc's runtime
    image CONTAINS emulators    CONTAINS their files, GENERATED_FROM qemu's source, STATIC_LINK libraries

Libraries are named by Debian's source packages, which is what advisories and `apt-get source` go by. That a package is
listed says that some of it is linked into one of the programs, not into which.

The same files and arguments give the same document: all is sorted, the time is an argument (SECONDS since 1970, as in
SOURCE_DATE_EPOCH), and the namespace is a hash of everything else.

It rests on SPDX 2.3 (https://spdx.github.io/spdx-spec/v2.3/): clause 6 is about the document, 7 about packages
(7.9: one whose files are listed has a code made of their SHA-1), 8 about files (8.4: SHA-1 is mandatory), 10 about
licences that are not on SPDX's list, 11 about relationships, annex D about licence expressions; and on package URLs
(https://github.com/package-url/purl-spec). check-sbom.sh validates what comes out.
"""

import argparse
import hashlib
import json
import re
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import quote

Json = dict[str, Any]

# The hosts of qemu/host.sh, and Debian's names of them.
DEBIAN = {"amd64": "amd64", "arm64": "arm64", "riscv64": "riscv64", "ppc64le": "ppc64el", "s390x": "s390x"}

SOFTFLOAT = "LicenseRef-SoftFloat-2a"

# glibc's, first of it as a whole; then what came from BSD, ISC's resolver, Inner Net, CORE-MATH and Sun.
GLIBC = "LGPL-2.1-or-later AND LGPL-2.0-or-later AND BSD-3-Clause AND ISC AND Inner-Net-2.0 AND MIT AND SunPro"

# By Debian's source packages: under what the authors put the code that a static program is linked from, and not the
# tests, tools and manuals beside it, as the packages' `copyright` has it, and for QEMU the heads of its files. Notices
# of single files, all of them permissive, are left to `copyright`, which is in the image.
LICENCES = {
    # First of it as a whole. The exception is libdecnumber's. Not in an emulator are the BSD emulator, firmware and
    # pictures, which `copyright` speaks of as well.
    "qemu": "GPL-2.0-only AND GPL-2.0-or-later AND GPL-2.0-or-later WITH GCC-exception-2.0 AND LGPL-2.0-or-later"
    f" AND LGPL-2.1-or-later AND MIT AND BSD-2-Clause AND BSD-3-Clause AND {SOFTFLOAT}",
    "capstone": "BSD-3-Clause AND NCSA",
    "cross-toolchain-base": GLIBC,  # as a cross compiler has it
    "gcc": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "glib2.0": "LGPL-2.1-or-later",
    "glibc": GLIBC,
    "gnutls28": "LGPL-2.1-or-later AND (LGPL-3.0-or-later OR GPL-2.0-or-later)",
    "liburing": "MIT AND (LGPL-2.1-or-later OR MIT) AND (GPL-2.0-only WITH Linux-syscall-note OR MIT)",
    "musl": "MIT AND BSD-2-Clause AND BSD-3-Clause AND ISC",
    "numactl": "LGPL-2.1-only",
    # BSD-2-Clause is sljit's, its compiler of expressions.
    "pcre2": "BSD-3-Clause WITH PCRE2-exception AND BSD-2-Clause",
    "rustc": "MIT OR Apache-2.0",
    # libsysprof-capture alone; the profiler is under the GPL.
    "sysprof": "BSD-2-Clause-Patent",
    "zlib": "Zlib",
}

SOFTFLOAT_TEXT = """\
This C source file is part of the SoftFloat IEC/IEEE Floating-point
Arithmetic Package, Release 2a.

Written by John R. Hauser.  This work was made possible in part by the
International Computer Science Institute, located at Suite 600, 1947 Center
Street, Berkeley, California 94704.  Funding was partially provided by the
National Science Foundation under grant MIP-9311980.  The original version
of this code was written as part of a project to build a fixed-point vector
processor in collaboration with the University of California at Berkeley,
overseen by Profs. Nelson Morgan and John Wawrzynek.  More information
is available through the Web page `http://HTTP.CS.Berkeley.EDU/~jhauser/
arithmetic/SoftFloat.html'.

THIS SOFTWARE IS DISTRIBUTED AS IS, FOR FREE.  Although reasonable effort
has been made to avoid it, THIS SOFTWARE MAY CONTAIN FAULTS THAT WILL AT
TIMES RESULT IN INCORRECT BEHAVIOR.  USE OF THIS SOFTWARE IS RESTRICTED TO
PERSONS AND ORGANIZATIONS WHO CAN AND WILL TAKE FULL RESPONSIBILITY FOR ANY
AND ALL LOSSES, COSTS, OR OTHER PROBLEMS ARISING FROM ITS USE.

Derivative works are acceptable, even for commercial purposes, so long as
(1) they include prominent notice that the work is derivative, and (2) they
include prominent notice akin to these four paragraphs for those parts of
this code that are retained.
"""

EMULATORS = "usr/share/doc/qemu-user"
LINKED = "usr/share/doc/binfmt/linked"


class Source(NamedTuple):
    """A source package of Debian's, and where in the image its licence is."""

    name: str
    version: str
    release: str
    copyright: str
    archives: tuple[str, ...] = ()


class Document:
    """The elements so far. Each is in it once, however often it is added."""

    def __init__(self) -> None:
        self.packages: dict[str, Json] = {}
        self.files: dict[str, Json] = {}
        self.relationships: set[tuple[str, str, str]] = set()

    def package(self, element: Json) -> str:
        identity: str = element["SPDXID"]
        self.packages.setdefault(identity, element)
        return identity

    def relate(self, element: str, relationship: str, *others: str) -> None:
        self.relationships.update((element, relationship, other) for other in others)


def fail(what: str, remedy: str) -> NoReturn:
    raise SystemExit(f"sbom.py: {what}; {remedy}")


def read(root: Path, name: str, owner: str) -> str:
    try:
        return (root / name).read_text(encoding="utf-8")
    except OSError as error:
        fail(f"cannot read {root / name}: {error.strerror}", f"{owner} writes it")


def spdx_id(*words: str) -> str:
    return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(words))


# --- what the image says of itself


def header(text: str, key: str) -> list[str]:
    """What the comments in fetch.sh's format say: `# KEY: VALUE`."""
    return re.findall(rf"^# {key}: (.*)$", text, re.MULTILINE)


def one(text: str, key: str, path: str) -> str:
    values = header(text, key)
    if len(values) != 1:
        fail(f"{path} has {len(values)} lines `# {key}: …`, and not one", "see the head of sbom.py for who writes it")
    return values[0]


def split_source(value: str, path: str) -> tuple[str, str]:
    name, _, version = value.partition("=")
    if not name or not version:
        fail(f"{path} names the source {value}", "its form is NAME=VERSION")
    return name, version


def archives_by_source(text: str, path: str) -> dict[tuple[str, str], tuple[str, ...]]:
    """The static archives that the linker took something from, by source and version."""
    found: dict[tuple[str, str], set[str]] = {}
    for line in header(text, "library"):
        words = line.split()
        if len(words) != 4:
            fail(f"{path} has the library {line}", "its form is ARCHIVE PACKAGE SOURCE VERSION")
        archive, package, name, version = words
        found.setdefault((name, version), set()).add(f"{Path(archive).name} of {package}")
    return {source: tuple(sorted(archives)) for source, archives in found.items()}


def emulators_sources(text: str, path: str) -> tuple[Source, list[Source]]:
    """QEMU's source, and those of the libraries."""
    release = one(text, "release", path)
    named = [split_source(value, path) for value in header(text, "source")]
    if not named or named[0][0] != "qemu":
        fail(f"{path} does not name qemu as its first source", "build the emulators again")
    archives = archives_by_source(text, path)
    # backports are built with the release's own libraries
    own = release.removesuffix("-backports")
    libraries = [
        Source(*source, own, f"{EMULATORS}/linked/{source[0]}", archives.get(source, ()))
        for source in sorted({*named[1:], *archives})
    ]
    return Source(*named[0], release, f"{EMULATORS}/copyright"), libraries


def tool_source(root: Path, name: str) -> Source:
    path = f"{LINKED}/{name}"
    text, where = read(root, path, "licences.sh"), str(root / path)
    return Source(*split_source(one(text, "source", where), where), one(text, "release", where), path)


def crates(root: Path) -> list[tuple[str, str, str]]:
    """Name, version and licence, from the list between the first two empty lines."""
    path = f"{LINKED}/crates"
    paragraphs = read(root, path, "licences.sh").split("\n\n", 2)
    lines = paragraphs[1].splitlines() if len(paragraphs) == 3 else []
    found = [re.fullmatch(r"(\S+?)-(\d+\.\d+\.\d+\S*) (\S.*)", line) for line in lines]
    if not lines or None in found:
        fail(f"{root / path} has no list of crates", "its second paragraph has lines of the form NAME-VERSION LICENCE")
    # before there were expressions, Cargo took a slash for OR
    return [(crate[1], crate[2], re.sub(r" ?/ ?", " OR ", crate[3])) for crate in found if crate]


def c_library(root: Path) -> str:
    found = [name for name in ("musl", "glibc") if (root / LINKED / name).exists()]
    if len(found) != 1:
        fail(f"{root / LINKED} has not one C library", "licences.sh writes musl or glibc")
    return found[0]


def licence_of(source: str) -> str:
    key = re.sub(r"^gcc-\d+(-cross)?$", "gcc", source)
    if key not in LICENCES:
        fail(f"{source} is linked into a program", "say in sbom.py under which licence, after reading its copyright")
    return LICENCES[key]


# --- elements


def package(
    identity: str, name: str, version: str, purpose: str, licence: str, *, licence_comment: str,
    supplier: str = "NOASSERTION", location: str = "NOASSERTION", purl: str = "", comment: str = "",
) -> Json:
    element: Json = {
        "SPDXID": identity,
        "name": name,
        "versionInfo": version,
        "primaryPackagePurpose": purpose,
        "supplier": supplier,
        "downloadLocation": location,
        "filesAnalyzed": False,
        "licenseDeclared": licence,
        "licenseComments": licence_comment,
        "licenseConcluded": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    }
    if purl:
        reference = {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
        element["externalRefs"] = [reference]
    if comment:
        element["comment"] = comment
    return element


def debian_purl(name: str, version: str, arch: str, release: str) -> str:
    return f"pkg:deb/debian/{quote(name)}@{quote(version, safe=':')}?arch={arch}&distro={release}"


def debian_source(source: Source, purpose: str) -> Json:
    name, version = source.name, source.version
    return package(
        spdx_id("deb", name, version), name, version, purpose, licence_of(name),
        supplier="Organization: Debian",
        location=f"https://snapshot.debian.org/package/{quote(name)}/{quote(version)}/",
        purl=debian_purl(name, version, "source", source.release),
        licence_comment=f"of what programs are linked from; more in the image, in /{source.copyright}",
        comment=f"linked from {', '.join(source.archives)}" if source.archives else "",
    )


def crate_package(name: str, version: str, licence: str) -> Json:
    return package(
        spdx_id("crate", name, version), name, version, "LIBRARY", licence,
        location=f"https://crates.io/api/v1/crates/{quote(name)}/{quote(version)}/download",
        purl=f"pkg:cargo/{quote(name)}@{quote(version)}",
        licence_comment=f"in its manifest; the text is in the image, in /{LINKED}/crates",
    )


def add_files(document: Document, owner: str, root: Path, paths: list[Path]) -> None:
    """The files of a package, and the code over them (7.9)."""
    sums = []
    for path in paths:
        content = path.read_bytes()
        sums.append(hashlib.sha1(content).hexdigest())
        name = str(path.relative_to(root))
        identity = spdx_id("file", name)
        document.files[identity] = {
            "SPDXID": identity,
            "fileName": f"./{name}",
            "fileTypes": ["BINARY"],
            "checksums": [
                {"algorithm": "SHA1", "checksumValue": sums[-1]},
                {"algorithm": "SHA256", "checksumValue": hashlib.sha256(content).hexdigest()},
            ],
            "licenseConcluded": "NOASSERTION",
            "copyrightText": "NOASSERTION",
        }
        document.relate(owner, "CONTAINS", identity)
    code = hashlib.sha1("".join(sorted(sums)).encode()).hexdigest()
    document.packages[owner]["filesAnalyzed"] = True
    document.packages[owner]["packageVerificationCode"] = {"packageVerificationCodeValue": code}


def programs(root: Path) -> tuple[list[Path], list[Path]]:
    """The tool, unless the emulators are for BuildKit, and the emulators."""
    tool, emulators = [], []
    for path in sorted((root / "usr/bin").glob("*")):
        if path.name == "binfmt":
            tool.append(path)
        elif path.name.startswith(("qemu-", "buildkit-qemu-")):
            emulators.append(path)
        else:
            fail(f"{path} is neither the tool nor an emulator", "say in sbom.py what it is of")
    for_buildkit = any(path.name.startswith("buildkit-") for path in emulators)
    if not emulators or bool(tool) == for_buildkit:
        fail(f"{root / 'usr/bin'} has not both the tool and emulators", "stage the files of the whole image there")
    return tool, emulators


def add_tool(document: Document, root: Path, version: str, files: list[Path]) -> str:
    tool = document.package(
        package(
            spdx_id("binfmt"), "binfmt", version, "APPLICATION", "MIT",
            licence_comment="the text is in the image, in /usr/share/doc/binfmt/LICENSE",
        )
    )
    add_files(document, tool, root, files)
    for crate in crates(root):
        document.relate(tool, "STATIC_LINK", document.package(crate_package(*crate)))
    for name in ("rust", c_library(root), "gcc"):
        library = document.package(debian_source(tool_source(root, name), "LIBRARY"))
        document.relate(tool, "STATIC_LINK", library)
    return tool


def emulators_package(qemu: Source, name: str, arch: str) -> Json:
    """The emulators, as a package of Debian's or compiled for the image."""
    common = (qemu.version, "APPLICATION", licence_of("qemu"))
    copyright = f"of QEMU; more in the image, in /{qemu.copyright}"
    if name.startswith("none"):
        comment = f"compiled for this image from Debian's source, with the changes in /{EMULATORS}/tuned"
        return package(spdx_id("emulators"), "qemu-user", *common, licence_comment=copyright, comment=comment)
    return package(
        spdx_id("emulators"), name, *common,
        supplier="Organization: Debian",
        purl=debian_purl(name, qemu.version, arch, qemu.release),
        licence_comment=copyright,
        comment="the emulators of Debian's package, unchanged",
    )


def add_emulators(document: Document, root: Path, arch: str, files: list[Path]) -> str:
    text = read(root, f"{EMULATORS}/SHA256SUMS", "emulators.sh")
    path = str(root / EMULATORS / "SHA256SUMS")
    debian = DEBIAN[arch]
    if one(text, "architecture", path) != debian:
        fail(f"{path} is of {one(text, 'architecture', path)}, and not of {debian}", "check --arch")
    qemu, libraries = emulators_sources(text, path)
    emulators = document.package(emulators_package(qemu, one(text, "package", path), debian))
    add_files(document, emulators, root, files)
    document.relate(emulators, "GENERATED_FROM", document.package(debian_source(qemu, "SOURCE")))
    for library in libraries:
        document.relate(emulators, "STATIC_LINK", document.package(debian_source(library, "LIBRARY")))
    return emulators


# --- the document


def terms(expression: str) -> list[str]:
    """What an expression demands all of."""
    if " OR " in re.sub(r"\(.*?\)", "", expression):
        return [f"({expression})"]
    return re.split(r" AND (?![^(]*\))", expression)


def of_all(document: Document) -> str:
    """The licence of the image: that of each part."""
    parts = (terms(element["licenseDeclared"]) for element in document.packages.values())
    return " AND ".join(sorted({term for part in parts for term in part}))


def describe(arguments: argparse.Namespace) -> Document:
    document = Document()
    root: Path = arguments.root
    tool_files, emulator_files = programs(root)
    # the emulators first: of a library that both have, theirs says from which archives
    emulators = add_emulators(document, root, arguments.arch, emulator_files)
    parts = [add_tool(document, root, arguments.version, tool_files)] if tool_files else []
    image = package(
        spdx_id("image"), arguments.name, arguments.version, "CONTAINER", of_all(document),
        licence_comment="of all that it is made of",
        comment=f"the container image for linux/{arguments.arch}",
    )
    document.relate("SPDXRef-DOCUMENT", "DESCRIBES", document.package(image))
    document.relate(image["SPDXID"], "CONTAINS", *parts, emulators)
    return document


def spdx(document: Document, name: str, version: str, created: datetime) -> Json:
    content: Json = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "creationInfo": {
            "created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": [f"Tool: sbom.py-{version}"],
        },
        "packages": [element for _, element in sorted(document.packages.items())],
        "files": [element for _, element in sorted(document.files.items())],
        "hasExtractedLicensingInfos": [
            {"licenseId": SOFTFLOAT, "name": "SoftFloat, release 2a", "extractedText": SOFTFLOAT_TEXT}
        ],
        "relationships": [
            {"spdxElementId": element, "relationshipType": relationship, "relatedSpdxElement": other}
            for element, relationship, other in sorted(document.relationships)
        ],
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return content | {"documentNamespace": uuid.uuid5(uuid.NAMESPACE_OID, digest).urn}


def filled(value: str) -> str:
    if not value:
        raise argparse.ArgumentTypeError("it is empty")
    return value


def seconds(value: str) -> datetime:
    try:
        return datetime.fromtimestamp(int(value), timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(f"{value} is not a number of seconds since 1970") from None


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Writes the SPDX document of an image.", allow_abbrev=False)
    parser.add_argument("--root", required=True, type=Path, metavar="DIR", help="the image's files")
    parser.add_argument("--name", required=True, type=filled, help="what the image is called")
    parser.add_argument("--version", required=True, type=filled, help="its version, and the tool's")
    parser.add_argument("--arch", required=True, choices=DEBIAN, help="the machine that it is for, in Docker's words")
    parser.add_argument("--created", required=True, type=seconds, metavar="SECONDS", help="since 1970")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    name = f"{arguments.name}-{arguments.version}-{arguments.arch}"
    content = spdx(describe(arguments), name, arguments.version, arguments.created)
    print(json.dumps(content, indent=2, sort_keys=True))


if __name__ == "__main__":
    main()
